"""Links, addresses, interfaces, namespaces and rules that are left of tasks."""

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from agent.adapters.cni.conflist import BRIDGE_IFNAME, BRIDGE_PLUGIN, TaskBridge, collection_calls
from agent.adapters.host.boots import this_boot
from agent.adapters.host.inside import delete_link, links_in, unmount
from agent.adapters.host.rules import FAMILY, FirewallPlan
from agent.adapters.local.vpc.layout import parsed
from agent.cli.doctor.facts import marked_ports, run_program, sandbox_processes
from agent.cli.leaks.things import Known, NotRemoved, Thing, Unseen
from agent.model.ids import ContainerId
from agent.settings import Settings

NAMESPACES = Path("/run/netns")
_LINKS = Path("/sys/class/net")

Asked = Callable[[], Known]


def links(settings: Settings, known: Asked) -> tuple[Thing, ...]:
    """Ports of the tasks' bridge whose sandbox is neither known nor alive, by the marks on them."""
    ports = marked_ports(_LINKS)
    alive = sandbox_processes(Path("/proc"), {owner for _, owner in ports})
    kept = known().sandboxes
    return tuple(
        Thing(
            port,
            partial(_remove_port, settings, port, owner),
            sandbox=ContainerId(owner),
        )
        for port, owner in ports
        if ContainerId(owner) not in kept and owner not in alive
    )


def addresses(settings: Settings, known: Asked) -> tuple[Thing, ...]:
    """Addresses leased to sandboxes that are neither known nor alive. They would never come free."""
    leases = dict(_leases(settings.run_directory / "ipam" / "leases.json"))
    alive = sandbox_processes(Path("/proc"), set(leases.values()))
    kept = known().sandboxes
    return tuple(
        Thing(address, partial(_release, settings, owner), sandbox=ContainerId(owner))
        for address, owner in sorted(leases.items())
        if owner and ContainerId(owner) not in kept and owner not in alive
    )


def interfaces(settings: Settings, known: Asked) -> tuple[Thing, ...]:
    """Interfaces of the simulated VPC without a task. Their other end goes with them, wherever it is."""
    router = NAMESPACES / settings.vpc_namespace
    if settings.backend != "local" or not router.exists():
        return ()
    seen = [(link, mark) for link in links_in(router) if (mark := parsed(link.alias)) is not None]
    kept = known().interfaces
    if kept is None:
        raise Unseen(f"there is no record of interfaces in {settings.data_directory}")
    return tuple(
        Thing(
            mark.eni_id,
            partial(_delete, router, link.index, link.name, link.alias),
            interface=mark.eni_id,
        )
        for link, mark in seen
        if mark.role == "eni" and mark.eni_id not in kept
    )


def namespaces(_: Settings, known: Asked) -> tuple[Thing, ...]:
    """Named network namespaces that hold a task's link to the agent, and in which nobody is any more."""
    if not NAMESPACES.is_dir():
        return ()
    inhabited = set(_inhabited())
    found = []
    for path in sorted(NAMESPACES.iterdir()):
        try:
            if path.stat().st_ino not in inhabited and _is_tasks(path):
                found.append(Thing(path.name, partial(_unname, path, path.stat().st_ino)))
        except FileNotFoundError:
            continue  # it has just gone
        except OSError as error:
            # a file that is no namespace, such as one whose mount is not seen from here
            if error.errno not in _NO_NAMESPACE:
                raise
    known()  # so that nobody removes anything while nobody can say what belongs here
    return tuple(found)


