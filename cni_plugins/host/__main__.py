"""`ecs-plugin-host`: serve the socket on descriptor 0."""

import posix
import sys

from cni_plugins.host.zygote import Zygote
from cni_plugins.skeleton import document, stamp

if __name__ == "__main__":
    if sys.argv[1:] == ["--version"]:
        version = {"version": stamp.VERSION, "dirty": stamp.DIRTY, "gitShortHash": stamp.GIT_SHORT_HASH}
        posix.write(1, document.encode(version).encode() + b"\n")
        posix._exit(0)  # noqa: SLF001 -- as below
    Zygote(0).serve()
    posix._exit(0)  # noqa: SLF001 -- tearing the interpreter down would only cost time
