"""Network namespaces in Python 3.11: one thread that may enter them, and their names under /run/netns."""

import asyncio
import ctypes
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

from agent.adapters.local.vpc.errors import KernelRefused, NameTaken

P = ParamSpec("P")
T = TypeVar("T")

DIRECTORY = Path("/run/netns")

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_MS_BIND, _MS_REC, _MS_SHARED = 0x1000, 0x4000, 0x100000  # sys/mount.h
_MNT_DETACH = 2
_NS_GET_NSTYPE = 0xB703  # linux/nsfs.h
_LOST_IN_NAMESPACE = 70  # EX_SOFTWARE
#: Marks the directory when its mount (or the directory itself) is ours to take away again.
_MADE_BY_US = "trusted.berth.made"

_libc = ctypes.CDLL(None, use_errno=True)


class NamespaceThread:
    """One thread for everything that changes its network namespace; the event loop's thread never does.

    All work given to it runs one after the other, so it also serialises changes to the simulated VPC.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="berth-vpc")
        self._home: int | None = None

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of ``work``, done on the thread in its home namespace."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: work(*args, **kwargs))

    def home(self) -> int:
        """A descriptor of the thread's home namespace, owned by this object. To be called on the thread."""
        if self._home is None:
            # thread-self, because /proc/self/ns/net is the main thread's namespace.
            self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        return self._home

    @contextmanager
    def inside(self, namespace: int) -> Iterator[None]:
        """The block runs inside the namespace of that descriptor. To be used on the thread."""
        home = self.home()
        _check(_libc.setns(namespace, _CLONE_NEWNET), "enter a network namespace")
        try:
            yield
        finally:
            if _libc.setns(home, _CLONE_NEWNET) != 0:
                # A thread lost in another namespace would do the next piece of work in the wrong place.
                os._exit(_LOST_IN_NAMESPACE)

    def create(self, name: str) -> int:
        """A new namespace under ``/run/netns/<name>``, as a descriptor. To be called on the thread."""
        home = self.home()
        path = DIRECTORY / name
        _claim(path)
        try:
            # Nobody but this thread is in the new namespace until it has its name.
            _check(_libc.unshare(_CLONE_NEWNET), "create a network namespace")
            try:
                _mount("/proc/thread-self/ns/net", str(path), _MS_BIND)
                return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            finally:
                if _libc.setns(home, _CLONE_NEWNET) != 0:
                    os._exit(_LOST_IN_NAMESPACE)
        except KernelRefused:
            remove(name)
            raise

    async def close(self) -> None:
        """Give the thread and its descriptor back."""
        await self.run(self._close_home)
        self._executor.shutdown(wait=False)

    def _close_home(self) -> None:
        if self._home is not None:
            os.close(self._home)
            self._home = None


def opened(name: str) -> int | None:
    """A descriptor of the named namespace, owned by the caller; None when there is none of that name."""
    try:
        # Never with O_CREAT: that would leave a file which looks like a namespace.
        descriptor = os.open(DIRECTORY / name, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    if _is_network_namespace(descriptor):
        return descriptor
    os.close(descriptor)
    return None


def give_name(descriptor: int, name: str) -> None:
    """Give a namespace that lost its name that name again. Raises NameTaken when another has it."""
    _claim(DIRECTORY / name)
    _mount(f"/proc/self/fd/{descriptor}", str(DIRECTORY / name), _MS_BIND)


def is_same(descriptor: int, name: str) -> bool:
    """Whether the descriptor is the namespace which has that name now."""
    try:
        named = (DIRECTORY / name).stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(descriptor)
    return (mine.st_dev, mine.st_ino) == (named.st_dev, named.st_ino)


def names(prefix: str) -> tuple[str, ...]:
    """All names of namespaces that begin so."""
    try:
        return tuple(sorted(path.name for path in DIRECTORY.iterdir() if path.name.startswith(prefix)))
    except FileNotFoundError:
        return ()


def remove(name: str) -> None:
    """Take the name away; the namespace ends with its last user. Fine when there is none."""
    path = DIRECTORY / name
    while True:
        # More than one mount can lie on the file when the directory was made shared in between.
        if _libc.umount2(os.fsencode(path), _MNT_DETACH) != 0:
            failure = ctypes.get_errno()
            if failure in (errno.EINVAL, errno.ENOENT):
                break
            raise KernelRefused(f"cannot unmount {path}: {os.strerror(failure)}", failure)
    with suppress(FileNotFoundError):
        path.unlink()
    _give_directory_back()


def _claim(path: Path) -> None:
    try:
        _claim_file(path)
    except OSError as error:
        raise KernelRefused(f"cannot create {path}: {error.strerror}; root is needed", error.errno) from error


def _claim_file(path: Path) -> None:
    for _ in range(3):
        _prepare_directory()
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
        except FileExistsError:
            existing = opened(path.name)
            if existing is not None:
                os.close(existing)
                raise NameTaken(f"cannot create network namespace {path}: it exists already") from None
            # A crash between making the file and mounting on it left a plain file. It is taken over.
        except FileNotFoundError:
            continue  # somebody took the empty directory away in between
        return
    raise KernelRefused(f"cannot create {path}: the directory keeps disappearing", errno.ENOENT)


def _prepare_directory() -> None:
    """A directory whose mounts other mount namespaces see too; exactly what ``ip netns add`` would make."""
    made = b"mount"
    try:
        DIRECTORY.mkdir(mode=0o755)
        made = b"directory"
    except FileExistsError:
        pass
    lock = os.open(DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _libc.mount(b"", os.fsencode(DIRECTORY), b"none", _MS_SHARED | _MS_REC, None) == 0:
            return
        _mount(str(DIRECTORY), str(DIRECTORY), _MS_BIND | _MS_REC)
        _mount("", str(DIRECTORY), _MS_SHARED | _MS_REC)
        with suppress(
            OSError
        ):  # a file system without such attributes: then the directory stays behind, empty
            os.setxattr(DIRECTORY, _MADE_BY_US, made)
    finally:
        os.close(lock)


def _give_directory_back() -> None:
    try:
        made = os.getxattr(DIRECTORY, _MADE_BY_US)
        if any(DIRECTORY.iterdir()):
            return
    except OSError:
        return  # not there, or not ours
    # Without MNT_DETACH: if somebody has just mounted a namespace in it, this fails, and that is right.
    if _libc.umount2(os.fsencode(DIRECTORY), 0) != 0:
        return
    with suppress(OSError):
        if made == b"directory":
            DIRECTORY.rmdir()
        else:
            os.removexattr(DIRECTORY, _MADE_BY_US)


def _is_network_namespace(descriptor: int) -> bool:
    try:
        return fcntl.ioctl(descriptor, _NS_GET_NSTYPE) == _CLONE_NEWNET
    except OSError:
        return False


def _mount(source: str, target: str, flags: int) -> None:
    result = _libc.mount(os.fsencode(source), os.fsencode(target), b"none", flags, None)
    _check(result, f"mount on {target}")


def _check(result: int, what: str) -> None:
    if result != 0:
        failure = ctypes.get_errno()
        raise KernelRefused(f"cannot {what}: {os.strerror(failure)}", failure)
