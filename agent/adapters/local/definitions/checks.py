"""Whether a task definition makes sense. All problems at once; each names field, value and expectation."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from agent.adapters.local.definitions.container_checks import container_problems
from agent.adapters.local.definitions.quantities import cpu_units, memory_mib
from agent.adapters.local.identity import FAMILY
from agent.adapters.local.records import Document

_VOLUME_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,576}|[\w+=,.@-]{1,64}")
_SECRET = re.compile(r"arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:\S{1,519}|[\w/+=.@-]{1,512}")
_MOST_CONTAINERS = 10


def problems(definition: Document) -> Iterator[str]:
    """One sentence for each thing that is wrong."""
    family = definition["family"]
    if not FAMILY.fullmatch(family):
        yield f"family {family!r}: expected 1 to 255 letters, digits, hyphens and underscores"
    for field in ("taskRoleArn", "executionRoleArn"):
        yield from role_problems(field, definition.get(field))
    yield from size_problems("", definition)
    yield from _volume_problems(definition.get("volumes", []))
    containers: list[Document] = definition["containerDefinitions"]
    if not 1 <= len(containers) <= _MOST_CONTAINERS:
        yield f"containerDefinitions: {len(containers)} containers, expected 1 to {_MOST_CONTAINERS}"
    volumes = {volume.get("name") for volume in definition.get("volumes", [])}
    for position, container in enumerate(containers):
        yield from container_problems(f"containerDefinitions[{position}].", container, volumes)
    yield from _login_problems(containers, definition.get("executionRoleArn"))
    yield from _together(containers)
    yield from _memory_problems(containers, definition)
    yield from _dependency_problems(containers)


def role_problems(where: str, role: str | None) -> Iterator[str]:
    """What is wrong with a role's name or ARN, if anything."""
    if role and not _ROLE.fullmatch(role):
        yield f"{where} {role!r}: expected a role's name or ARN, such as arn:aws:iam::111122223333:role/name"


def size_problems(where: str, sizes: Document) -> Iterator[str]:
    """What is wrong with a task's ``cpu`` and ``memory`` texts."""
    for field, read in (("cpu", cpu_units), ("memory", memory_mib)):
        value = sizes.get(field)
        if value is not None:
            try:
                read(value)
            except ValueError as problem:
                yield f"{where}{field} {value!r}: {problem}"


def _volume_problems(volumes: list[Document]) -> Iterator[str]:
    for position, volume in enumerate(volumes):
        name = volume.get("name", "")
        if not _VOLUME_NAME.fullmatch(name):
            yield (
                f"volumes[{position}].name {name!r}: "
                "expected 1 to 255 letters, digits, hyphens and underscores"
            )
        source = volume.get("host", {}).get("sourcePath")
        if source and not source.startswith("/"):
            yield f"volumes[{position}].host.sourcePath {source!r}: expected an absolute path"
    for name in _repeated(volume.get("name") for volume in volumes):
        yield f"volumes.name {name!r}: expected every name once"


def _login_problems(containers: list[Document], execution_role: str | None) -> Iterator[str]:
    for position, container in enumerate(containers):
        credentials = container.get("repositoryCredentials")
        if not credentials:
            continue
        field = f"containerDefinitions[{position}].repositoryCredentials"
        secret = credentials.get("credentialsParameter", "")
        if not _SECRET.fullmatch(secret):
            yield (
                f"{field}.credentialsParameter {secret!r}: expected the name or the ARN of a secret, such as "
                "arn:aws:secretsmanager:us-east-1:111122223333:secret:name"
            )
        if not execution_role:
            yield f"{field}: expected executionRoleArn beside it, the secret is read with that role"


def _together(containers: list[Document]) -> Iterator[str]:
    for name in _repeated(container.get("name") for container in containers):
        yield f"containerDefinitions.name {name!r}: expected every name once"
    if containers and not any(container.get("essential", True) for container in containers):
        yield "containerDefinitions.essential: no container is essential, expected at least one"
    ports = [
        f"{port['containerPort']}/{port.get('protocol', 'tcp')}"
        for container in containers
        for port in container.get("portMappings", [])
        if "containerPort" in port
    ]
    for port in _repeated(ports):
        yield f"portMappings {port!r}: expected every port once, the containers of a task share its addresses"
    names = [
        port["name"]
        for container in containers
        for port in container.get("portMappings", [])
        if port.get("name")
    ]
    for name in _repeated(names):
        yield f"portMappings.name {name!r}: expected every name once"


