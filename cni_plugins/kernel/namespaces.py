"""Network namespaces by file descriptor: open, check, and make sockets inside. Only in a plugin process."""

from __future__ import annotations

import posix
from fcntl import ioctl

from cni_plugins.kernel.rtnetlink import Netlink
from cni_plugins.skeleton.arguments import Arguments
from cni_plugins.skeleton.errors import FAILED, INVALID_NETNS, CniError

_CLONE_NEWNET = 0x40000000
_NS_GET_NSTYPE = 0xB703  # ioctl_ns(2); answers on namespace files only
_HOME = "/proc/self/ns/net"


class Namespace:
    """An open network namespace."""

    def __init__(self, descriptor: int, path: str) -> None:
        self.descriptor = descriptor
        self.path = path

    def close(self) -> None:
        """Give the descriptor back."""
        posix.close(self.descriptor)

    def netlink(self, groups: int = 0) -> Netlink:
        """A netlink socket inside. The process is inside for the socket's creation only."""
        with Visit(self):
            return Netlink(groups)


class Visit:
    """Be inside a namespace for the length of a with block.

    If the way back is closed the process ends at once: in a foreign namespace it could only do harm.
    """

    def __init__(self, there: Namespace) -> None:
        self._there = there

    def __enter__(self) -> None:
        self._home = posix.open(_HOME, posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            _enter(self._there.descriptor)
        except OSError as error:
            posix.close(self._home)
            raise CniError(FAILED, f"cannot enter the namespace {self._there.path}: {error}") from error

    def __exit__(self, *_: object) -> None:
        try:
            _enter(self._home)
        except OSError:
            posix._exit(70)  # noqa: SLF001 -- EX_SOFTWARE
        posix.close(self._home)


def home() -> Namespace:
    """The namespace in which this process runs: the host's, as far as a plugin is concerned."""
    return Namespace(posix.open(_HOME, posix.O_RDONLY | posix.O_CLOEXEC), _HOME)


def find_namespace(path: str) -> Namespace | None:
    """Open a namespace file; None if there is nothing at that path. Raises CniError if it is none."""
    try:
        descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError, NotADirectoryError):
        return None
    except OSError as error:
        raise CniError(FAILED, f"failed to open netns {path!r}: {error.strerror}") from error
    try:
        kind = ioctl(descriptor, _NS_GET_NSTYPE)
    except OSError:
        kind = 0
    if kind != _CLONE_NEWNET:
        posix.close(descriptor)
        raise CniError(FAILED, f"unknown FS magic on {path!r}: not a network namespace")
    return Namespace(descriptor, path)


def open_namespace(arguments: Arguments) -> Namespace:
    """Open CNI_NETNS for ADD and CHECK. Raises CniError 100 if it is missing, 8 if it is our own."""
    found = find_namespace(arguments.netns)
    if found is None:
        raise CniError(FAILED, f"failed to Statfs {arguments.netns!r}: no such file or directory")
    require_other(found, arguments)
    return found


def require_other(namespace: Namespace, arguments: Arguments) -> None:
    """Raise CniError 8 if this process runs in that namespace and the caller did not waive the check."""
    here, there = posix.stat(_HOME), posix.fstat(namespace.descriptor)
    if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino) and not arguments.may_share_netns:
        namespace.close()
        raise CniError(INVALID_NETNS, f"the plugin runs inside CNI_NETNS {arguments.netns!r} itself")


def _enter(descriptor: int) -> None:
    if hasattr(posix, "setns"):  # Python 3.12
        posix.setns(descriptor, _CLONE_NEWNET)
        return
    # Python 3.11 has no os.setns, and importing ctypes costs 4 ms; its C half alone costs half a millisecond.
    import _ctypes  # noqa: PLC0415 -- only where it is needed

    address = _ctypes.dlsym(_ctypes.dlopen(None, 0), "setns")  # type: ignore[arg-type]
    if _ctypes.call_function(address, (descriptor, _CLONE_NEWNET)) != 0:
        # The descriptor was checked to be a network namespace, so only the right to enter can be missing.
        raise PermissionError(1, "setns refused: CAP_SYS_ADMIN is needed")
