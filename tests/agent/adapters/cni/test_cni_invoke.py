"""A plugin gets what it should and nothing else, and nothing of it survives its limit."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from agent.adapters.cni import invoke
from agent.adapters.cni.invoke import run_plugin
from agent.adapters.cni.replies import PluginTimedOut
from agent.model.errors import CannotAttachNetwork


@pytest.fixture
def script(tmp_path):
    def write(text: str, name: str = "ecs-odd") -> Path:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    return write


def marked(mark: Path) -> list[int]:
    """Live processes that have the mark in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"MARK={mark}".encode() in (entry / "environ").read_bytes().split(
                b"\0"
            ):
                found.append(int(entry.name))
        except OSError:
            continue  # it has just ended
    return found


async def until_gone(pid: int) -> None:
    async with asyncio.timeout(5):
        while is_alive(pid):
            await asyncio.sleep(0.005)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def pid_in(path: Path) -> int:
    async with asyncio.timeout(5):
        while not path.exists() or not path.read_text().endswith("\n"):
            await asyncio.sleep(0.005)
    return int(path.read_text())


async def test_a_plugin_gets_its_environment_and_stdin_and_nothing_else(script, monkeypatch):
    monkeypatch.setenv("BERTH_LEAKED", "yes")
    reply = await run_plugin(
        script("env; cat; echo grumble >&2; exit 3"), {"CNI_COMMAND": "ADD"}, b'{"a":1}', 5
    )
    assert reply.exit == 3
    assert reply.stderr == "grumble\n"
    *environment, stdin = reply.stdout.splitlines()
    names = {line.partition("=")[0] for line in environment}
    assert names - {"_", "SHLVL", "OLDPWD"} == {"CNI_COMMAND", "PATH", "PWD"}
    assert stdin == '{"a":1}'


async def test_a_plugin_that_reads_no_stdin_is_fine(script):
    reply = await run_plugin(script("exit 0"), {}, b"x" * 500_000, 5)
    assert reply.exit == 0


async def test_the_end_by_a_signal_is_a_negative_status(script):
    assert (await run_plugin(script("kill -SEGV $$"), {}, b"", 5)).exit == -11


async def test_a_plugin_that_hangs_is_killed_with_its_children(script, tmp_path):
    hanging = script(
        f"trap '' TERM\nsleep 300 & echo $! > {tmp_path}/child\necho $$ > {tmp_path}/pid\nwait\nsleep 300"
    )
    started = time.monotonic()
    with pytest.raises(PluginTimedOut, match=r"ecs-odd: did not end within 0\.2 s and was killed"):
        await run_plugin(hanging, {}, b"", 0.2)
    assert time.monotonic() - started < 3
    await until_gone(await pid_in(tmp_path / "pid"))
    await until_gone(await pid_in(tmp_path / "child"))


async def test_a_plugin_that_is_told_to_end_may_undo_what_it_began(script, tmp_path):
    undoing = script(f"trap 'echo undone > {tmp_path}/undone; exit 1' TERM\nsleep 300 & wait")
    with pytest.raises(PluginTimedOut):
        await run_plugin(undoing, {}, b"", 0.2)
    assert (tmp_path / "undone").read_text() == "undone\n"


async def test_a_cancelled_call_leaves_no_process(script, tmp_path):
    hanging = script(f"sleep 300 & echo $! > {tmp_path}/child\necho $$ > {tmp_path}/pid\nwait")
    async with asyncio.TaskGroup() as group:
        running = group.create_task(run_plugin(hanging, {}, b"", 60))
        pid, child = await pid_in(tmp_path / "pid"), await pid_in(tmp_path / "child")
        running.cancel()
    assert running.cancelled()
    await until_gone(pid)
    await until_gone(child)


async def test_a_call_that_is_cancelled_at_any_moment_ends_soon_and_leaves_no_process(script, tmp_path):
    hanging = script("sleep 300 & wait")
    for turns in range(12):
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            running = group.create_task(run_plugin(hanging, {"MARK": str(tmp_path)}, b"", 60))
            for _ in range(turns):
                await asyncio.sleep(0)
            running.cancel()
        assert running.cancelled()
    async with asyncio.timeout(5):
        while marked(tmp_path):
            await asyncio.sleep(0.005)


async def test_a_grandchild_that_keeps_the_output_open_neither_delays_nor_survives(script, tmp_path):
    forking = script(f"sleep 300 & echo $! > {tmp_path}/child\necho '{{}}'")
    started = time.monotonic()
    reply = await run_plugin(forking, {}, b"", 30)
    assert reply.stdout == "{}\n"
    assert time.monotonic() - started < 3
    await until_gone(await pid_in(tmp_path / "child"))


async def test_a_flood_is_cut_off(script, tmp_path):
    flooding = script(f"echo $$ > {tmp_path}/pid\nyes rubbish")
    with pytest.raises(CannotAttachNetwork, match="ecs-odd: printed more than 1048576 bytes and was killed"):
        await run_plugin(flooding, {}, b"", 30)
    await until_gone(await pid_in(tmp_path / "pid"))


async def test_of_endless_complaints_the_end_is_kept(script):
    reply = await run_plugin(
        script("yes noise | head -c 300000 >&2; echo the cause >&2; exit 1"), {}, b"", 30
    )
    assert reply.stderr.endswith("the cause\n")
    assert len(reply.stderr) <= 4096


async def test_a_missing_plugin_is_named_with_its_path_and_what_to_do(tmp_path):
    with pytest.raises(CannotAttachNetwork) as caught:
        await run_plugin(tmp_path / "ecs-eni", {}, b"", 5)
    assert str(tmp_path / "ecs-eni") in str(caught.value)
    assert "install the plugins there" in str(caught.value)


async def test_a_plugin_that_is_not_executable_is_named_with_what_to_do(script):
    path = script("exit 0")
    path.chmod(0o644)
    with pytest.raises(CannotAttachNetwork, match=r"is not executable; set its execute bit"):
        await run_plugin(path, {}, b"", 5)


async def test_a_file_that_is_no_program_is_named_with_the_cause(tmp_path):
    path = tmp_path / "ecs-odd"
    path.write_bytes(b"\x00\x01\x02")
    path.chmod(0o755)
    with pytest.raises(CannotAttachNetwork, match=r"ecs-odd: cannot run .*: Exec format error"):
        await run_plugin(path, {}, b"", 5)


async def test_a_plugin_that_is_being_replaced_is_tried_again(script):
    path = script("echo '{}'")
    writer = os.open(path, os.O_WRONLY)

    async def finish() -> None:
        await asyncio.sleep(0.05)
        os.close(writer)

    async with asyncio.TaskGroup() as group:
        running = group.create_task(run_plugin(path, {}, b"", 5))
        group.create_task(finish())
    assert running.result().stdout == "{}\n"


async def test_a_plugin_that_stays_busy_is_an_error(script, monkeypatch):
    monkeypatch.setattr(invoke, "_BUSY_PAUSES_S", (0.001,))
    path = script("exit 0")
    writer = os.open(path, os.O_WRONLY)
    try:
        with pytest.raises(CannotAttachNetwork, match="Text file busy"):
            await run_plugin(path, {}, b"", 5)
    finally:
        os.close(writer)


async def test_many_plugins_may_run_at_once(script):
    path = script("cat")
    replies = await asyncio.gather(*(run_plugin(path, {}, f"{n}".encode(), 30) for n in range(20)))
    assert [reply.stdout for reply in replies] == [str(n) for n in range(20)]
