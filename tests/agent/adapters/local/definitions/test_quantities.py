"""How people write CPU and memory."""

import pytest

from agent.adapters.local.definitions.quantities import cpu_units, memory_mib


@pytest.mark.parametrize(
    ("text", "units"),
    [("256", 256), (".25vcpu", 256), ("0.25 vCPU", 256), ("1 vCPU", 1024), ("2VCPU", 2048), (" 128 ", 128), ("192 vcpu", 196608)],
)  # fmt: skip
def test_cpu_is_read(text, units):
    assert cpu_units(text) == units


@pytest.mark.parametrize(
    ("text", "mib"), [("512", 512), ("1gb", 1024), ("1 GB", 1024), (".5gb", 512), ("0.5 GB", 512), ("30GB", 30720)]
)  # fmt: skip
def test_memory_is_read(text, mib):
    assert memory_mib(text) == mib


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "1 core", "1e3", "0.0001vcpu", "127", "193 vcpu", ".", "١٢٨"]
)
def test_no_cpu_is_refused(text):
    with pytest.raises(ValueError, match="expected"):
        cpu_units(text)


@pytest.mark.parametrize("text", ["", "x", "-1", "0", "1tb", "1.5", ".gb", "0.0001gb", "9" * 5000])
def test_no_memory_is_refused(text):
    with pytest.raises(ValueError, match="expected"):
        memory_mib(text)
