"""What containers have printed, read through Docker's API and freed of its framing."""

from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from datetime import timedelta

import requests
from docker import APIClient

from agent.adapters.docker.connection import Connection, Lane
from agent.adapters.docker.streams import Stream
from agent.model.ids import ContainerId
from agent.ports.runtime import LogQuery

_HEADER = 8
_AHEAD = 64
_CHUNK = 65_536


async def read_logs(
    connection: Connection,
    host: str,
    container_id: ContainerId,
    wanted: LogQuery,
    *,
    open_limit: timedelta,
) -> AsyncIterator[bytes]:
    """Yield output in order, standard output and error mixed. Raise ``RuntimeUnavailable``."""
    has_terminal = await connection.call(
        Lane.LOOK,
        lambda client: bool((client.inspect_container(container_id).get("Config") or {}).get("Tty")),
        limit=open_limit,
        transition="inspecting",
    )

    def request(client: APIClient, seconds: float) -> requests.Response:
        return client.get(
            f"{client.base_url}/v{client.api_version}/containers/{container_id}/logs",
            params={
                "stdout": "1",
                "stderr": "1",
                "follow": "1" if wanted.follow else "0",
                "tail": "all" if wanted.tail is None else str(max(wanted.tail, 0)),
                "timestamps": "1" if wanted.timestamps else "0",
            }
            | ({} if wanted.since is None else {"since": f"{wanted.since:.9f}"}),
            stream=True,
            timeout=seconds,
        )

    parse = _raw if has_terminal else _demultiplexed
    stream = Stream(connection, host, request, parse, open_limit=open_limit, ahead=_AHEAD)
    with closing(stream):
        await stream.open()
        async for part in stream.parts():
            yield part


class Demultiplexer:
    """Takes Docker's frames apart: one byte of stream, three of nothing, four of length, then the output."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The outputs that are complete now. What is not is kept for the next call."""
        self._rest += data
        outputs: list[bytes] = []
        while len(self._rest) >= _HEADER:
            end = _HEADER + int.from_bytes(self._rest[4:_HEADER], "big")
            if len(self._rest) < end:
                break
            if end > _HEADER:
                outputs.append(bytes(self._rest[_HEADER:end]))
            del self._rest[:end]
        return outputs


def _raw(response: requests.Response) -> Iterator[bytes]:
    return (chunk for chunk in response.raw.stream(_CHUNK, decode_content=False) if chunk)


def _demultiplexed(response: requests.Response) -> Iterator[bytes]:
    demultiplexer = Demultiplexer()
    for chunk in _raw(response):
        yield from demultiplexer.feed(chunk)
