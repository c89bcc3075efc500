"""How long a channel waits, for what, and how much chance is in it (ecs-protocol 2.3 and 3.1)."""

import math
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Between:
    """A length of time in seconds that is drawn anew each time, so that a fleet does not act as one."""

    least: float
    most: float

    def draw(self, random: Random) -> float:
        """Some seconds between the two, both included."""
        return random.uniform(self.least, self.most)


@dataclass(frozen=True, slots=True)
class BackOffRule:
    """``least`` seconds first, ``factor`` times as many after each failure up to ``most``.

    Each wait is then lengthened or shortened, by up to the fraction ``jitter``.
    """

    least: float
    most: float
    factor: float
    jitter: float


class BackOff:
    """The waits of one client that fails again and again.

    Each row of waits begins somewhere between the first and the second of the rule. With the jitter alone, a
    fleet that was cut off at one moment would climb the same steps together, and come back in a few crowds.
    """

    def __init__(self, rule: BackOffRule, random: Random) -> None:
        self._rule = rule
        self._random = random
        self._next = self._first()

    def next(self) -> float:
        """Seconds to wait now; the next answer is longer."""
        wait = self._next
        self._next = min(wait * self._rule.factor, self._rule.most)
        return wait * self._random.uniform(1 - self._rule.jitter, 1 + self._rule.jitter)

    def reset(self) -> None:
        """Things went well: the next wait is among the shortest again."""
        self._next = self._first()

    def _first(self) -> float:
        return self._rule.least * math.pow(self._rule.factor, self._random.random())


@dataclass(frozen=True, slots=True)
class ChannelTimes:
    """The timers of one channel, all in seconds. Only ``back_off`` differs between the two channels.

    From the protocol: ``connect`` (name, TCP, proxy and TLS) and ``handshake`` (until the answer to the
    upgrade) bound the dialling. ``read`` and ``inactivity`` run from the last message that was understood;
    the one that ends first closes the connection. ``write`` bounds one send. A connection older than
    ``max_age`` is exchanged. After ``settled`` of a live session the back-off is forgotten. ``inactive`` is
    the wait after the cluster said that this instance is inactive.

    Ours: ``prepare`` bounds finding the endpoint and signing (the endpoint's own call takes up to 126 s).
    ``at_once`` spreads the reconnect after a close of the peer, which may close a whole fleet at the same
    moment. A session shorter than ``short`` counts as a failure even if it was closed properly. ``closing``
    bounds the wait for the peer's half of a close, ``linger`` what a conversation may take to end after its
    connection has, ``tolerated`` the time without a connection after which it is a problem, ``telling`` what
    whoever is told that the instance is inactive may take.
    """

    back_off: BackOffRule
    connect: float = 30.0
    handshake: float = 30.0
    read: float = 180.0
    write: float = 180.0
    inactivity: Between = Between(60.0, 120.0)
    max_age: Between = Between(1800.0, 2100.0)
    settled: Between = Between(60.0, 120.0)
    inactive: float = 3600.0
    prepare: float = 150.0
    at_once: Between = Between(0.0, 1.0)
    short: float = 5.0
    closing: float = 5.0
    linger: float = 5.0
    tolerated: float = 60.0
    telling: float = 60.0

    @property
    def longest_attempt(self) -> float:
        """Within which a channel that gets on has connected, or given that up, and told whom it must tell."""
        return self.prepare + self.connect + self.handshake + self.telling

    @property
    def longest_silence(self) -> float:
        """Within which a connection on which nothing is heard has ended, with its conversation."""
        return self.read + self.closing + self.linger


CONTROL_TIMES = ChannelTimes(BackOffRule(least=0.25, most=120.0, factor=1.5, jitter=0.2))
"""The control channel (ecs-protocol 2.3)."""

TELEMETRY_TIMES = ChannelTimes(BackOffRule(least=1.0, most=60.0, factor=2.0, jitter=0.2))
"""The telemetry channel (ecs-protocol 3.1)."""
