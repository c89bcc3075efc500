"""Deleting a link without waiting for what nobody can see any more.

The kernel takes a deleted link out of all tables at once and says so (RTM_DELLINK), but the caller of the
request sleeps for another 10 to 20 ms until the last reader of the old tables is done. A child sleeps in our
place.

Such sleeps stand in a queue inside the kernel, and moving an ENI needs one that has to be waited for. So a
chain postpones its deletions behind everything else.
"""

from __future__ import annotations

import posix
import select

from cni_plugins.kernel import rtnetlink as rt
from cni_plugins.kernel.errors import GONE, KernelRefused
from cni_plugins.kernel.links import delete_link, deleted_index
from cni_plugins.kernel.namespaces import Namespace
from cni_plugins.skeleton import signals

_sleeping: list[int] = []  # children that still sleep; they end by themselves
_postponed: list[tuple[Namespace, int]] = []
_chain = [False]  # whether this process runs a chain, and will say when it ends
_PID_1 = 1


def delete_link_of(there: Namespace, index: int) -> None:
    """Delete a link of that namespace, at once or at the end of the chain. Raises KernelRefused."""
    if _chain[0]:
        _postponed.append((there, index))
    else:
        delete_promptly(there, index)


def begin_chain() -> None:
    """From now on deletions wait until `take_postponed`."""
    _chain[0] = True


def take_postponed() -> list[tuple[Namespace, int]]:
    """The deletions asked for since the last time; the caller has to `delete_promptly` each."""
    taken = list(_postponed)
    _postponed.clear()
    return taken


def delete_promptly(there: Namespace, index: int) -> None:
    """Delete a link of that namespace; return when it is gone for everybody. Raises KernelRefused."""
    if posix.getppid() == _PID_1 or not hasattr(posix, "pidfd_open"):
        # Whoever is pid 1 gets our child when we end, and may not know that it has to reap it.
        _delete(there.netlink(), index)
        return
    news, requests = there.netlink(rt.GROUP_LINK), there.netlink()
    child = posix.fork()
    if child == 0:
        _delete_in_child(requests, index)
    requests.close()
    ended = posix.pidfd_open(child)
    try:
        while True:
            ready, _, _ = select.select([news.fileno(), ended], [], [])
            if ended in ready:
                _, status = posix.waitpid(child, 0)
                errno = posix.waitstatus_to_exitcode(status)
                if errno:
                    raise KernelRefused(abs(errno))
                return
            if any(deleted_index(reply) == index for reply in news.notifications()):
                _sleeping.append(child)
                return
    finally:
        posix.close(ended)
        news.close()


def await_sleepers() -> None:
    """Reap the children that sleep in our place. For a process that must leave none behind."""
    while _sleeping:
        posix.waitpid(_sleeping.pop(), 0)


def _delete_in_child(requests: rt.Netlink, index: int) -> None:
    """Never returns. The exit status is the errno."""
    status = 5
    try:
        signals.signal(signals.SIGTERM, signals.SIG_IGN)
        for descriptor in (0, 1, 2):  # the caller waits for their end, not for ours
            posix.close(descriptor)
        _delete(requests, index)
        status = 0
    except KernelRefused as refusal:
        status = refusal.errno
    finally:
        posix._exit(status)  # noqa: SLF001 -- the rest of the program belongs to the parent


def _delete(netlink: rt.Netlink, index: int) -> None:
    (refusal,) = netlink.send([delete_link(index)])
    if refusal is not None and refusal.errno not in GONE:
        raise refusal
