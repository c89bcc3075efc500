"""Checks of links: who else would configure a task's interface, and what a task's own routes let through."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from agent.adapters.cni.conflist import BRIDGE_IFNAME
from agent.adapters.host.inside import Way
from agent.adapters.host.rules import INSTANCE_METADATA_V4, INSTANCE_METADATA_V6
from agent.cli.doctor.facts import Facts
from agent.cli.doctor.findings import CannotFix, Fix, NotApplicable, Verdict, bad, warn, well, worst

NM_DROP_IN = "etc/NetworkManager/conf.d/90-berth-unmanaged.conf"
NETWORKD_DROP_IN = "etc/systemd/network/05-berth-unmanaged.network"

_GRABS = (
    "a task's network interface gets addresses, routes or a new name from it before the agent has moved it"
)
_HEADER = (
    "# Written by berth doctor --fix: interfaces that come later belong to tasks. Delete it to undo that.\n"
)


def network_managers(facts: Facts) -> Verdict:
    """Whether a program of this machine configures each interface that appears."""
    running = {process.name for process in facts.processes()}
    found: list[Verdict] = []
    if "NetworkManager" in running:
        found.append(_network_manager(facts))
    if running & {"systemd-networkd", "systemd-network"}:  # the kernel keeps 15 characters of a name
        found.append(_networkd(facts))
    if "dhcpcd" in running:
        found.append(_dhcpcd(facts))
    found += _amazon(facts)
    return worst(found, "no program that configures interfaces runs here")


def imds_exposure(facts: Facts) -> Verdict:
    """Where a task's packet to the instance metadata service would go. Routes are read; none is sent."""
    sandboxes = facts.task_namespaces()
    if not sandboxes:
        raise NotApplicable("no task is joined to the task bridge, so there is no view that could be taken")
    exposed: list[str] = []
    for pid in sandboxes:
        for address in (INSTANCE_METADATA_V4, INSTANCE_METADATA_V6):
            try:
                way = facts.way_to(address, facts.root / f"proc/{pid}/ns/net")
            except FileNotFoundError:
                continue  # the task has just ended
            if way.link and not _is_closed(way):
                exposed.append(f"{address} through {way.link} of process {pid}")
    if not exposed:
        return well(f"refused in all {len(sandboxes)} tasks")
    meaning = "programs of the task may take on the role of this machine, and everything that it may do"
    if not facts.settings.block_imds:
        return warn(
            f"open, as ECS_AWSVPC_BLOCK_IMDS=false says: {'; '.join(exposed[:4])}",
            meaning,
            "remove ECS_AWSVPC_BLOCK_IMDS unless a task needs it",
        )
    return bad(
        f"{'; '.join(exposed[:4])}",
        meaning,
        "restart these tasks; if it stays so, something undoes the routes",
    )


def _is_closed(way: Way) -> bool:
    # what leaves through the link to the agent is dropped by its rules on the machine
    return way.link in (BRIDGE_IFNAME, "lo")


def _network_manager(facts: Facts) -> Verdict:
    etc = facts.host_root / "etc/NetworkManager"
    for path in [etc / "NetworkManager.conf", *_files(etc / "conf.d", "*.conf")]:
        if re.search(r"^\s*unmanaged-devices\s*\+?=.*(\*|interface-name:\*)", _read(path), re.MULTILINE):
            return well(f"NetworkManager leaves new interfaces alone ({path.name})")
    return warn(
        "NetworkManager runs and configures each new interface",
        _GRABS,
        "",
        _drop_in(
            facts,
            NM_DROP_IN,
            lambda names: (
                "[keyfile]\nunmanaged-devices+=interface-name:*"
                + "".join(f";except:interface-name:{name}" for name in names)
                + "\n"
            ),
            ["nmcli", "general", "reload", "conf"],
        ),
    )


