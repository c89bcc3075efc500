"""Which registry an image's name points to. Pure."""

import re
from dataclasses import dataclass

DOCKER_HUB = "docker.io"
"""The host of names without a host."""

_HUB_NAMES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})
_ECR = re.compile(r"(\d{12})\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|on\.aws)/")
_VERSION = re.compile(r"/v[12]$")


@dataclass(frozen=True, slots=True)
class EcrRegistry:
    """The registry of one account in one region. ``endpoint``: where to ask for logins, if not as usual."""

    account: str
    region: str
    endpoint: str = ""


def ecr_registry(image: str) -> EcrRegistry | None:
    """Which ECR registry an image name points to; None if to none."""
    found = _ECR.match(image)
    return EcrRegistry(found[1], found[2]) if found else None


def repository(image: str) -> str:
    """Host and path of an image without tag and digest: ``web:7`` is ``docker.io/library/web``."""
    name = image.partition("@")[0]
    head, slash, path = name.partition("/")
    # Docker's own rule: what has no dot, no colon and is not localhost is no host.
    if not slash or not (set(head) & {".", ":"} or head == "localhost"):
        head, path = DOCKER_HUB, name
    path = path.partition(":")[0]
    host = _canonical_host(head)
    if host == DOCKER_HUB and "/" not in path:
        path = f"library/{path}"
    return f"{host}/{path}"


def registry_prefix(written: str) -> str:
    """A registry as Docker's files write it (``https://index.docker.io/v1/``), in ``repository``'s form."""
    bare = re.sub(r"^https?://", "", written.strip(), flags=re.IGNORECASE).rstrip("/")
    bare = _VERSION.sub("", bare)
    host, slash, path = bare.partition("/")
    return f"{_canonical_host(host)}{slash}{path}"


def is_within(name: str, prefix: str) -> bool:
    """Whether a repository lies in a registry, or below a path of it."""
    return name == prefix or name.startswith(f"{prefix}/")


def _canonical_host(host: str) -> str:
    lower = host.lower()
    return DOCKER_HUB if lower in _HUB_NAMES else lower
