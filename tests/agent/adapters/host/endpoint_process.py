"""The endpoint as the daemon wires it, for two-namespace tests. Commands on stdin: ``look``, ``remove``."""

import asyncio
import logging
import sys

import structlog

from agent.adapters.host.plumbing import HostPlumbing
from agent.adapters.host.rules import FirewallPlan
from agent.endpoints.audit import AuditLog
from agent.endpoints.credentials import credentials_application
from agent.endpoints.health import HealthBoard
from agent.endpoints.serving import Served
from agent.model.errors import CannotStart
from tests.agent.endpoints.asking import a_task
from tests.fakes.clock import FakeClock
from tests.fakes.credentials import FakeCredentials
from tests.fakes.directory import FakeDirectory


async def accept(plumbing, served):
    async for listener in plumbing.listeners():
        await served.listen(listener.interface, listener.socket)
        if set(served.names) >= {"lo", "ecs-bridge"}:
            print("ready", *served.names)


async def obey(plumbing, board):
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(commands), sys.stdin
    )
    while line := await commands.readline():
        command = line.decode().strip()
        if command == "look":
            await plumbing.look_again()
            print("health", {entry.component: entry.reason for entry in board.snapshot()})
        elif command == "remove":
            print("removed", await plumbing.remove())


async def main(port, addresses):
    clock = FakeClock()
    board = HealthBoard(clock)
    directory = FakeDirectory(*(a_task(number, address) for number, address in enumerate(addresses, 1)))
    application = credentials_application(
        directory, FakeCredentials(clock), clock, AuditLog(None, clock, board)
    )
    plumbing = HostPlumbing(FirewallPlan(port=port), board)
    await plumbing.ensure()
    print("prepared")
    async with Served(application) as served, asyncio.TaskGroup() as group:
        group.create_task(accept(plumbing, served))
        group.create_task(obey(plumbing, board))


def leaves(error):
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]


if __name__ == "__main__":
    # nobody reads the output all the time, and a full pipe stops the process
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    try:
        asyncio.run(main(int(sys.argv[1]), sys.argv[2:]))
    except (CannotStart, BaseExceptionGroup) as failure:
        print("cannot start:", *leaves(failure))
        sys.exit(1)
