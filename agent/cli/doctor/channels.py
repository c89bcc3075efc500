"""Where a machine's channels to Amazon ECS are: asked of its API, only with keys that are at hand."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.adapters.ecs.endpoint import tls_context
from agent.cli.doctor.asking import LIMIT
from agent.settings import Settings

_TARGET = "AmazonEC2ContainerServiceV20141113.DiscoverPollEndpoint"


def channel_urls(api: str, settings: Settings, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Those of tasks and of telemetry (ecs-protocol 2.1); none without keys. Raise ``OSError`` if refused.

    Keys of the environment and of the shared files count; the instance metadata service is never asked.
    """
    # imported here: it takes longer than all other checks
    from botocore.auth import SigV4Auth  # noqa: PLC0415
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415

    try:
        keys = _keys(environ)
    except BotoCoreError as error:
        raise OSError(f"the keys cannot be read: {error}") from error
    if keys is None or not settings.region:
        return ()
    body = json.dumps({"cluster": settings.cluster} if settings.cluster else {}).encode()
    request = AWSRequest(
        method="POST",
        url=f"{api}/",
        data=body,
        headers={"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": _TARGET},
    )
    SigV4Auth(keys, "ecs", settings.region).add_auth(request)
    document = _answer(f"{api}/", body, dict(request.headers.items()), verify=settings.tls_verify)
    found = (document.get("endpoint"), document.get("telemetryEndpoint"))
    return tuple(
        each.rstrip("/")
        for each in found
        if isinstance(each, str) and each.startswith(("https://", "http://"))
    )


def _answer(url: str, body: bytes, headers: Mapping[str, str], *, verify: bool) -> dict[str, Any]:
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler(), urllib.request.HTTPSHandler(context=tls_context(verify))
    )
    asked = urllib.request.Request(url, data=body, headers=dict(headers))  # noqa: S310 - endpoint_url made it
    try:
        with opener.open(asked, timeout=LIMIT) as answer:
            document = json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            said = error.read(400).decode(errors="replace")
        raise OSError(f"{error.code} {said}") from error
    except ValueError as error:
        raise OSError(f"the answer is no JSON: {error}") from error
    return document if isinstance(document, dict) else {}


def _keys(environ: Mapping[str, str]) -> Any:
    from botocore.credentials import EnvProvider, SharedCredentialProvider  # noqa: PLC0415

    file = environ.get("AWS_SHARED_CREDENTIALS_FILE") or str(Path("~/.aws/credentials").expanduser())
    profile = environ.get("AWS_PROFILE") or "default"
    of_environment = EnvProvider(environ=dict(environ)).load() if environ.get("AWS_ACCESS_KEY_ID") else None
    return of_environment or SharedCredentialProvider(file, profile).load()
