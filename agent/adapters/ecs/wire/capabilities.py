"""What this instance can do, as attributes. Only what is built is said: tasks are placed by it."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

A = "com.amazonaws.ecs.capability."
B = "ecs.capability."

ApiVersion = tuple[int, int]

_EXTENDED_FLOOR: ApiVersion = (1, 24)


@dataclass(frozen=True, slots=True)
class Attribute:
    """A name, and a value for some. ``value`` None: there is none."""

    name: str
    value: str | None = None

    def document(self) -> dict[str, str]:
        """The attribute as it is sent."""
        return {"name": self.name} if self.value is None else {"name": self.name, "value": self.value}


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the attributes depend on.

    ``docker_oldest``, ``docker_newest``: the API versions that the Docker daemon speaks. ``cni_version``:
    from ``plugin_version``. ``logging_drivers``: those that this machine offers.
    """

    docker_oldest: ApiVersion
    docker_newest: ApiVersion
    cni_version: str = "-"
    logging_drivers: tuple[str, ...] = ("json-file", "none")
    is_privileged_allowed: bool = True
    has_selinux: bool = False
    has_apparmor: bool = False
    has_task_roles: bool = True
    has_task_limits: bool = True
    has_health_checks: bool = True
    blocks_metadata: bool = False

    def speaks(self, version: ApiVersion) -> bool:
        """Whether a Docker API version counts as there (ecs-protocol 1.4).

        A daemon that has dropped everything below 1.24 is still taken to understand what older ones meant,
        so that old task definitions find a place.
        """
        return version <= self.docker_newest and (
            version >= self.docker_oldest or self.docker_oldest >= _EXTENDED_FLOOR
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """One attribute of ecs-protocol 1.4.

    ``why``: the condition, or why it is never said (``when`` is None).
    """

    name: str
    why: str
    when: Callable[[Abilities], bool] | None = None
    value: Callable[[Abilities], str] | None = None


def _always(_: Abilities) -> bool:
    return True


def _never(name: str, why: str) -> Rule:
    return Rule(name, why)


def _api(minor: int) -> Callable[[Abilities], bool]:
    return lambda have: have.speaks((1, minor))


def _docker_versions() -> tuple[Rule, ...]:
    left_out = {26, 27, 31}
    return tuple(
        Rule(f"{A}docker-remote-api.1.{minor}", f"the daemon speaks 1.{minor}", _api(minor))
        for minor in range(17, 33)
        if minor not in left_out
    )


_DRIVERS = {
    "json-file": 18, "syslog": 18, "journald": 19, "none": 19, "gelf": 20, "fluentd": 20, "awslogs": 21,
    "splunk": 22, "logentries": 25, "sumologic": 29,
}  # fmt: skip


def _drivers() -> tuple[Rule, ...]:
    def offered(driver: str, minor: int) -> Callable[[Abilities], bool]:
        return lambda have: driver in have.logging_drivers and have.speaks((1, minor))

    return tuple(
        Rule(
            f"{A}logging-driver.{driver}",
            f"configured, and the daemon speaks 1.{minor}",
            offered(driver, minor),
        )
        for driver, minor in _DRIVERS.items()
    )


_NOT_BUILT = "not built"

RULES: tuple[Rule, ...] = (
    Rule(f"{B}private-registry-authentication.secretsmanager", "always", _always),
    _never(f"{B}secrets.ssm.environment-variables", "secrets are not built"),
    _never(f"{B}secrets.ssm.bootstrap.log-driver", "secrets are not built"),
    _never(f"{B}secrets.asm.environment-variables", "secrets are not built"),
    _never(f"{B}secrets.asm.bootstrap.log-driver", "secrets are not built"),
    Rule(f"{B}ecr-endpoint", "always", _always),
    Rule(f"{B}container-ordering", "always", _always),
    Rule(f"{B}full-sync", "always", _always),
    _never(f"{B}env-files.s3", "environment files are not built"),
    _never(f"{B}network.container-port-range", "awsvpc tasks have no port bindings, and there are no others"),
    _never(f"{B}container-restart-policy", "restart policies are not built"),
    Rule(f"{A}privileged-container", "unless ECS_DISABLE_PRIVILEGED",
         lambda have: have.is_privileged_allowed),
    *_docker_versions(),
    *_drivers(),
    Rule(f"{A}selinux", "ECS_SELINUX_CAPABLE", lambda have: have.has_selinux),
    Rule(f"{A}apparmor", "ECS_APPARMOR_CAPABLE", lambda have: have.has_apparmor),
    Rule(f"{A}task-iam-role", "ECS_ENABLE_TASK_IAM_ROLE, and the daemon speaks 1.19",
         lambda have: have.has_task_roles and have.speaks((1, 19))),
    _never(f"{A}task-iam-role-network-host", "tasks in the host's network are not built"),
    Rule(f"{B}task-cpu-mem-limit", "task limits are on, and the daemon speaks 1.22",
         lambda have: have.has_task_limits and have.speaks((1, 22))),
    Rule(f"{B}increased-task-cpu-limit", "task limits are on", lambda have: have.has_task_limits),
    Rule(f"{B}task-eni", "always: there are no other tasks", _always),
    Rule(f"{B}task-eni.ipv6", "always", _always),
    Rule(f"{B}cni-plugin-version", "always", _always, lambda have: have.cni_version),
    Rule(f"{B}task-eni-block-instance-metadata", "ECS_AWSVPC_BLOCK_IMDS", lambda have: have.blocks_metadata),
    _never(f"{B}task-eni-trunking", "trunk interfaces are not built"),
    _never(f"{B}branch-cni-plugin-version", "trunk interfaces are not built"),
    Rule(f"{A}ecr-auth", "the daemon speaks 1.19", _api(19)),
    Rule(f"{B}execution-role-ecr-pull", "the daemon speaks 1.19", _api(19)),
    Rule(f"{B}container-health-check", "health checks are on, and the daemon speaks 1.24",
         lambda have: have.has_health_checks and have.speaks((1, 24))),
    _never(f"{B}execution-role-awslogs", "the awslogs driver does not get the execution role"),
    _never(f"{B}docker-plugin.local", "volumes of Docker's drivers are not built"),
    _never(f"{B}docker-plugin.<name>", "volume plugins are not built"),
    _never(f"{B}nvidia-driver-version.<v>", "GPUs are not built"),
    _never(f"{B}gpu-driver-version", "GPUs are not built"),
    _never(f"{B}pid-ipc-namespace-sharing", "sharing of PID and IPC namespaces is not built"),
    _never(f"{B}aws-appmesh", "App Mesh is not built"),
    _never(f"{B}task-eia", "Elastic Inference is not built"),
    _never(f"{B}task-eia.optimized-cpu", "Elastic Inference is not built"),
    _never(f"{B}firelens.fluentd", "FireLens is not built"),
    _never(f"{B}firelens.fluentbit", "FireLens is not built"),
    _never(f"{B}firelens.non-root-user", "FireLens is not built"),
    _never(f"{A}logging-driver.awsfirelens", "FireLens is not built"),
    # The table of ecs-protocol 1.4 gives this one the other prefix; the recorded message has this one.
    _never(f"{B}logging-driver.awsfirelens.log-driver-buffer-limit", "FireLens is not built"),
    _never(f"{B}firelens.options.config.file", "FireLens is not built"),
    _never(f"{B}firelens.options.config.s3", "FireLens is not built"),
    _never(f"{B}efs", "EFS volumes are not built"),
    _never(f"{B}storage.s3-files", "S3 file volumes are not built"),
    _never(f"{B}efsAuth", "EFS volumes are not built"),
    _never(f"{B}gmsa", _NOT_BUILT),
    _never(f"{B}gmsa-domainless", _NOT_BUILT),
    _never(f"{B}execute-command", "ECS Exec is not built"),
    _never(f"{B}service-connect-v1", "Service Connect is not built"),
    _never(f"{B}storage.ebs-task-volume-attach", "EBS volumes of tasks are not built"),
    _never(f"{B}storage.ebsta-non-root-user", "EBS volumes of tasks are not built"),
    _never(f"{B}external", "external instances are not built"),
    _never(f"{B}fault-injection", "fault injection is not built"),
    _never(f"{B}ipv6-only", "tasks without IPv4 are not built"),
    _never(f"{B}imds-iam-roles", "the ECS agent never says it either"),
)  # fmt: skip
"""The whole list of ecs-protocol 1.4, in its order."""


def capabilities(have: Abilities) -> tuple[Attribute, ...]:
    """The attributes that are true for this instance."""
    return tuple(
        Attribute(rule.name, None if rule.value is None else rule.value(have))
        for rule in RULES
        if rule.when is not None and rule.when(have)
    )


def plugin_version(said: str) -> str:
    """``<hash>-<version>`` from what ``ecs-eni --version`` prints (ecs-protocol 1.4).

    Raise ``ValueError`` if it is not the object that the plugin prints. A plugin that was not stamped is
    ``-``.
    """
    try:
        stamp: Any = json.loads(said)
    except ValueError:
        stamp = None
    if not isinstance(stamp, dict):
        raise ValueError(f"version of the CNI plugin: {said[:100]!r}, expected a JSON object")  # noqa: TRY004
    return f"{_text_of(stamp, 'gitShortHash')}-{_text_of(stamp, 'version')}"


def api_version(said: str) -> ApiVersion:
    """A Docker API version such as ``1.41`` as numbers. Raise ``ValueError``."""
    read = re.fullmatch(r"(\d{1,4})\.(\d{1,4})", said)
    if read is None:
        raise ValueError(f"Docker API version {said[:40]!r}: expected one such as 1.41")
    return int(read[1]), int(read[2])


def _text_of(stamp: dict[str, Any], name: str) -> str:
    value = stamp.get(name)
    if not isinstance(value, str):
        raise ValueError(f"version of the CNI plugin: {name} is {value!r}, expected a text")  # noqa: TRY004
    return value
