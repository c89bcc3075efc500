"""The blocking calls behind the verbs. Each runs in a thread; finding something already done is fine."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from docker import APIClient
from docker.errors import APIError, ImageNotFound, NotFound

from agent.adapters.docker.translate import Document
from agent.model.errors import CannotMakeVolume
from agent.ports.clock import Clock

Answer = tuple[Document, datetime]
"""An inspect answer and when it was asked for."""

BAD_REQUEST = 400
CONFLICT = 409


class NoImage(Exception):
    """A container could not be created because its image is not there. Does not leave this package."""


@dataclass(frozen=True, slots=True)
class DaemonVersions:
    """The daemon's own version, and the newest and oldest API it speaks. Empty: it does not say."""

    server: str
    api: str
    least_api: str


def versions(client: APIClient) -> DaemonVersions:
    """What the daemon says of itself."""
    told: dict[str, Any] = client.version()
    return DaemonVersions(
        server=str(told.get("Version") or ""),
        api=str(told.get("ApiVersion") or ""),
        least_api=str(told.get("MinAPIVersion") or ""),
    )


def create(client: APIClient, name: str, document: Document, clock: Clock) -> Answer | None:
    """Create; None when it was made now, the answer about the one that has the name if there is one."""
    try:
        client.create_container_from_config(document, name)  # type: ignore[no-untyped-call]
    except ImageNotFound as error:
        raise NoImage(str(error.explanation)) from error
    except APIError as error:
        if error.status_code != CONFLICT:
            raise
        found = inspect(client, name, clock)
        if found is None:  # it is on its way out, and the name with it
            raise
        return found
    return None


def start(client: APIClient, name: str, clock: Clock, *, is_fresh: bool) -> Answer:
    """Start and look. What is not ``is_fresh`` is looked at first: if it ever ran, it is not run again."""
    if not is_fresh:
        answer = client.inspect_container(name), clock.now()
        if answer[0]["State"]["Running"] or not answer[0]["State"]["StartedAt"].startswith("0001-"):
            return answer
    client.start(name)
    asked_at = clock.now()
    return client.inspect_container(name), asked_at


def stop(client: APIClient, name: str, seconds: int, clock: Clock) -> Answer | None:
    """Stop and look; None if it does not exist."""
    try:
        client.stop(name, timeout=seconds)
    except NotFound:
        return None
    return inspect(client, name, clock)


def inspect(client: APIClient, name: str, clock: Clock) -> Answer | None:
    """Look; None if it does not exist."""
    asked_at = clock.now()
    try:
        return client.inspect_container(name), asked_at
    except NotFound:
        return None


def inspect_all(client: APIClient, labels: list[str], clock: Clock) -> list[Answer]:
    """Look at every container that has all the labels."""
    listed = client.containers(all=True, filters={"label": labels})
    answers = (inspect(client, each["Id"], clock) for each in listed)
    return [each for each in answers if each is not None]


def remove(client: APIClient, name: str) -> None:
    """Remove a container with its unnamed volumes; fine if it does not exist."""
    try:
        client.remove_container(name, v=True)
    except NotFound:
        return


def inspect_image(client: APIClient, image: str) -> Document | None:
    """Look at an image; None if it is not there, which is also true of a name that no image can have."""
    try:
        return dict(client.inspect_image(image))  # type: ignore[no-untyped-call]
    except NotFound:
        return None
    except APIError as error:
        if error.status_code == BAD_REQUEST:
            return None
        raise


def create_volume(client: APIClient, name: str, labels: Mapping[str, str]) -> None:
    """Make a volume, or find it made. Raise ``CannotMakeVolume`` if the name is somebody else's."""
    made: Mapping[str, Any] = client.create_volume(name, driver="local", labels=dict(labels))
    found = made.get("Labels") or {}
    strange = {key: found.get(key) for key, value in labels.items() if found.get(key) != value}
    if strange:
        raise CannotMakeVolume(f"volume {name} exists with labels {strange}, expected {dict(labels)}")


def remove_volume(client: APIClient, name: str) -> None:
    """Remove a volume; fine if it does not exist."""
    try:
        client.remove_volume(name)
    except NotFound:
        return
