"""What the agent needs from where it was started: looked at before anything is touched, all of it at once.

``look`` asks the kernel and is quick; ``missing`` decides. In a container each answer names the option of
``docker run`` that gives what is missing.
"""

from dataclasses import dataclass
from pathlib import Path, PurePath

from agent.adapters.host.capabilities import Capability, docker_options, lacking
from agent.adapters.host.facts import UNIX, Chosen, Door, Facts, look
from agent.adapters.host.mounts import Mount, covering

NAMESPACES = Path("/run/netns")
"""Where network namespaces have their names (ip-netns(8))."""


@dataclass(frozen=True, slots=True)
class Missing:
    """One thing that is not there: what, what the agent needs it for, and what gives it.

    ``name`` is a stable word. ``is_needed`` False: the agent runs without it, and something is worse.
    """

    name: str
    what: str
    purpose: str
    remedy: str
    is_needed: bool = True

    def __str__(self) -> str:
        return f"{self.what} (for {self.purpose}): {self.remedy}"


def missing(facts: Facts) -> tuple[Missing, ...]:
    """Everything that is not there, what matters most first."""
    found = _missing_privileges(facts)
    if facts.in_container:
        found += _missing_namespaces(facts)
        found += _missing_mounts(facts)
    if not facts.can_write_logs:
        found.append(
            Missing(
                "log_directory",
                f"a directory {facts.log_directory} that can be written",
                "the log file of ECS_LOGFILE",
                _mount_option("/var/log/ecs", facts.log_directory)
                if facts.in_container
                else "make it, or choose another ECS_LOGFILE",
            )
        )
    return tuple(found)


def _missing_privileges(facts: Facts) -> list[Missing]:
    found = []
    for each in _lacking(facts):
        remedy = (
            f"add --privileged or --cap-add={each.name}"
            if facts.in_container
            else f"run as root, in a unit whose CapabilityBoundingSet (if it sets one) has CAP_{each.name}"
        )
        found.append(Missing(f"cap_{each.name.lower()}", f"CAP_{each.name}", each.purpose, remedy))
    if not facts.in_container:
        return found
    if facts.has_whole_user_namespace is False:
        found.append(
            Missing(
                "user_namespace",
                "the user namespace of the machine",
                "every capability: in a user namespace of its own the kernel grants none of them outside",
                "add --userns=host",
            )
        )
    if not facts.can_write_sysctls:
        found.append(
            Missing(
                "sysctls",
                "a writable /proc/sys/net",
                "the routing between the tasks' networks",
                "add --privileged or --security-opt=systempaths=unconfined",
            )
        )
    return found


def _lacking(facts: Facts) -> tuple[Capability, ...]:
    if facts.capabilities is None:
        return ()
    return lacking(facts.capabilities, facts.kernel, inside=facts.in_container, port=facts.endpoint_port)


def _missing_namespaces(facts: Facts) -> list[Missing]:
    found = []
    if facts.shares_processes is False:
        found.append(
            Missing(
                "pid_namespace",
                "the PID namespace of the machine",
                "the processes of containers, which Docker names by their numbers there",
                "add --pid=host",
            )
        )
    if facts.shares_network is False:
        found.append(
            Missing(
                "network_namespace",
                "the network namespace of the machine",
                "the network interfaces that tasks are given, and the credentials endpoint",
                "add --net=host",
            )
        )
    return found


def _missing_mounts(facts: Facts) -> list[Missing]:
    found = []
    if facts.door in (Door.ABSENT, Door.DIRECTORY, Door.OTHER):
        found.append(_missing_docker(facts))
    below = covering(facts.mounts, facts.data_directory)
    if below is not None and (below.point == _ROOT or not below.is_writable):
        is_lost = below.point == _ROOT
        found.append(
            Missing(
                "data_directory",
                f"a place outside of the container at {facts.data_directory}"
                if is_lost
                else f"a directory {facts.data_directory} that can be written",
                "the records of tasks, which end with the container otherwise"
                if is_lost
                else "the records of tasks",
                _mount_option("/var/lib/ecs", facts.data_directory),
                # the tasks of a cluster outlive the agent; those of a laptop may end with it
                is_needed=facts.backend == "ecs" or not is_lost,
            )
        )
    # only the VPC of the local backend has namespaces with names
    names = covering(facts.mounts, NAMESPACES)
    if facts.backend == "local" and (names is None or names.point != NAMESPACES or not names.is_shared):
        found.append(
            Missing(
                "namespaces",
                f"{NAMESPACES} of the machine, mounted so that mounts below it are shared",
                "the network namespaces of the VPC, which outlive the agent's container",
                f"add -v {NAMESPACES}:{NAMESPACES}:shared",
            )
        )
    if not _has_groups_of_the_machine(facts):
        found.append(
            Missing(
                "control_groups",
                f"the machine's control groups, writable, at {facts.cgroup_path}",
                "the limits and statistics of tasks",
                "add -v /sys/fs/cgroup:/sys/fs/cgroup"
                if str(facts.cgroup_path) == "/sys/fs/cgroup"
                else f"add -v /sys/fs/cgroup:{facts.cgroup_path}",
            )
        )
    return found


def _missing_docker(facts: Facts) -> Missing:
    path = facts.docker_host.removeprefix(UNIX)
    seen = {
        Door.ABSENT: "there is nothing",
        # Docker makes one for a bind mount whose source does not exist
        Door.DIRECTORY: "there is a directory, as Docker makes one when the machine has no such socket",
        Door.OTHER: "there is something else",
    }[facts.door]
    return Missing(
        "docker_socket",
        f"Docker's socket at {path}, where {seen}",
        "everything that is done with containers",
        f"add -v {path}:{path}, or set DOCKER_HOST to where it is",
    )


def _has_groups_of_the_machine(facts: Facts) -> bool:
    """Whether each hierarchy is there whole and writable, not just the part that this container is in."""
    hierarchies = [
        mount
        for mount in facts.mounts
        if mount.kind in ("cgroup", "cgroup2") and mount.point.is_relative_to(facts.cgroup_path)
    ]
    # a later mount at the same place hides an earlier one
    seen = {mount.point: mount for mount in hierarchies}.values()
    if not all(mount.is_writable and _is_whole(mount) for mount in seen):
        return False
    # One that is surely the machine's speaks for all: they are in one namespace. Not every runtime puts a
    # container into a group of each hierarchy of version 1; those of rdma and misc came late.
    return any(_is_the_machines(mount, facts.own_groups) for mount in seen)


def _is_whole(mount: Mount) -> bool:
    return mount.root == "/" or mount.root.startswith("/..")


def _is_the_machines(mount: Mount, own_groups: tuple[tuple[str, str], ...]) -> bool:
    # Above what a namespace of our own calls the root; or the root, which is not the group that we are in.
    return mount.root != "/" or _own_group(mount, own_groups) != "/"


def _own_group(mount: Mount, own_groups: tuple[tuple[str, str], ...]) -> str | None:
    if mount.kind == "cgroup2":
        return dict(own_groups).get("")
    for names, group in own_groups:
        if names and all(name in mount.options for name in names.split(",")):
            return group
    return None


def _mount_option(usual: str, path: PurePath | None) -> str:
    place = usual if path is None or path.is_relative_to(usual) else str(path)
    return f"add -v {place}:{place}"


_ROOT = PurePath("/")

__all__ = ["Chosen", "Door", "Facts", "Missing", "docker_options", "look", "missing"]
