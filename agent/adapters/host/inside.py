"""Looks into network namespaces and tries out what the kernel can do, in threads that end afterwards.

Nothing here sends a packet: the way to an address is the kernel's own answer from its routing tables. All of
it blocks for a moment; a thread that changes its namespace is never used for anything else.
"""

import ctypes
import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_MNT_DETACH = 2
_REFUSED = {errno.EINVAL: "a blackhole", errno.EHOSTUNREACH: "unreachable", errno.EACCES: "prohibited"}
_NO_WAY = (errno.ENETUNREACH, errno.EAFNOSUPPORT, errno.EOPNOTSUPP)

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class LinkSeen:
    """A network interface. ``kind``: such as ``veth``; empty for a device. ``mac``: six octets in hex."""

    index: int
    name: str
    alias: str
    kind: str
    mac: str


@dataclass(frozen=True, slots=True)
class Way:
    """Where a packet to an address would go. ``link`` empty: nowhere, and ``why`` says how it is refused."""

    link: str
    why: str = ""


def links_in(namespace: Path | None = None) -> tuple[LinkSeen, ...]:
    """Every link of the namespace (a file such as ``/proc/1/ns/net``); None: our own. Raise ``OSError``."""
    return _in(namespace, _links)


def way_to(address: str, namespace: Path | None = None) -> Way:
    """The kernel's own look-up, rules and blackholes included; no packet is sent. Raise ``OSError``."""
    return _in(namespace, lambda kernel: _way(kernel, address))


def delete_link(index: int, name: str, alias: str, namespace: Path | None = None) -> bool:
    """Delete the link if it is still the one with that name and alias. False: it is not there any more.

    Raise ``OSError``.
    """

    def delete(kernel: Any) -> bool:
        if not any((one.index, one.name, one.alias) == (index, name, alias) for one in _links(kernel)):
            return False
        try:
            kernel.link("del", index=index)
        except NetlinkError as error:
            if error.code != errno.ENODEV:
                raise
            return False  # its namespace has just ended
        return True

    return _in(namespace, delete)


def unmount(namespace: Path) -> None:
    """Take the mount away by which a namespace has its name. Raise ``OSError``."""
    _check(_libc.umount2(os.fsencode(namespace), _MNT_DETACH), str(namespace))


def refused_links() -> dict[str, str]:
    """Kinds of links that tasks need and the kernel refuses, with its words.

    They are made in a namespace that ends with this call, so nothing of the machine changes.
    Raise ``OSError`` if there may be no such namespace.
    """

    def attempt(kernel: Any) -> dict[str, str]:
        refused = {}
        for kind, name in (("veth", "tried0"), ("bridge", "tried1")):
            more = {"peer": "tried2"} if kind == "veth" else {}
            try:
                kernel.link("add", ifname=name, kind=kind, **more)
            except NetlinkError as error:
                refused[kind] = os.strerror(error.code)
        return refused

    return _in_thread(lambda: _with_kernel(attempt), _unshare)


def _way(kernel: Any, address: str) -> Way:
    try:
        (route, *_) = kernel.route("get", dst=address)
    except NetlinkError as error:
        if error.code in _REFUSED or error.code in _NO_WAY:
            return Way("", _REFUSED.get(error.code, "there is no route"))
        raise
    index = route.get("oif")
    names = {link.index: link.name for link in _links(kernel)}
    # over IPv6 a route that refuses is found, and leads to lo with an error instead of a link
    code = -(route.get("cacheinfo", {}) or {}).get("rta_error", 0)
    if code or route["type"] not in (1, 2):  # RTN_UNICAST, RTN_LOCAL
        return Way("", _REFUSED.get(code, "a route that refuses"))
    return Way(names.get(index, f"link {index}"))


def _links(kernel: Any) -> tuple[LinkSeen, ...]:
    return tuple(
        LinkSeen(
            each["index"],
            each.get("ifname") or "",
            each.get("ifalias") or "",
            each.get(("linkinfo", "kind")) or "",
            each.get("address") or "",
        )
        for each in kernel.get_links()
    )


def _in(namespace: Path | None, work: Callable[[Any], T]) -> T:
    def enter() -> None:
        if namespace is not None:
            descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                _check(_libc.setns(descriptor, _CLONE_NEWNET), str(namespace))
            finally:
                os.close(descriptor)

    return _in_thread(lambda: _with_kernel(work), enter)


def _unshare() -> None:
    _check(_libc.unshare(_CLONE_NEWNET), "a new network namespace")


def _with_kernel(work: Callable[[Any], T]) -> T:
    try:
        with IPRoute() as kernel:
            return work(kernel)
    except NetlinkError as error:
        raise OSError(error.code, os.strerror(error.code)) from error


def _in_thread(work: Callable[[], T], enter: Callable[[], None]) -> T:
    """On a thread that ends: it is the only one that ever sees the other namespace."""
    answers: list[T] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            enter()
            answers.append(work())
        except Exception as error:  # noqa: BLE001 - raised below, in the thread that asked
            errors.append(error)

    thread = threading.Thread(target=run, name="looking inside", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return answers[0]


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