def rules(_: Settings, known: Asked) -> tuple[Thing, ...]:
    """Tables of nftables with the agent's name that are not the one it keeps."""
    done = run_program(["nft", "-j", "list", "tables"])
    if done is None or done.code != 0:
        raise Unseen("there is no nft" if done is None else f"nft: {done.err.strip()}")
    own = (FAMILY, FirewallPlan().table)
    listed: list[dict[str, Any]] = [
        each["table"] for each in json.loads(done.out)["nftables"] if "table" in each
    ]
    tables = [(str(each["family"]), str(each["name"])) for each in listed]
    known()
    return tuple(
        Thing(f"table {family} {name}", partial(_drop_table, family, name))
        for family, name in tables
        if (family, name) != own and (name == own[1] or name.startswith(("berth-", "berth_")))
    )


def _leases(path: Path) -> Iterator[tuple[str, str]]:
    """Address and sandbox of each lease of this boot."""
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return
    except ValueError as error:
        raise Unseen(f"{path} is no JSON; the plugin will put it aside") from error
    if document.get("boot") != this_boot():
        return  # of an earlier boot: nothing of it counts any more
    for address, lease in document.get("held", {}).items():
        yield address, str(lease.get("container") or "")


def _inhabited() -> Iterator[int]:
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                yield (process / "ns/net").stat().st_ino
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue


def _is_tasks(path: Path) -> bool:
    return any(link.name == BRIDGE_IFNAME for link in links_in(path))


_NO_NAMESPACE = (22, 13)  # EINVAL, EACCES


# -- removal ---------------------------------------------------------------------------------------


def _remove_port(settings: Settings, port: str, owner: str) -> None:
    """The plugin takes port and lease; if it cannot, the link goes alone."""
    try:
        _release(settings, owner)
    except NotRemoved as refusal:
        _delete_port(port, owner, refusal)
    else:
        _delete_port(port, owner, None)


def _delete_port(port: str, owner: str, refusal: NotRemoved | None) -> None:
    try:
        link = next((each for each in links_in() if each.name == port), None)
        if link is not None and link.alias.startswith(f"ecs:{owner}:{BRIDGE_PLUGIN}:"):
            delete_link(link.index, link.name, link.alias)
    except OSError as error:
        raise NotRemoved(f"{error}{f'; {refusal}' if refusal else ''}") from error


def _release(settings: Settings, owner: str) -> None:
    """DEL for a sandbox that is gone: the plugin frees what carries its id, and nothing else (cni 1.4)."""
    bridge = TaskBridge()
    config = next(call.config for call in collection_calls(bridge, ()) if call.plugin == BRIDGE_PLUGIN)
    asked = {key: value for key, value in config.items() if not key.startswith("cni.dev/")}
    plugin = settings.plugins_path / BRIDGE_PLUGIN
    done = run_program(
        [str(plugin)],
        json.dumps(asked),
        CNI_COMMAND="DEL",
        CNI_CONTAINERID=owner,
        CNI_NETNS="",
        CNI_IFNAME=BRIDGE_IFNAME,
        CNI_PATH=str(settings.plugins_path),
        IPAM_DB_PATH=str(settings.run_directory / "ipam"),
        ECS_CNI_LOG_FILE=str(settings.data_directory / "cni-plugins.log"),
    )
    if done is None:
        raise NotRemoved(f"there is no {plugin}")
    if done.code != 0:
        raise NotRemoved((done.out or done.err).strip() or f"{plugin} ended with {done.code}")


def _delete(namespace: Path, index: int, name: str, alias: str) -> None:
    try:
        delete_link(index, name, alias, namespace)
    except OSError as error:
        raise NotRemoved(str(error)) from error


def _unname(path: Path, inode: int) -> None:
    try:
        if path.stat().st_ino != inode or inode in set(_inhabited()):
            raise NotRemoved("somebody uses it again")
        unmount(path)
        os.unlink(path)  # noqa: PTH108 - beside unmount
    except FileNotFoundError:
        return
    except OSError as error:
        raise NotRemoved(str(error)) from error


def _drop_table(family: str, name: str) -> None:
    done = run_program(["nft", "delete", "table", family, name])
    if done is None or done.code != 0:
        raise NotRemoved("there is no nft" if done is None else done.err.strip().partition("\n")[0])
