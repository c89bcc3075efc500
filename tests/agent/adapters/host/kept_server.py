"""A process that serves as the agent does, with the keeper of a directory: to be killed again and again."""

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

import structlog
from aiohttp import web

from agent.adapters.docker.keeper import KeeperContainer, KeeperSettings
from agent.adapters.docker.settings import DockerSettings, PauseImage
from agent.adapters.host.program_keeper import ProgramKeeper
from agent.adapters.host.sockets import EndpointSockets
from agent.endpoints.health import HealthBoard
from agent.endpoints.serving import Served
from tests.fakes.clock import FakeClock


async def main(directory: Path, port: int, image: PauseImage) -> None:
    board = HealthBoard(FakeClock())
    container = KeeperContainer(
        DockerSettings("c", image), KeeperSettings(image, directory, timedelta(seconds=30))
    )
    keeper = ProgramKeeper(directory, container, board)
    sockets = EndpointSockets(
        board, required=("lo",), optional=(), address="127.0.0.1", port=port, keeper=keeper
    )
    application = web.Application()
    application.router.add_get("/", _hello)

    async def serve(served: Served) -> None:
        async for listener in sockets.listeners():
            await served.listen(listener.interface, listener.socket)

    async def say_when_kept() -> None:
        while not keeper._given:
            await asyncio.sleep(0.01)
        print("kept", flush=True)

    async with Served(application) as served, asyncio.TaskGroup() as group:
        group.create_task(keeper.run())
        group.create_task(serve(served))
        group.create_task(say_when_kept())


async def _hello(_: web.Request) -> web.Response:
    return web.Response(text="hello")


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    place, number, image_id, name, archive = sys.argv[1:]
    asyncio.run(main(Path(place), int(number), PauseImage(image_id, name, Path(archive))))
