"""One request, in a process of its own: the plugins run as if each had been executed."""

from __future__ import annotations

import posix

from cni_plugins.bridge.plugin import PLUGIN as BRIDGE
from cni_plugins.eni.plugin import PLUGIN as ENI
from cni_plugins.host.protocol import PluginCall, Reply, Request, format_reply, reply_to
from cni_plugins.ipam.plugin import PLUGIN as IPAM
from cni_plugins.kernel.errors import KernelRefused
from cni_plugins.kernel.farewell import await_sleepers, begin_chain, delete_promptly, take_postponed
from cni_plugins.kernel.namespaces import Namespace
from cni_plugins.skeleton import document, run, signals
from cni_plugins.skeleton.config import NEWEST_VERSION
from cni_plugins.skeleton.errors import CRASHED, FAILED, INVALID_ENVIRONMENT, CniError

PLUGINS = {plugin.name: plugin for plugin in (ENI, BRIDGE, IPAM)}
END = "end\n"  # after the last reply: what follows is nobody's business
_LARGEST_STDERR = 65536
_terminated: list[bool] = []


def carry_out(request: Request, replies: int) -> None:
    """Run the calls and write one line per reply, then END, to the descriptor. Ends the process."""
    status = 1
    try:
        posix.setpgid(0, 0)
        stderr = posix.memfd_create("stderr", 0)
        posix.dup2(stderr, 2)
        _run_chain(request, replies, stderr)
        posix.close(replies)
        await_sleepers()
        status = 0
    finally:
        posix._exit(status)  # noqa: SLF001 -- the rest of the program belongs to the host


def _run_chain(request: Request, replies: int, stderr: int) -> None:
    begin_chain()
    finished: list[Reply] = []
    deletions: list[tuple[int, Namespace, int]] = []  # whose call, and what
    for call in request.calls:
        if call.environment.get("CNI_COMMAND") != "DEL":
            _delete_postponed(deletions, finished)  # whatever it does, it has to find them gone
        reply = _run(call, stderr)
        deletions += [(len(finished), there, index) for there, index in take_postponed()]
        finished.append(reply)
        if (reply.exit and request.stop_on_error) or _terminated:
            break
    _delete_postponed(deletions, finished)
    _write(replies, "".join(map(format_reply, finished)) + END)


def _delete_postponed(deletions: list[tuple[int, Namespace, int]], finished: list[Reply]) -> None:
    """Carry out what calls have postponed; one that is refused turns its call's reply into an error."""
    for owner, there, index in deletions:
        try:
            delete_promptly(there, index)
        except KernelRefused as refusal:
            error = CniError(FAILED, f"unable to delete the link: {refusal}").as_document(NEWEST_VERSION)
            finished[owner] = Reply(1, document.encode(error) + "\n", finished[owner].stderr)
    deletions.clear()


def format_crash(exit_status: int, said: str) -> str:
    """The reply in place of a call whose process died without one; a signal is a negative status."""
    message = f"the plugin's process died (status {exit_status})"
    error = document.encode({"code": CRASHED, "msg": message, **({"details": said} if said else {})})
    return format_reply(Reply(exit_status or 1, error + "\n", "")).strip()


def _run(call: PluginCall, stderr: int) -> Reply:
    plugin = PLUGINS.get(call.type)
    if plugin is None:
        known = ", ".join(PLUGINS)
        error = {
            "code": INVALID_ENVIRONMENT,
            "msg": f"unknown plugin type {call.type!r}, expected one of {known}",
        }
        return Reply(1, document.encode(error) + "\n", "")
    before = posix.lseek(stderr, 0, 2)
    answer = run.run(plugin, [], call.environment, lambda: call.stdin)
    if signals.getsignal(signals.SIGTERM) is signals.SIG_IGN:
        _terminated.append(True)  # the frame ignores a second one; no further call may begin
    return reply_to(answer, posix.pread(stderr, _LARGEST_STDERR, before))


def _write(descriptor: int, line: str) -> None:
    data = line.encode()
    while data:
        data = data[posix.write(descriptor, data) :]
