"""What is handed to libraries stays in this process: the programs of the network get none of it."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from agent.adapters.cni.invoke import run_plugin
from agent.adapters.cni.plugin_host import HOST, HostLost, Invocation, PluginHost
from agent.settings import Settings, hand_to_libraries
from agent.settings.libraries import FOR_LIBRARIES

SHOW = f"#!{sys.executable} -IS\nimport os, sys\n"
VALUE = "fake-secret-of-a-file"


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for known in FOR_LIBRARIES:
        monkeypatch.setenv(known.name, "x")  # so that monkeypatch restores it
        for name in (known.name, *known.unit):
            monkeypatch.delenv(name, raising=False)
    file = tmp_path / "ecs.config"
    file.write_text("".join(f"{known.name}={VALUE}\n" for known in FOR_LIBRARIES))
    hand_to_libraries(Settings.load({"BERTH_ENV_FILE": str(file)}))
    assert [os.environ[known.name] for known in FOR_LIBRARIES] == [VALUE] * len(FOR_LIBRARIES)


def executable(path: Path, text: str) -> Path:
    path.write_text(SHOW + text)
    path.chmod(0o755)
    return path


def of_libraries(names: str) -> set[str]:
    return set(names.split()) & {known.name for known in FOR_LIBRARIES}


@pytest.mark.usefixtures("keys")
async def test_a_plugin_inherits_no_keys(tmp_path: Path) -> None:
    plugin = executable(tmp_path / "ecs-eni", "print(' '.join(os.environ), 'end')")
    reply = await run_plugin(plugin, {"CNI_COMMAND": "ADD"}, b"{}", 10.0)
    assert {"CNI_COMMAND", "PATH", "end"} <= set(reply.stdout.split())
    assert of_libraries(reply.stdout) == set()


@pytest.mark.usefixtures("keys")
async def test_the_warm_host_inherits_no_keys(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    executable(tmp_path / HOST, f"open({str(seen)!r}, 'w').write(' '.join(os.environ) + ' end')")
    host = PluginHost(tmp_path)
    try:
        with pytest.raises(HostLost):
            await host.run([Invocation("ecs-eni", {}, {})], stops_on_error=True, subject="c1", limit_s=10.0)
        async with asyncio.timeout(10):
            while not seen.exists() or not seen.read_text().endswith("end"):
                await asyncio.sleep(0.01)
    finally:
        await host.aclose()
    assert "PATH" in seen.read_text().split()
    assert of_libraries(seen.read_text()) == set()
