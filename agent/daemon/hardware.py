"""What this machine is made of."""

import os
import platform

from agent.model.errors import CannotStart

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""The kernel's names of the machines that berth supports, and Docker's."""


def architecture() -> str:
    """Docker's name of this machine's kind. Raise ``CannotStart`` if berth does not run on it."""
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise CannotStart(
            f"this machine is a {machine}; berth runs on {' and '.join(ARCHITECTURES)}", is_final=True
        )
    return ARCHITECTURES[machine]


def cpu_units() -> int:
    """All processors of this machine, in CPU units: 1024 for each."""
    return (os.cpu_count() or 1) * 1024


def memory_mib() -> int:
    """All memory of this machine, in MiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (1024 * 1024)
