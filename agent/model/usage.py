"""What a container uses of the machine, as the kernel counts it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LinkUsage:
    """What has gone over a network link since it was made. Seen from inside: ``rx`` is what came in."""

    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What a container has used up to a moment. None: this machine does not tell.

    ``at``: when the processor time was read, in seconds of a clock that never jumps; only differences mean
    something. ``cpu``: processor time since the container's start, in nanoseconds, over all cores.
    ``memory``: bytes in use now, without the page cache. ``storage_read`` and ``storage_written``: bytes
    since the start. ``link``: the counters of the network link that was asked for.
    """

    at: float
    cpu: int | None = None
    memory: int | None = None
    storage_read: int | None = None
    storage_written: int | None = None
    link: LinkUsage | None = None
