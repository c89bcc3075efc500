"""The capabilities of Linux that the agent needs, each with what it is for. The one list of them."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Capability:
    """One capability. ``name`` as Docker spells it, without ``CAP_``; ``number`` from capabilities(7).

    ``before``: only kernels older than this version need it, as (major, minor); None: every kernel.
    ``only_inside``: only an agent in a container needs it.
    """

    name: str
    number: int
    purpose: str
    before: tuple[int, int] | None = None
    only_inside: bool = False


NEEDED: tuple[Capability, ...] = (
    Capability("NET_ADMIN", 12, "the interfaces, addresses, routes and firewall rules of tasks"),
    Capability("SYS_ADMIN", 21, "entering the network namespaces of tasks, and naming those of the VPC"),
    Capability("SYS_PTRACE", 19, "opening the network namespace of a container, which is another's process"),
    Capability("NET_BIND_SERVICE", 10, "the credentials endpoint at port 80"),
    Capability("SYS_CHROOT", 18, "asking the machine's systemd for the limits of tasks", only_inside=True),
    Capability("KILL", 5, "ending processes that a container has left behind, whatever user they have"),
    Capability(
        "DAC_OVERRIDE", 1, "files of others: control groups, and what a crash has left without rights"
    ),
    Capability("NET_RAW", 13, "binding a socket to one interface on kernels before 5.7", before=(5, 7)),
)
"""What ``docker run --cap-drop=ALL`` must give back instead of ``--privileged``; sorted by weight."""


FIRST_FREE_PORT = 1024
"""From here on anybody may listen (ip(7))."""


def docker_options() -> tuple[str, ...]:
    """The options of ``docker run`` that are the stricter alternative to ``--privileged``."""
    return (
        "--cap-drop=ALL",
        *(f"--cap-add={each.name}" for each in NEEDED),
        "--security-opt=apparmor=unconfined",
        # where SELinux is enforced, a confined container may not even connect to Docker's socket
        "--security-opt=label=disable",
        "--security-opt=systempaths=unconfined",
    )


def effective(status: str) -> int | None:
    """The set of effective capabilities in the text of ``/proc/<pid>/status``; None: it does not say."""
    found = re.search(r"^CapEff:\s*([0-9a-fA-F]+)$", status, re.MULTILINE)
    return None if found is None else int(found[1], 16)


def lacking(held: int, release: str, *, inside: bool, port: int) -> tuple[Capability, ...]:
    """What is needed and not in the set.

    ``release``: of the kernel, such as ``5.10.0-8-amd64``. ``inside``: of a container. ``port``: at which the
    credentials endpoint listens.
    """
    return tuple(
        each
        for each in NEEDED
        if not held >> each.number & 1
        and (each.before is None or _version(release) < each.before)
        and (inside or not each.only_inside)
        and (port < FIRST_FREE_PORT or each.name != "NET_BIND_SERVICE")
    )


def _version(release: str) -> tuple[int, int]:
    parts = re.match(r"(\d+)\.(\d+)", release)
    # an unknown kernel counts as an old one: it may need more, never less
    return (0, 0) if parts is None else (int(parts[1]), int(parts[2]))
