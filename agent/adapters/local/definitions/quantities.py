"""CPU and memory as people write them in task definitions: ``.25vcpu``, ``1 GB``, ``512``."""

import re
from decimal import Decimal

UNITS_PER_VCPU = 1024
MIB_PER_GB = 1024

_NUMBER = r"(?P<number>[0-9]+(\.[0-9]*)?|\.[0-9]+)"
_CPU = re.compile(_NUMBER + r"\s*(?P<unit>vcpu)?", re.IGNORECASE)
_MEMORY = re.compile(_NUMBER + r"\s*(?P<unit>gb)?", re.IGNORECASE)
_LEAST_CPU, _MOST_CPU = 128, 196_608
_MOST_MEMORY = 1 << 24


def cpu_units(text: str) -> int:
    """CPU units (1024 are one core) of ``256``, ``.25vcpu`` or ``1 vCPU``. Raise ``ValueError``."""
    units = _quantity(
        text, _CPU, UNITS_PER_VCPU, "CPU units such as '256' or virtual CPUs such as '.25vcpu' or '1 vCPU'"
    )
    if not _LEAST_CPU <= units <= _MOST_CPU:
        raise ValueError(f"expected {_LEAST_CPU} to {_MOST_CPU} CPU units (0.125 to 192 vCPU)")
    return units


def memory_mib(text: str) -> int:
    """MiB of ``512``, ``1gb`` or ``0.5 GB``. Raise ``ValueError``."""
    mib = _quantity(text, _MEMORY, MIB_PER_GB, "MiB such as '512' or gigabytes such as '1gb' or '0.5 GB'")
    if not 1 <= mib <= _MOST_MEMORY:
        raise ValueError(f"expected 1 to {_MOST_MEMORY} MiB")
    return mib


def _quantity(text: str, pattern: re.Pattern[str], per_unit: int, expected: str) -> int:
    found = pattern.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"expected {expected}")
    number = Decimal(found["number"])
    amount = number * per_unit if found["unit"] else number
    if amount != amount.to_integral_value():
        raise ValueError(f"expected a whole amount: {expected}")
    return int(amount)
