"""Checks of the kernel: what tasks are built from, and the limits they may run into."""

import re
import resource

from agent.adapters.host.inside import refused_links
from agent.cli.doctor.facts import Facts
from agent.cli.doctor.findings import CannotFix, Fix, NotApplicable, Verdict, bad, warn, well

OLDEST = (5, 4)
FEW_FILES = 4096
FULL = 0.8

_MODULES = ("veth", "bridge", "nf_tables")


def kernel(facts: Facts) -> Verdict:
    """Whether the kernel is new enough and makes the links of a task, tried in a passing namespace."""
    release = facts.text("proc/sys/kernel/osrelease") or ""
    found = re.match(r"(\d+)\.(\d+)", release)
    if found is None:
        raise NotApplicable("the kernel does not say its version")
    version = (int(found[1]), int(found[2]))
    if version < OLDEST:
        return bad(
            f"Linux {release}", "control groups and nftables lack what the agent needs", "boot 5.4 or newer"
        )
    try:
        refused = facts.refused_links()
    except PermissionError:
        return well(f"Linux {release}; whether it can make links may be tried by root only")
    if refused:
        told = ", ".join(f"{kind} ({words})" for kind, words in refused.items())
        modules = [each for each in _MODULES if each in refused]
        return bad(
            f"Linux {release} cannot make links of the kind {told}",
            "tasks cannot be connected",
            "load the modules, or boot a kernel that has them",
            Fix(
                f"load the modules {', '.join(modules)} (modprobe)",
                f"modprobe -r {' '.join(modules)}",
                lambda: _load(facts, modules),
            ),
        )
    return well(f"Linux {release} makes veth pairs and bridges")


def conntrack(facts: Facts) -> Verdict:
    """Whether there is room for further connections in the table that every address translation needs."""
    used, most = (facts.text(f"proc/sys/net/netfilter/nf_conntrack_{name}") for name in ("count", "max"))
    if not used or not most:
        raise NotApplicable("the kernel tracks no connections")
    told = f"{used} of {most} tracked connections"
    if int(most) and int(used) / int(most) >= FULL:
        path = facts.root / "proc/sys/net/netfilter/nf_conntrack_max"
        doubled = 2 * int(most)
        return warn(
            told,
            "when the table is full, new connections of tasks are dropped without a word",
            "find out who opens so many (conntrack -L); each entry takes about 320 bytes",
            Fix(
                f"set net.netfilter.nf_conntrack_max to {doubled}",
                f"sysctl -w net.netfilter.nf_conntrack_max={most}",
                lambda: _write(path, doubled),
            ),
        )
    return well(told)


def open_files(facts: Facts) -> Verdict:
    """Whether the agent may open enough files: the running one, else one started as this command."""
    pid = facts.agent_pid()
    whose = "the agent"
    limits = facts.text(f"proc/{pid}/limits") if pid is not None else None
    found = re.search(r"^Max open files\s+(\S+)", limits or "", re.MULTILINE)
    if found is None:
        whose = "this command"
        allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    else:
        allowed = resource.RLIM_INFINITY if found[1] == "unlimited" else int(found[1])
    if allowed != resource.RLIM_INFINITY and allowed < FEW_FILES:
        return warn(
            f"{whose} may open {allowed} files",
            "with hundreds of tasks their log and health streams need more",
            "LimitNOFILE=65536 in the unit, or --ulimit nofile=65536 for docker run",
        )
    return well(f"{whose} may open {'any number of' if allowed == resource.RLIM_INFINITY else allowed} files")


def clock_source(facts: Facts) -> Verdict:
    """Whether asking for the time costs next to nothing, as it should."""
    place = "sys/devices/system/clocksource/clocksource0"
    current = facts.text(f"{place}/current_clocksource")
    if not current:
        raise NotApplicable("the kernel does not say its clock source")
    offered = (facts.text(f"{place}/available_clocksource") or "").split()
    if current in ("jiffies", "hpet", "acpi_pm", "xen") and {"tsc", "kvm-clock"} & set(offered):
        return warn(
            f"the clock source is {current}; there are {' '.join(offered)}",
            "each look at the clock is a system call or slower: everything on the machine pays for it",
            f"echo tsc > /{place}/current_clocksource",
        )
    return well(f"the clock source is {current}")


def _load(facts: Facts, modules: list[str]) -> None:
    for module in modules:
        done = facts.run(["modprobe", module], "")
        if done is None:
            raise CannotFix("there is no modprobe here; load the modules on the machine itself")
        if done.code != 0:
            raise CannotFix(done.err.strip() or f"modprobe {module} ended with {done.code}")


def _write(path: object, value: int) -> None:
    try:
        with open(str(path), "w", encoding="ascii") as file:  # noqa: PTH123 - a switch, not a file of ours
            file.write(f"{value}\n")
    except OSError as error:
        raise CannotFix(f"cannot write {value} to {path}: {error.strerror}") from error


__all__ = ["clock_source", "conntrack", "kernel", "open_files", "refused_links"]
