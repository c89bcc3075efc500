"""The SDK's client with connections that are used again, and with none left open when the daemon is away."""

import socket
from collections.abc import Mapping

from docker import APIClient
from docker.transport import UnixHTTPAdapter
from docker.transport.unixconn import UnixHTTPConnection, UnixHTTPConnectionPool

from agent.adapters.docker.dial import connect

_KEPT_CONNECTIONS = 16
_UNIX = "unix://"
_SCHEME = "http+docker://"


def new_client(host: str, version: str, seconds: int) -> APIClient:
    """A client for one time limit. Asks the daemon nothing."""
    client = APIClient(base_url=host, version=version, timeout=seconds, max_pool_size=_KEPT_CONNECTIONS)
    if host.startswith(_UNIX):
        client.mount(_SCHEME, _Adapter(host.removeprefix(_UNIX), seconds, max_pool_size=_KEPT_CONNECTIONS))
    return client


class _Adapter(UnixHTTPAdapter):
    """The SDK keeps a pool of connections per URL, so that next to none is ever used again. One is enough."""

    def get_connection(
        self, url: str | bytes, proxies: Mapping[str, str] | None = None
    ) -> UnixHTTPConnectionPool:
        del url, proxies
        with self.pools.lock:
            pool: UnixHTTPConnectionPool | None = self.pools.get(_SCHEME)
            if pool is None:
                pool = _Pool(_SCHEME, self.socket_path, self.timeout, maxsize=self.max_pool_size)
                self.pools[_SCHEME] = pool
            return pool


class _Pool(UnixHTTPConnectionPool):
    def _new_conn(self) -> UnixHTTPConnection:  # type: ignore[override]
        return _Connection(self.base_url, self.socket_path, self.timeout)  # type: ignore[arg-type]


class _Connection(UnixHTTPConnection):
    """The SDK leaves its socket open when the daemon is not there."""

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.timeout)
            connect(sock, self.unix_socket)
        except OSError:
            sock.close()
            raise
        self.sock = sock
