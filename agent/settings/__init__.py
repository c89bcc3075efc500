"""What the operator has chosen, read once at start. The only reader of the environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import IPv4Network
from pathlib import Path
from types import MappingProxyType

from agent.model.errors import BadSettings
from agent.model.spec import Pairs, PullBehavior
from agent.model.state import Policy
from agent.settings.ineffective import FOR_LIBRARIES, INEFFECTIVE
from agent.settings.kinds import Address
from agent.settings.load import Found, gather, load, read_one
from agent.settings.variables import VARIABLES, Machine

__all__ = ["Address", "BadSettings", "Described", "Settings", "Whereabouts", "environment", "this_machine"]


@dataclass(frozen=True, slots=True)
class Described:
    """One setting for a reader. A secret ``value`` is masked; without effect: known, but not honoured."""

    name: str
    value: str
    source: str
    has_effect: bool = True


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """The few settings that a client of the agent needs to find it."""

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
        wanted = {variable.field: variable for variable in VARIABLES if variable.field in cls.__slots__}
        machine = this_machine()
        return cls(**{name: read_one(gathered, variable, machine) for name, variable in wanted.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every effective setting; ``docs/settings.md`` says what each means. Lengths of time are timedeltas.

    ``None``: not set, and there is no default. ``sources`` says for each field where its value stands;
    ``warnings`` are sentences for the log.
    """

    backend: str
    cluster: str
    region: str
    account_id: str
    data_directory: Path
    run_directory: Path
    docker_host: str

    reserved_memory: int
    instance_attributes: Pairs
    max_interfaces: int

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
    retention: timedelta

    pull_behavior: PullBehavior
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
    warnings: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def load(
        cls, environ: Mapping[str, str], *, env_file: Path | None = None, machine: Machine | None = None
    ) -> "Settings":
        """Read everything. Environment before env file before JSON file before default.

        ``env_file``: another file than ``BERTH_ENV_FILE`` or ``/etc/ecs/ecs.config`` say; it must exist.
        Raise ``BadSettings`` with every problem at once.
        """
        loaded = load(gather(environ, env_file), machine or this_machine())
        return cls(
            **loaded.values,
            sources=MappingProxyType(dict(loaded.sources)),
            ineffective=loaded.ineffective,
            warnings=loaded.warnings,
        )

    @property
    def policy(self) -> Policy:
        """How patient the agent is with tasks that it accepts from now on."""
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

    def described(self) -> tuple[Described, ...]:
        """Every setting with its value and source, and then those that were set and have no effect."""
        effective = []
        for variable in VARIABLES:
            value = getattr(self, variable.field)
            text = "" if value is None else variable.kind.show(value)
            effective.append(Described(variable.name, text, self.sources.get(variable.field, "default")))
        without = [
            Described(
                found.name, "***" if found.name in _SECRET else found.text, found.source, has_effect=False
            )
            for found in self.ineffective
        ]
        return (*effective, *without)


def environment() -> Mapping[str, str]:
    """A copy of the process's environment."""
    return dict(os.environ)


def this_machine() -> Machine:
    """What defaults depend on, as it is here."""
    return Machine(cores=len(os.sched_getaffinity(0)), exists=Path.exists)


_SECRET = frozenset(known.name for known in (*INEFFECTIVE, *FOR_LIBRARIES) if known.is_secret)
