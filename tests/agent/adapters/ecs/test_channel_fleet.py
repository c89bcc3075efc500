"""Promise 8: after an outage a fleet comes back without a stampede."""

import asyncio
import math
from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from agent.adapters.ecs.channel import CONTROL_TIMES, TELEMETRY_TIMES, Channel
from agent.adapters.ecs.channel_socket import CannotDial
from agent.adapters.ecs.channel_times import Between
from tests.agent.adapters.ecs.channel_world import URL, FakeHealth, FakeSigner, FakeSocket

AGENTS = 1000
WINDOWS = 20
"""The peak is looked for in windows of a twentieth of the time that the fleet takes to be back."""

NEVER = Between(10.0**9, 10.0**9)


class Fleet:
    """Many channels to one peer, which closes all connections at ``down``, and takes new ones from ``up`` on."""

    def __init__(self, jumping, times, outage):
        self.jumping = jumping
        # the outage is what is looked at; silence and age have tests of their own
        self.times = replace(times, inactivity=NEVER, read=10.0**9, max_age=NEVER)
        self.down = 300.0
        self.up = self.down + outage
        self.sockets = []
        self.back = []

    async def dial(self, url, headers):
        now = asyncio.get_running_loop().time()
        if self.down <= now < self.up:
            raise CannotDial("connection refused")
        if now >= self.up:
            self.back.append(now)
        self.sockets.append(FakeSocket())
        return self.sockets[-1]

    def run(self):
        async def url():
            return URL

        async def converse(conversation):
            async for _ in conversation.texts():
                continue

        async def live():
            async with asyncio.TaskGroup() as group:
                running = []
                for number in range(AGENTS):
                    channel = Channel(
                        "control", url=url, signer=FakeSigner(), http=None, converse=converse,
                        on_inactive=lambda: None, times=self.times, clock=self.jumping.clock,
                        health=FakeHealth(), dialer=self, random=Random(number),
                    )  # fmt: skip
                    running.append(group.create_task(channel.run()))
                await asyncio.sleep(self.down)
                for socket in self.sockets:
                    socket.end(1001)
                await asyncio.sleep(self.up - self.down + 400)
                for task in running:
                    task.cancel()

        self.jumping.run(live())


@pytest.mark.parametrize("outage", [0.0, 5.0, 60.0, 600.0])
@pytest.mark.parametrize("times", [CONTROL_TIMES, TELEMETRY_TIMES], ids=["control", "telemetry"])
def test_a_thousand_agents_reconnect_with_a_peak_below_five_times_the_mean(jumping, quiet, times, outage):
    fleet = Fleet(jumping, times, outage)
    fleet.run()
    assert len(fleet.back) == AGENTS
    first, last = min(fleet.back), max(fleet.back)
    width = (last - first) / WINDOWS
    peak = max(Counter(min(math.floor((at - first) / width), WINDOWS - 1) for at in fleet.back).values())
    mean = AGENTS / WINDOWS
    assert peak <= 5 * mean
    assert last - fleet.up <= times.back_off.most * 1.2 + 1
    print(f"outage {outage:g} s: back in {last - first:.1f} s, peak {peak / mean:.2f} x the mean")


@pytest.fixture
def quiet():
    """Tens of thousands of log lines are of no use here."""
    from structlog.testing import capture_logs

    with capture_logs() as logs:
        yield logs
