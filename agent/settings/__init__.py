"""What the operator has chosen, read once at start. The only reader of the environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import IPv4Network
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from agent.model.errors import BadSettings
from agent.model.pulling import PullBehavior
from agent.settings.ineffective import INEFFECTIVE
from agent.settings.kinds import Address
from agent.settings.libraries import FOR_LIBRARIES, handed_on
from agent.settings.load import Found, gather, load, load_some
from agent.settings.supervision import Supervision
from agent.settings.variables import VARIABLES, Machine

if TYPE_CHECKING:
    # the command line reads settings, too, and waits for nothing that only the agent needs
    from agent.model.spec import Pairs
    from agent.model.state import Policy

__all__ = [
    "Address",
    "BadSettings",
    "Described",
    "Settings",
    "Supervision",
    "Whereabouts",
    "environment",
    "hand_to_libraries",
    "supervision",
    "this_machine",
]


@dataclass(frozen=True, slots=True)
class Described:
    """One setting for a reader. A secret ``value`` is masked; without effect: known, but not honoured."""

    name: str
    value: str
    source: str
    has_effect: bool = True


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """The few settings that a client of the agent needs to find it.

    ``cluster`` and ``region`` are empty where only the running agent knows them: with the backend ``ecs``,
    when they are not set. User data is not asked.
    """

    backend: str
    data_directory: Path
    api_address: Address
    introspection_address: Address
    cluster: str
    region: str

    @classmethod
    def find(cls, environ: Mapping[str, str], env_file: Path | None = None) -> "Whereabouts":
        """As the agent would find them. Bad values of other settings do not matter. Raise ``BadSettings``."""
        gathered = gather(environ, env_file)
        if gathered.problems:
            # going on without a file would ask another agent than the one that is meant
            raise BadSettings(gathered.problems)
        return cls(**load_some(gathered, this_machine(), cls.__slots__))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every effective setting; ``docs/settings.md`` says what each means. Lengths of time are timedeltas.

    ``None``: not set, and there is no default. ``sources`` says for each field where its value stands;
    ``warnings`` are sentences for the log. With the backend ``ecs``, an empty ``cluster`` means the one that
    was saved, an empty ``region`` the one that the instance metadata service names.
    """

    backend: str
    cluster: str
    region: str
    backend_host: str | None
    tls_verify: bool
    account_id: str
    data_directory: Path
    in_container: bool
    host_data_directory: Path
    run_directory: Path
    docker_host: str

    metadata_endpoint: str | None
    metadata_disabled: bool
    instance_tags: "Pairs"
    propagate_tags_from: str
    spot_draining: bool
    warm_pools_check: bool

    reserved_memory: int
    instance_attributes: "Pairs"
    max_interfaces: int
    reserved_ports: tuple[int, ...]
    reserved_ports_udp: tuple[int, ...]
    logging_drivers: tuple[str, ...]
    privileged_disabled: bool
    selinux_capable: bool
    apparmor_capable: bool
    health_check_disabled: bool
    os_family: str
    metrics_disabled: bool

    create_limit: timedelta
    start_limit: timedelta
    stop_grace: timedelta
    pull_limit: timedelta
    pull_idle_limit: timedelta
    attach_limit: timedelta
    detach_limit: timedelta
    remove_limit: timedelta
    interface_wait_limit: timedelta
    dependency_wait_limit: timedelta
    unavailable_limit: timedelta
    watchdog_limit: timedelta
    retention: timedelta

    pull_behavior: PullBehavior
    registry_auth_type: str | None
    registry_auth_data: str | None = field(repr=False)
    pull_slots: int
    start_slots: int
    pause_path: Path

    task_limits: bool
    cgroup_path: Path
    cgroup_cpu_period: timedelta

    plugins_path: Path
    plugin_host: bool
    block_imds: bool
    local_routes: tuple[str, ...]
    vpc_network: IPv4Network
    vpc_namespace: str

    instance_interface: bool
    endpoint_port: int
    socket_keeper: str
    socket_keeper_patience: timedelta
    credentials_source: str
    sts_endpoint: str | None
    api_address: Address
    introspection_address: Address
    audit_file: Path
    audit_disabled: bool

    log_level: str
    log_console: str
    log_lines_per_second: int
    log_file: Path | None
    file_log_level: str
    log_format: str
    log_rollover: str
    log_file_size: float
    log_file_count: int

    sources: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    ineffective: tuple[Found, ...] = field(default=(), repr=False)
    for_libraries: tuple[Found, ...] = field(default=(), repr=False)
    warnings: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def load(
        cls,
        environ: Mapping[str, str],
        *,
        env_file: Path | None = None,
        user_data: Mapping[str, Any] | str | None = None,
        machine: Machine | None = None,
    ) -> "Settings":
        """Read everything. Environment before env file before JSON file before user data before default.

        ``env_file``: another file than ``BERTH_ENV_FILE`` or ``/etc/ecs/ecs.config`` say; it must exist.
        ``user_data``: what the instance was started with, as text or as the JSON document that it is.
        Raise ``BadSettings`` with every problem at once.
        """
        loaded = load(gather(environ, env_file, user_data), machine or this_machine())
        return cls(
            **loaded.values,
            sources=MappingProxyType(dict(loaded.sources)),
            ineffective=loaded.ineffective,
            for_libraries=loaded.for_libraries,
            warnings=loaded.warnings,
        )

    @property
    def policy(self) -> "Policy":
        """How patient the agent is with tasks that it accepts from now on."""
        from agent.model.state import Policy  # noqa: PLC0415 - as above

        return Policy(
            create_limit=self.create_limit,
            start_limit=self.start_limit,
            pull_limit=self.pull_limit,
            attach_limit=self.attach_limit,
            detach_limit=self.detach_limit,
            remove_limit=self.remove_limit,
            stop_grace=self.stop_grace,
            dependency_limit=self.dependency_wait_limit,
            unavailable_limit=self.unavailable_limit,
            retention=self.retention,
        )

    @property
    def data_directory_outside(self) -> Path:
        """The data directory as Docker's machine has it: what a bind mount of a file of ours must name."""
        return (
            self.host_data_directory / self.data_directory.name if self.in_container else self.data_directory
        )

    def described(self) -> tuple[Described, ...]:
        """Every setting with its value and source, what is handed to libraries, and what has no effect."""
        effective = []
        for variable in VARIABLES:
            value = getattr(self, variable.field)
            text = "" if value is None else variable.kind.show(value)
            shown = _MASK if variable.kind.is_secret and text else text
            effective.append(Described(variable.name, shown, self.sources.get(variable.field, "default")))
        handed = [_described(found, has_effect=True) for found in self.for_libraries]
        without = [_described(found, has_effect=False) for found in self.ineffective]
        return (*effective, *handed, *without)


