"""Where the Amazon ECS API is, how it is trusted, and as whom the agent presents itself."""

import re
import ssl
from urllib.parse import urlsplit

from agent.model.errors import BadSettings

_EXPECTED = "a host, with a port or not, and with https:// or http:// before it or not"


def endpoint_url(backend_host: str | None, region: str) -> str:
    """Scheme and host of the API: ``ECS_BACKEND_HOST`` if given, else the region's own (ecs-protocol 1.1).

    A host without a scheme gets ``https://``. Which regions there are, and under which domain, is botocore's
    data; reads a file, so call it at start only. Raise ``BadSettings``.
    """
    if backend_host:
        url = backend_host if "://" in backend_host else f"https://{backend_host}"
        if not _is_origin(url):
            raise BadSettings((f"ECS_BACKEND_HOST: {backend_host!r} is not usable; expected {_EXPECTED}",))
        return url.rstrip("/")
    return f"https://ecs.{region}.{_domain(region)}"


def tls_context(verify: bool) -> ssl.SSLContext:
    """TLS 1.2 or newer with the machine's certificates.

    ``verify`` False: anybody is believed, for tests only.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def user_agent(version: str, git_hash: str, os: str) -> str:
    """The ``User-Agent`` of every call (ecs-protocol 1.1).

    ``os``: the detailed family, such as ``debian_12``.
    """
    return f"Amazon ECS Agent - v{version} (*{git_hash}) (linux; {os}) (+http://aws.amazon.com/ecs/)"


def _is_origin(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https")
        and bool(parts.hostname)
        and port != 0
        and parts.username is None
        and parts.path in ("", "/")
        and not (parts.query or parts.fragment)
        and not re.search(r"[\s\\]", url)
    )


def _domain(region: str) -> str:
    # imported here: a local backend has no use for it
    from botocore.loaders import Loader  # noqa: PLC0415

    for partition in Loader().load_data("partitions")["partitions"]:
        # The pattern knows regions that are newer than the list.
        if region in partition["regions"] or re.fullmatch(partition["regionRegex"].strip("^$"), region):
            return str(partition["outputs"]["dnsSuffix"])
    raise BadSettings(
        (f"AWS_DEFAULT_REGION: {region!r} is no region of AWS; expected one such as us-east-1",)
    )
