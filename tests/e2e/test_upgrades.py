"""An agent on the state of another version: an older state is taken over, a newer one left alone, tasks run on."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from agent.adapters.files.state import FORMAT, STAMP, Plan, StateDirectory, read_stamp
from tests.e2e.agent_process import Agent, eventually
from tests.e2e.conftest import MakeAgent, expect_nothing_left
from tests.e2e.inside import Containers
from tests.e2e.streams import ECHO, Stream
from tests.e2e.surroundings import Things

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def contents(directory: Path) -> dict[str, tuple[int, int, str]]:
    """Everything in a directory: mode, time of change, hash."""
    return {
        str(path): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in (directory, *directory.rglob("*"))
    }


def refused_on(agent: Agent) -> str:
    """Start the agent on what is there; it must end for good and say why."""
    assert agent.ends() == 5
    return str(agent.said("agent.failed")[-1]["reason"])


def test_an_agent_on_the_state_of_a_newer_one_ends_with_5_and_touches_neither_state_nor_tasks(
    make_agent: MakeAgent, containers: Containers, before: Things
) -> None:
    agent = make_agent()
    agent.start()
    (task,) = agent.started_copies(ECHO, 1)
    identities = containers.identities([task.arn])
    stream = Stream(task.address)
    stream.start()
    try:
        agent.kill()  # so that the newest rows are still in the database's log
        stamp = (agent.data / STAMP).read_bytes()
        StateDirectory(agent.data, Plan("9.9.9", newest=FORMAT + 1)).settle()
        untouched = contents(agent.data)

        reason = refused_on(agent)
        assert f"{agent.data}/{STAMP} has format {FORMAT + 1}" in reason
        assert "Start the newer agent again, or stop the tasks and move" in reason
        assert contents(agent.data) == untouched
        assert containers.identities([task.arn]) == identities
        echoes = stream.echoes
        eventually("the connection lives", lambda: stream.echoes > echoes, seconds=5)

        # what the newer agent would have done to its own state
        (agent.data / STAMP).write_bytes(stamp)
        agent.start()
        agent.all_running([task.arn])
        assert containers.identities([task.arn]) == identities
    finally:
        stream.stop()
    assert stream.problem == ""
    expect_nothing_left(agent, containers.docker, before)


def test_an_agent_takes_over_the_state_and_the_tasks_of_one_that_knew_no_formats(
    make_agent: MakeAgent, containers: Containers, before: Things
) -> None:
    agent = make_agent()
    agent.start()
    tasks = agent.started_copies(ECHO, 2)
    arns = [task.arn for task in tasks]
    identities = containers.identities(arns)
    agent.kill()
    (agent.data / STAMP).unlink()
    for path in (agent.data / "tasks").glob("*.json"):
        record = json.loads(path.read_bytes())
        path.write_text(json.dumps({"version": record["version"], "task": record["task"]}))

    agent.start()
    agent.all_running(arns)
    assert containers.identities(arns) == identities
    assert read_stamp(agent.data).format == FORMAT
    assert not (agent.data / "tasks" / "broken").exists()
    assert agent.said("checkpoint.set_aside") == []
    expect_nothing_left(agent, containers.docker, before)