def environment() -> Mapping[str, str]:
    """A copy of the process's environment."""
    return dict(os.environ)


def supervision() -> Supervision:
    """How this process is watched, which is taken out of its environment: children are not meant."""
    return Supervision.take(os.environ, os.getpid())


def hand_to_libraries(settings: Settings) -> None:
    """Put what libraries read and our files hold into the process's environment. Call it before they look.

    Programs that this process starts get it too, unless they are started with an environment of their own.
    """
    os.environ.update(
        handed_on(
            {found.name: found.text for found in settings.for_libraries},
            os.environ,
            docker_host=settings.docker_host,
            metadata_endpoint=settings.metadata_endpoint,
            is_metadata_disabled=settings.metadata_disabled,
        )
    )


def this_machine() -> Machine:
    """What defaults depend on, as it is here."""
    return Machine(cores=len(os.sched_getaffinity(0)), exists=Path.exists, boot_id=_boot_id())


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _described(found: Found, *, has_effect: bool) -> Described:
    text = _MASK if found.name in _SECRET else found.text
    return Described(found.name, text, found.source, has_effect=has_effect)


_MASK = "***"
_SECRET = frozenset(
    [known.name for known in INEFFECTIVE if known.is_secret]
    + [known.name for known in FOR_LIBRARIES if known.is_secret]
)
