"""Variables that libraries read from the process's environment, and what is handed to them from our files."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

METADATA_ENDPOINT = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
METADATA_DISABLED = "AWS_EC2_METADATA_DISABLED"
NEVER_BY_PROXY = ("169.254.169.254", "169.254.170.2")
"""Addresses that only this machine can reach (ecs-protocol 2.1)."""


@dataclass(frozen=True, slots=True)
class ForLibrary:
    """A variable that we do not read ourselves. ``unit``: those that mean something from one place only."""

    name: str
    reader: str
    is_secret: bool = False
    unit: tuple[str, ...] = ()


_SDK = "the AWS SDK"
_PROXY = "the HTTP clients"
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")

FOR_LIBRARIES: tuple[ForLibrary, ...] = (
    # a token of one pair beside the keys of another would break every signature
    *(ForLibrary(name, _SDK, is_secret=True, unit=_KEYS) for name in _KEYS),
    ForLibrary("AWS_PROFILE", _SDK),
    ForLibrary("AWS_CONFIG_FILE", _SDK),
    ForLibrary("AWS_SHARED_CREDENTIALS_FILE", _SDK),
    ForLibrary("HTTP_PROXY", _PROXY, is_secret=True, unit=("HTTP_PROXY", "http_proxy")),
    ForLibrary("HTTPS_PROXY", _PROXY, is_secret=True, unit=("HTTPS_PROXY", "https_proxy")),
    ForLibrary("NO_PROXY", _PROXY, unit=("NO_PROXY", "no_proxy")),
)
"""They act in the environment, and from the env file and the JSON file, which are handed on."""


def handed_on(
    from_files: Mapping[str, str],
    environ: Mapping[str, str],
    *,
    docker_host: str,
    metadata_endpoint: str | None,
    is_metadata_disabled: bool,
) -> dict[str, str]:
    """What to add to the environment, so that libraries find it. What stands there with a value is left.

    ``from_files``: variables of ``FOR_LIBRARIES`` that stand in files. With a proxy and no word about what to
    ask without it, addresses that no proxy can reach are left out of it.
    """
    given = {name: text for name, text in from_files.items() if not environ.get(name)}
    if metadata_endpoint is not None and not environ.get(METADATA_ENDPOINT):
        given[METADATA_ENDPOINT] = metadata_endpoint
    if is_metadata_disabled and not environ.get(METADATA_DISABLED):
        given[METADATA_DISABLED] = "true"
    known = {**environ, **given}
    has_proxy = any(known.get(name) for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"))
    if has_proxy and not known.get("NO_PROXY") and not known.get("no_proxy"):
        hosts = [*NEVER_BY_PROXY, docker_host.split("://", 1)[-1]]
        if metadata_endpoint is not None:
            hosts.append(urlsplit(metadata_endpoint).hostname or "")
        # an empty name in small letters hides the other one from Python
        given["no_proxy" if "no_proxy" in environ else "NO_PROXY"] = ",".join(
            dict.fromkeys(filter(None, hosts))
        )
    return given
