"""`python -m cni_plugins.ipam`: the executable's entry."""

import posix

from cni_plugins.ipam.plugin import PLUGIN
from cni_plugins.skeleton.run import main

if __name__ == "__main__":
    posix._exit(main(PLUGIN))  # noqa: SLF001 -- tearing the interpreter down would cost another millisecond
