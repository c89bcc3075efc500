"""What an image answer says, and what a failed pull means. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from docker.utils import parse_repository_tag

from agent.model.observation import PulledImage


class Refusal(Enum):
    """Why a pull failed, as far as trying again is concerned."""

    AUTHENTICATION = "authentication"
    MISSING = "missing"
    NETWORK = "network"
    INVALID = "invalid"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Reference:
    """An image reference in two parts. ``tag`` may be a digest; ``latest`` where there is none."""

    repository: str
    tag: str

    @classmethod
    def of(cls, image: str) -> "Reference":
        """Take a reference apart. Without a tag Docker would pull all there are."""
        repository, tag = parse_repository_tag(image)
        return cls(repository, tag or "latest")


def pulled_image(image: str, inspected: Mapping[str, Any]) -> PulledImage:
    """An image's inspect answer in our words, with the digest under which this reference was pulled."""
    reference = Reference.of(image)
    if reference.tag.startswith("sha256:"):
        return PulledImage(inspected["Id"], reference.tag)
    wanted = _canonical(reference.repository)
    for entry in inspected.get("RepoDigests") or ():
        repository, _, digest = entry.partition("@")
        if _canonical(repository) == wanted:
            return PulledImage(inspected["Id"], digest)
    return PulledImage(inspected["Id"])


def environment_names(inspected: Mapping[str, Any]) -> frozenset[str]:
    """The names of the variables that an image sets."""
    entries = (inspected.get("Config") or {}).get("Env") or ()
    return frozenset(entry.partition("=")[0] for entry in entries)


def failure_in(message: Mapping[str, Any]) -> str | None:
    """The error in one message of a pull's progress, if it is one: the answer's status is 200 even so."""
    detail = message.get("errorDetail")
    if isinstance(detail, Mapping) and detail.get("message"):
        return str(detail["message"])
    return str(message["error"]) if message.get("error") else None


def classify(text: str, status: int | None) -> Refusal:
    """What kind of failure Docker's words, and the status of its answer, describe."""
    lower = text.lower()
    # Registries answer "denied" also for what does not exist, as long as one has not logged in.
    if any(each in lower for each in _AUTHENTICATION):
        return Refusal.AUTHENTICATION
    if "invalid reference format" in lower:
        return Refusal.INVALID
    if any(each in lower for each in _NETWORK):
        return Refusal.NETWORK
    if status == _NOT_FOUND or any(each in lower for each in _MISSING):
        return Refusal.MISSING
    return Refusal.OTHER


def explain(image: str, text: str, kind: Refusal) -> str:
    """The sentence for the customer: what to check, then what Docker said, without secrets in it."""
    said = f"{image}: {redacted(image, text)}"
    hint = _HINTS.get(kind)
    return f"{hint} {said}" if hint else said


def redacted(image: str, text: str) -> str:
    """The text without pre-signed addresses, which are as good as credentials."""
    return _PRESIGNED.sub(f"REDACTED ECR URL related to {image}", text)


_NOT_FOUND = 404
_AUTHENTICATION = (
    "no basic auth credentials",
    "unauthorized",
    "authentication required",
    "access denied",
    "access to the resource is denied",
    "denied:",
    "incorrect username or password",
)
_NETWORK = (
    "no such host",
    "i/o timeout",
    "connection refused",
    "network is unreachable",
    "tls handshake timeout",
    "request canceled while waiting for connection",
    "server misbehaving",
    "temporary failure in name resolution",
)
_MISSING = ("manifest unknown", "not found", "does not exist", "repository name not known")
_HINTS = {
    Refusal.AUTHENTICATION: "The registry does not let the task pull the image; check the login it uses.",
    Refusal.MISSING: "The image does not exist in the registry; check its name and tag.",
    Refusal.INVALID: "The image's name is not a valid reference; expected registry/repository:tag.",
    Refusal.NETWORK: "The registry cannot be reached; check this machine's network, name servers and proxy.",
}
_PRESIGNED = re.compile(r"https?://[^\s\"']*X-Amz-[^\s\"']*")
_DOCKER_HUB = re.compile(r"^(?:index\.)?docker\.io/(?:library/)?")


def _canonical(repository: str) -> str:
    return _DOCKER_HUB.sub("", repository).removeprefix("library/")
