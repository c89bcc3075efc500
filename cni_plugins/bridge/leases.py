"""How ecs-bridge gets its addresses: any IPAM plugin by exec, the bundled one in this very process."""

from __future__ import annotations

import sys

from cni_plugins.bridge.config import BridgeConfig
from cni_plugins.skeleton import delegate
from cni_plugins.skeleton.run import Call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.skeleton.run import Plugin

_BUNDLED = "ecs-ipam"


class Ipam:
    """The IPAM plugin of one call. Raises CniError 7 when made if the plugin does not exist."""

    def __init__(self, config: BridgeConfig, call: Call) -> None:
        self._call = call
        self._found = delegate.find(config.ipam_type, call.arguments)
        # Starting a second interpreter would cost 15 ms for what takes one; the code is the same.
        self._is_bundled = self._found.type == _BUNDLED and _directory(self._found.file) == _own_directory()

    def add(self) -> dict[str, object]:
        """A result object."""
        return _bundled().add(self._call) if self._is_bundled else self._run()

    def delete(self) -> None:
        """Give the addresses back; also undoes an ADD."""
        if self._is_bundled:
            _bundled().delete(self._call)
        else:
            self._run("DEL")

    def check(self) -> None:
        """Pass CHECK on."""
        if self._is_bundled:
            _bundled().check(self._call)
        else:
            self._run()

    def collect(self) -> None:
        """Pass GC on."""
        if self._is_bundled:
            _bundled().collect(self._call)
        else:
            self._run()

    def status(self) -> None:
        """Pass STATUS on."""
        if self._is_bundled:
            _bundled().status(self._call)
        else:
            self._run()

    def _run(self, command: str = "") -> dict[str, object]:
        return delegate.run(self._found, self._call.arguments, self._call.config.stdin, command)


def _bundled() -> Plugin:
    from cni_plugins.ipam.plugin import PLUGIN  # noqa: PLC0415 -- a DEL without ipam need not load it

    return PLUGIN


def _own_directory() -> str:
    return _directory(sys.argv[0])


def _directory(file: str) -> str:
    return file.rpartition("/")[0].rstrip("/")