def _networkd(facts: Facts) -> Verdict:
    places = [facts.host_root / place / "systemd/network" for place in ("etc", "run", "usr/lib", "lib")]
    files = sorted(
        (path for place in places for path in _files(place, "*.network")), key=lambda path: path.name
    )
    grabbing = [path.name for path in files if _takes_all(_read(path))]
    leaving = [path.name for path in files if _leaves_others(_read(path))]
    if not grabbing:
        return well("systemd-networkd runs, and has no rule for interfaces that it does not know")
    if leaving and min(leaving) < min(grabbing):
        return well(f"systemd-networkd leaves new interfaces alone ({min(leaving)})")
    return warn(
        f"systemd-networkd runs, and {', '.join(grabbing[:3])} takes every new interface",
        _GRABS,
        "",
        _drop_in(
            facts,
            NETWORKD_DROP_IN,
            lambda names: f"[Match]\nName=!{' '.join(names)}\n\n[Link]\nUnmanaged=yes\n",
            ["networkctl", "reload"],
        ),
    )


def _takes_all(text: str) -> bool:
    match = re.search(r"\[Match\](.*?)(\n\[|\Z)", text, re.DOTALL)
    if match is None or re.search(r"^\s*Unmanaged\s*=\s*(yes|true|1|on)", text, re.MULTILINE | re.IGNORECASE):
        return False
    names = re.findall(r"^\s*Name\s*=\s*(.+)$", match[1], re.MULTILINE)
    wide = any(word in ("*", "e*", "en*", "eth*", "ens*") for line in names for word in line.split())
    drivers = re.search(r"^\s*(Driver\s*=.*\bena\b|Type\s*=\s*ether)", match[1], re.MULTILINE)
    return wide or (not names and drivers is not None)


def _leaves_others(text: str) -> bool:
    return "Unmanaged=yes" in text and re.search(r"^Name=(!|\*)", text, re.MULTILINE) is not None


def _dhcpcd(facts: Facts) -> Verdict:
    text = _read(facts.host_root / "etc/dhcpcd.conf")
    if re.search(r"^\s*(allowinterfaces|denyinterfaces)\s", text, re.MULTILINE):
        return well("dhcpcd is told which interfaces are its own")
    return warn(
        "dhcpcd runs and asks for an address on each new interface",
        _GRABS,
        "put into /etc/dhcpcd.conf: allowinterfaces and the names of this machine's own interfaces",
    )


def _amazon(facts: Facts) -> list[Verdict]:
    places = (
        "usr/lib/udev/rules.d/99-vpc-policy-routes.rules",  # amazon-ec2-net-utils 2
        "etc/udev/rules.d/53-ec2-network-interfaces.rules",  # ec2-net-utils 1
    )
    present = [place for place in places if (facts.host_root / place).is_file()]
    masked = facts.host_root / "etc/udev/rules.d/99-vpc-policy-routes.rules"
    if not present or (masked.exists() and not _read(masked).strip()):
        return []
    return [
        warn(
            f"Amazon's network tools are installed (/{present[0]})",
            f"they configure each interface that EC2 attaches: {_GRABS}",
            "unless the machine itself has several interfaces: remove ec2-net-utils or amazon-ec2-net-utils",
        )
    ]


def _drop_in(facts: Facts, place: str, text: Callable[[list[str]], str], reload: list[str]) -> Fix | None:
    if facts.is_inside:
        return None  # the file would be the container's own
    path = facts.root / place
    names = sorted(one.name for one in (facts.root / "sys/class/net").iterdir() if one.name != "lo")
    # a task that runs has its interface in its own namespace, so what is here is the machine's
    kept = ["lo", *names]
    content = _HEADER + text(kept)

    def apply() -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
            path.chmod(0o644)
        except OSError as error:
            raise CannotFix(f"cannot write {path}: {error.strerror}") from error
        done = facts.run(reload, "")
        if done is None or done.code != 0:
            raise CannotFix(f"{path} is written; it counts after: {' '.join(reload)}")

    return Fix(
        f"write /{place}, so that interfaces that come later are left alone (these stay as they are: "
        f"{', '.join(names)}), and run {' '.join(reload)}",
        f"rm /{place} && {' '.join(reload)}",
        apply,
    )


def _files(directory: Path, pattern: str) -> Iterable[Path]:
    return sorted(directory.glob(pattern)) if directory.is_dir() else ()


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""
