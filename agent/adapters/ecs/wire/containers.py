"""One container of a task payload to the ``ContainerSpec`` that the agent runs (ecs-protocol 2.4). Pure."""

import json
from collections.abc import Mapping
from typing import Any

from agent.adapters.ecs.wire.fields import LONGEST_SHOWN, BadField, Fields
from agent.model.errors import AgentError
from agent.model.observation import PAUSE_NAME
from agent.model.spec import (
    Condition,
    ContainerSpec,
    Dependency,
    DockerOverlay,
    HealthCheck,
    LoginSource,
    MountPoint,
    PortMapping,
    RegistryAuthentication,
)

NO_HEALTH_CHECK = (
    "DockerClientConfigError: docker health check is nil while container health check type is DOCKER"
)

_DOCKERS_TIMEOUT = 30
"""Seconds; longer than that of a task definition."""

_NANOSECONDS = 1_000_000_000
_LONGEST_NANOSECONDS = 2**63 - 1
_HIGHEST_PORT = 65_535
_PROTOCOLS = ("tcp", "udp")

# What each of these would need is not here, and a container without it is not the one that was ordered.
_REFUSED = {
    "links": "container links, which do not exist in network mode awsvpc",
    "volumesFrom": "volumes of other containers (volumesFrom)",
    "environmentFiles": "environment files",
    "secrets": "secrets of Secrets Manager or of the Parameter Store",
    "firelensConfiguration": "log routers (FireLens)",
    "managedAgents": "managed agents (ECS Exec)",
    "credentialSpecs": "credential specs (gMSA)",
}


class Unsupported(AgentError):
    """The payload asks for something that this agent does not do. The text names it."""


class Contradiction(AgentError):
    """The payload is readable, but it cannot be run. The text is ECS's own, with the name of the error."""


def read_container(fields: Fields) -> ContainerSpec:
    """One entry of ``containers``. Raise ``BadField``, ``Unsupported`` or ``Contradiction``."""
    name = fields.needed_text("name")
    if name == PAUSE_NAME:
        raise BadField(fields.at("name"), "a name other than the agent's own pause container", name)
    _refuse_unsupported(fields)
    docker = fields.object("dockerConfig") or Fields({}, fields.at("dockerConfig"))
    config, host_config = docker.embedded("config"), docker.embedded("hostConfig")
    health_check = None if config is None else _health_check(config)
    if _needs_health_check(fields) and (
        config is None or docker_value(config.document, "Healthcheck") is None
    ):
        raise Contradiction(NO_HEALTH_CHECK)
    return ContainerSpec(
        name=name,
        image=fields.needed_text("image"),
        # What is not said is false on this wire, unlike in a task definition.
        essential=fields.flag("essential"),
        cpu=fields.whole("cpu") or 0,
        memory=fields.whole("memory") or None,
        command=_command(fields),
        entry_point=fields.texts("entryPoint") or None,
        environment=tuple(fields.text_map("environment").items()),
        depends_on=tuple(_dependency(each) for each in fields.objects("dependsOn")),
        start_timeout=fields.whole("startTimeout") or None,
        stop_timeout=fields.whole("stopTimeout") or None,
        health_check=health_check,
        port_mappings=tuple(_port(each) for each in fields.objects("portMappings")),
        mount_points=tuple(_mount_point(each) for each in fields.objects("mountPoints")),
        arn=fields.text("containerArn"),
        registry=_registry(fields.object("registryAuthentication")),
        overlay=DockerOverlay(_text(config), _text(host_config)),
    )


def docker_value(document: Mapping[str, Any], name: str) -> Any:
    """The value of a key as Docker finds it: in any case, the last one that is there."""
    found = None
    for key, value in document.items():
        if value is not None and key.casefold() == name.casefold():
            found = value
    return found


def overlaid(overlay: DockerOverlay, **host_config: str) -> DockerOverlay:
    """The overlay with more keys of the host configuration, which win over what it has."""
    document = json.loads(overlay.host_config or "{}")
    return DockerOverlay(overlay.config, json.dumps({**document, **host_config}, separators=(",", ":")))


def _refuse_unsupported(fields: Fields) -> None:
    name = fields.text("name")
    for key, what in _REFUSED.items():
        if fields.is_set(key):
            raise Unsupported(f"container {name} asks for {what}; this agent does not support that")
    policy = fields.object("restartPolicy")
    if policy is not None and policy.flag("enabled"):
        raise Unsupported(
            f"container {name} asks for restarts in place (restartPolicy); this agent does not support that"
        )
    strategy = fields.text("logsAuthStrategy")
    if strategy:
        raise Unsupported(
            f"container {name} asks for logsAuthStrategy {strategy}; this agent does not support it"
        )