def _memory_problems(containers: list[Document], definition: Document) -> Iterator[str]:
    task = _or_none(memory_mib, definition.get("memory"))
    for position, container in enumerate(containers):
        where = f"containerDefinitions[{position}]."
        hard, soft = container.get("memory"), container.get("memoryReservation")
        if definition.get("memory") is None and hard is None and soft is None:
            yield (
                f"{where}memory is missing: "
                "expected memory or memoryReservation here, or memory of the whole task"
            )
        if hard is not None and soft is not None and soft > hard:
            yield f"{where}memoryReservation {soft}: expected at most memory {hard}"
        for field, amount in (("memory", hard), ("memoryReservation", soft)):
            if task is not None and amount is not None and amount > task:
                yield f"{where}{field} {amount}: expected at most the task's memory {task}"
    reserved = sum(container.get("memoryReservation") or 0 for container in containers)
    if task is not None and reserved > task:
        yield (
            f"containerDefinitions.memoryReservation: together {reserved}, "
            f"expected at most the task's memory {task}"
        )
    cpu = _or_none(cpu_units, definition.get("cpu"))
    shares = sum(container.get("cpu") or 0 for container in containers)
    if cpu is not None and shares > cpu:
        yield f"containerDefinitions.cpu: together {shares}, expected at most the task's cpu {cpu}"


def _dependency_problems(containers: list[Document]) -> Iterator[str]:
    known = {container["name"]: container for container in containers if "name" in container}
    edges: dict[str, list[str]] = {}
    for position, container in enumerate(containers):
        for number, dependency in enumerate(container.get("dependsOn", [])):
            where = f"containerDefinitions[{position}].dependsOn[{number}]"
            wanted, condition = dependency["containerName"], dependency["condition"]
            yield from _one_dependency(where, wanted, condition, container.get("name"), known)
            edges.setdefault(container.get("name", ""), []).append(wanted)
    circle = _circle(edges)
    if circle:
        yield f"containerDefinitions.dependsOn: {' -> '.join(circle)} is a circle; expected an order"


def _one_dependency(
    where: str, wanted: str, condition: str, owner: str | None, known: dict[str, Document]
) -> Iterator[str]:
    if condition not in {"START", "COMPLETE", "SUCCESS", "HEALTHY"}:
        yield f"{where}.condition {condition!r}: expected START, COMPLETE, SUCCESS or HEALTHY"
    other = known.get(wanted)
    if wanted == owner:
        yield f"{where}.containerName {wanted!r}: expected another container, not itself"
    elif other is None:
        yield f"{where}.containerName {wanted!r}: expected one of {', '.join(sorted(known))}"
    elif condition == "HEALTHY" and not other.get("healthCheck"):
        yield f"{where}.condition 'HEALTHY': expected container {wanted!r} to have a healthCheck"
    elif condition in {"COMPLETE", "SUCCESS"} and other.get("essential", True):
        yield (
            f"{where}.condition {condition!r}: expected container {wanted!r} not to be essential, "
            "its exit would end the task"
        )


def _circle(edges: dict[str, list[str]]) -> list[str]:
    """A chain that comes back to its first name, or nothing. Waiting for itself is told elsewhere."""
    done: set[str] = set()

    def follow(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for wanted in edges.get(name, []):
            found = follow(wanted, [*path, name]) if wanted != name else []
            if found:
                return found
        done.add(name)
        return []

    for name in edges:
        found = follow(name, [])
        if found:
            return found
    return []


def _repeated(names: Iterable[str | None]) -> list[str]:
    counted = Counter(name for name in names if name)
    return [name for name, count in counted.items() if count > 1]


def _or_none(read: Callable[[str], int], text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return read(text)
    except ValueError:
        return None  # told by size_problems
