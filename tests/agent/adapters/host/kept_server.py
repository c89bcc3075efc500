"""A process that serves as the agent does and has its socket kept: to be killed again and again.

``systemd PORT``, or ``container PORT DIRECTORY IMAGE_ID NAME ARCHIVE`` for the keeper's container.
"""

import asyncio
import socket
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import structlog
from aiohttp import web

from agent.adapters.docker.keeper import KeeperContainer, KeeperSettings
from agent.adapters.docker.settings import DockerSettings, PauseImage
from agent.adapters.host.descriptor_store import DescriptorStore
from agent.adapters.host.keeping import SocketKeeper
from agent.adapters.host.notify import Notifier
from agent.adapters.host.program_keeper import ProgramKeeper
from agent.adapters.host.sockets import EndpointSockets
from agent.endpoints.health import HealthBoard
from agent.endpoints.serving import Served
from agent.settings import supervision
from tests.fakes.clock import FakeClock


class Announced:
    """Says on the output when something is kept."""

    def __init__(self, keeper: SocketKeeper) -> None:
        self._keeper = keeper

    async def recover(self) -> Mapping[str, socket.socket]:
        return await self._keeper.recover()

    async def keep(self, name: str, listening: socket.socket) -> None:
        await self._keeper.keep(name, listening)
        while not getattr(self._keeper, "_given", True):
            await asyncio.sleep(0.01)
        print("kept", flush=True)

    async def forget(self, name: str) -> bool:
        return await self._keeper.forget(name)

    async def run(self) -> None:
        await self._keeper.run()


def by_systemd() -> SocketKeeper:
    given = supervision()
    return DescriptorStore(Notifier(given.notify_socket, HealthBoard(FakeClock())), given.received)


def by_container(directory: str, image_id: str, name: str, archive: str) -> SocketKeeper:
    image = PauseImage(image_id, name, Path(archive))
    settings = KeeperSettings(image, Path(directory), timedelta(seconds=30))
    container = KeeperContainer(DockerSettings("c", image), settings)
    return ProgramKeeper(Path(directory), container, HealthBoard(FakeClock()))


async def main(port: int, keeper: SocketKeeper) -> None:
    board = HealthBoard(FakeClock())
    sockets = EndpointSockets(
        board, required=("lo",), optional=(), address="127.0.0.1", port=port, keeper=keeper
    )
    application = web.Application()
    application.router.add_get("/", _hello)

    async def serve(served: Served) -> None:
        async for listener in sockets.listeners():
            await served.listen(listener.interface, listener.socket)

    async with Served(application) as served, asyncio.TaskGroup() as group:
        group.create_task(keeper.run())
        group.create_task(serve(served))


async def _hello(_: web.Request) -> web.Response:
    return web.Response(text="hello")


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    kind, number, *others = sys.argv[1:]
    asyncio.run(main(int(number), Announced(by_systemd() if kind == "systemd" else by_container(*others))))
