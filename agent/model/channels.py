"""How the connections to the control plane are, as data."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ChannelState(StrEnum):
    """Whether a channel can be used. ``INACTIVE``: the cluster refuses this instance until it registers."""

    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    INACTIVE = "inactive"


@dataclass(frozen=True, slots=True)
class ChannelStatus:
    """One channel.

    ``since``: when it got into this state. ``last_message_at``: when the peer last said something that was
    understood; None: never. ``problem``: why it is not connected, as a sentence; None while it is.
    """

    name: str
    state: ChannelState
    since: datetime
    last_message_at: datetime | None
    problem: str | None
