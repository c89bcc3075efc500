"""What RunTask may change of a definition: checked, and applied."""

from collections.abc import Iterator

from agent.adapters.local.definitions.checks import role_problems, size_problems
from agent.adapters.local.definitions.quantities import cpu_units, memory_mib
from agent.adapters.local.errors import InvalidParameter
from agent.adapters.local.records import Document

_REFUSED_HERE = ("inferenceAcceleratorOverrides", "ephemeralStorage")
_REFUSED_IN_CONTAINER = ("environmentFiles", "resourceRequirements")
_LEAST_MEMORY = 6


def checked(overrides: Document, definition: Document) -> Document:
    """The overrides as describe-tasks shows them, sizes in plain units.

    Raise ``InvalidParameter`` that lists everything that is wrong.
    """
    found = list(_problems(overrides, definition))
    if found:
        raise InvalidParameter("; ".join(found))
    shown = {"containerOverrides": [], "inferenceAcceleratorOverrides": [], **overrides}
    if "cpu" in overrides:
        shown["cpu"] = str(cpu_units(overrides["cpu"]))
    if "memory" in overrides:
        shown["memory"] = str(memory_mib(overrides["memory"]))
    return shown


def applied(definition: Document, overrides: Document) -> Document:
    """The definition with the overrides in it."""
    by_name = {one["name"]: one for one in overrides.get("containerOverrides", [])}
    changed = dict(definition)
    for field in ("cpu", "memory", "taskRoleArn", "executionRoleArn"):
        if overrides.get(field):
            changed[field] = overrides[field]
    changed["containerDefinitions"] = [
        _container(one, by_name.get(one["name"], {})) for one in definition["containerDefinitions"]
    ]
    return changed


def _container(container: Document, override: Document) -> Document:
    if not override:
        return container
    changed = dict(container)
    for field in ("command", "cpu", "memory", "memoryReservation"):
        if field in override:
            changed[field] = override[field]
    if "environment" in override:
        merged = {one["name"]: one.get("value", "") for one in container.get("environment", [])}
        merged |= {one["name"]: one.get("value", "") for one in override["environment"]}
        changed["environment"] = [{"name": name, "value": value} for name, value in merged.items()]
    return changed


def _problems(overrides: Document, definition: Document) -> Iterator[str]:
    for field in _REFUSED_HERE:
        if overrides.get(field):
            yield f"overrides.{field}: not supported"
    yield from size_problems("overrides.", overrides)
    for field in ("taskRoleArn", "executionRoleArn"):
        yield from role_problems(f"overrides.{field}", overrides.get(field))
    names = [one["name"] for one in definition["containerDefinitions"]]
    seen: set[str] = set()
    for position, override in enumerate(overrides.get("containerOverrides", [])):
        where = f"overrides.containerOverrides[{position}]."
        name = override.get("name", "")
        if name not in names:
            yield (
                f"{where}name {name!r}: Override for container named {name} is not a container in the "
                f"TaskDefinition; expected one of {', '.join(names)}"
            )
        if name in seen:
            yield f"{where}name {name!r}: expected every container once"
        seen.add(name)
        for field in _REFUSED_IN_CONTAINER:
            if override.get(field):
                yield f"{where}{field}: not supported"
        yield from _container_problems(where, override)


def _container_problems(where: str, override: Document) -> Iterator[str]:
    for variable in override.get("environment", []):
        if not variable.get("name") or "=" in variable["name"]:
            yield f"{where}environment name {variable.get('name')!r}: expected a name without '='"
    for field, least in (("cpu", 0), ("memory", _LEAST_MEMORY), ("memoryReservation", _LEAST_MEMORY)):
        if override.get(field) is not None and override[field] < least:
            yield f"{where}{field} {override[field]}: expected at least {least}"