def _needs_health_check(fields: Fields) -> bool:
    value = fields.text("healthCheckType")
    if value.upper() not in ("", "DOCKER"):
        raise BadField(fields.at("healthCheckType"), "docker", value)
    return bool(value)


def _command(fields: Fields) -> tuple[str, ...] | None:
    overrides = fields.embedded("overrides")
    if overrides is not None:
        unknown = sorted(key for key in overrides.document if key != "command")
        if unknown:
            raise Unsupported(
                f"{overrides.path} has {unknown[0][:LONGEST_SHOWN]!r}; only command can be overridden"
            )
        if overrides.get("command") is not None:
            return overrides.texts("command") or None
    # An empty list means the same as none: the image's own.
    return fields.texts("command") or None


def _dependency(fields: Fields) -> Dependency:
    value = fields.needed_text("condition")
    if value not in tuple(Condition):
        raise BadField(fields.at("condition"), "one of " + ", ".join(Condition), value)
    return Dependency(fields.needed_text("containerName"), Condition(value))


def _port(fields: Fields) -> PortMapping:
    if fields.is_set("containerPortRange"):
        raise Unsupported(
            f"{fields.at('containerPortRange')}: ranges of ports are not supported by this agent; "
            "expected containerPort"
        )
    port = fields.whole("containerPort", least=1, most=_HIGHEST_PORT)
    if port is None:
        raise BadField(fields.at("containerPort"), f"a number from 1 to {_HIGHEST_PORT}")
    protocol = fields.text("protocol") or "tcp"
    if protocol.lower() not in _PROTOCOLS:
        raise BadField(fields.at("protocol"), "tcp or udp", protocol)
    # Whatever hostPort says: the interface is the task's own, and there is nothing between it and the port.
    return PortMapping(port, port, protocol.lower(), fields.text("name") or None)


def _mount_point(fields: Fields) -> MountPoint:
    return MountPoint(
        fields.needed_text("sourceVolume"),
        mount_path(fields, "containerPath", fields.needed_text("containerPath")),
        fields.flag("readOnly"),
    )


def mount_path(fields: Fields, name: str, value: str) -> str:
    """The path itself, if Docker can take it for one half of a bind. Raise ``BadField``."""
    if not value.startswith("/") or ":" in value:
        raise BadField(fields.at(name), "an absolute path without a colon", value)
    return value


def _registry(fields: Fields | None) -> RegistryAuthentication | None:
    if fields is None:
        return None
    kind = fields.needed_text("type")
    if kind == LoginSource.ECR:
        data = fields.object("ecrAuthData")
        if data is None:
            raise BadField(fields.at("ecrAuthData"), "the registry's account and region")
        return RegistryAuthentication(
            LoginSource.ECR,
            region=data.text("region"),
            account=data.text("registryId"),
            endpoint=data.text("endpointOverride"),
            uses_execution_role=data.flag("useExecutionRole"),
        )
    if kind == LoginSource.SECRETS_MANAGER:
        data = fields.object("asmAuthData")
        if data is None:
            raise BadField(fields.at("asmAuthData"), "the name of the secret and its region")
        return RegistryAuthentication(
            LoginSource.SECRETS_MANAGER,
            region=data.text("region"),
            uses_execution_role=True,
            secret=data.needed_text("credentialsParameter"),
        )
    raise BadField(fields.at("type"), "ecr or asm", kind)


def _health_check(config: Fields) -> HealthCheck | None:
    """What Docker is told of a health check, for those who wait for it. None: the image's own, or none."""
    value = docker_value(config.document, "Healthcheck")
    if value is None:
        return None
    path = config.at("Healthcheck")
    if not isinstance(value, dict):
        raise BadField(path, "an object", value, is_secret=True)
    names = ("Test", "Interval", "Timeout", "Retries", "StartPeriod")
    check = Fields({name: docker_value(value, name) for name in names}, path)
    command = check.texts("Test")
    if not command or command[0] == "NONE":
        return None
    usual = HealthCheck(command)
    return HealthCheck(
        command,
        interval=_seconds(check, "Interval") or usual.interval,
        timeout=_seconds(check, "Timeout") or _DOCKERS_TIMEOUT,
        retries=check.whole("Retries") or usual.retries,
        start_period=_seconds(check, "StartPeriod"),
    )


def _seconds(check: Fields, name: str) -> int:
    """Nanoseconds as whole seconds, at least one where there are any."""
    return -(-(check.whole(name, most=_LONGEST_NANOSECONDS) or 0) // _NANOSECONDS)


def _text(overlay: Fields | None) -> str:
    if overlay is None or not overlay.document:
        return ""
    return json.dumps(overlay.document, separators=(",", ":"))
