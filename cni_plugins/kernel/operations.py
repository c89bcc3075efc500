"""Changes as data, and their application: a plan is a list of these, readable and testable without root."""

from __future__ import annotations

from cni_plugins.kernel.errors import KernelRefused
from cni_plugins.kernel.rtnetlink import Message, Netlink
from cni_plugins.skeleton.record import Record


class Operation(Record):
    """One change: what it does, in words for errors and logs; the request; refusals that are fine.

    `tolerated` are errno numbers that mean "already so" or "cannot matter here". `subject` names the object
    where callers know the purpose's words by heart.
    """

    purpose: str
    message: Message
    tolerated: tuple[int, ...] = ()
    subject: str = ""


class OperationFailed(Exception):
    """The kernel refused an operation: `operation`, and its `refusal`."""

    def __init__(self, operation: Operation, refusal: KernelRefused) -> None:
        subject = f" [{operation.subject}]" if operation.subject else ""
        super().__init__(f"unable to {operation.purpose}: {refusal}{subject}")
        self.operation = operation
        self.refusal = refusal


def apply(netlink: Netlink, operations: list[Operation]) -> list[Operation]:
    """Carry all out, in order, in one datagram; return those whose refusal was tolerated.

    Raises OperationFailed for the first that was refused; the kernel has tried the later ones all the same,
    so the caller must undo the whole list.
    """
    tolerated = []
    outcomes = netlink.send([operation.message for operation in operations])
    for operation, refusal in zip(operations, outcomes, strict=True):
        if refusal is None:
            continue
        if refusal.errno not in operation.tolerated:
            raise OperationFailed(operation, refusal)
        tolerated.append(operation)
    return tolerated


def undo(netlink: Netlink, operations: list[Operation]) -> list[str]:
    """Carry all out, whatever is refused on the way; return what was refused and not tolerated, in words."""
    outcomes = netlink.send([operation.message for operation in operations])
    return [
        f"unable to {operation.purpose}: {refusal}"
        for operation, refusal in zip(operations, outcomes, strict=True)
        if refusal is not None and refusal.errno not in operation.tolerated
    ]
