"""What the agent wrote down is broken when it starts: set aside, rebuilt from what runs, never a crash loop."""

import json
import sqlite3
import time

import pytest

from tests.e2e.agent_process import eventually
from tests.e2e.conftest import MakeAgent, expect_nothing_left
from tests.e2e.inside import Containers
from tests.e2e.streams import ECHO, Stream
from tests.e2e.surroundings import Things
from tests.e2e.task_definitions import a_definition

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

WEB = a_definition("web", {"name": "web"})


def test_tasks_whose_records_are_broken_run_on_and_are_known_again(
    make_agent: MakeAgent, containers: Containers, before: Things
) -> None:
    agent = make_agent()
    agent.start()
    tasks = agent.started_copies(ECHO, 4)
    arns = [task.arn for task in tasks]
    identities = containers.identities(arns)
    streams = [Stream(task.address) for task in tasks]
    for stream in streams:
        stream.start()
    assert agent.stop() == 0
    cut, rubbish, future, empty = (agent.data / "tasks" / f"{task.id}.json" for task in tasks)
    cut.write_bytes(cut.read_bytes()[:200])
    rubbish.write_bytes(b"\x00\xff" * 500)
    future.write_text(json.dumps(json.loads(future.read_text()) | {"version": 999}))
    empty.write_bytes(b"")

    assert agent.start() < 10
    agent.all_running(arns)
    eventually(
        "all are on the network",
        lambda: all(
            (inner := agent.inner(arn)) and inner["sandbox"]["status"] == "CONNECTED" for arn in arns
        ),
        seconds=10,
    )
    assert containers.identities(arns) == identities
    assert {file.name for file in (agent.data / "tasks/broken").iterdir()} == {
        f"{task.id}.json" for task in tasks
    }
    assert len(agent.said("checkpoint.set_aside")) >= 4
    echoes = [stream.echoes for stream in streams]
    # their network is set up anew, because nobody knows how far it was: a short gap, which TCP bridges
    time.sleep(2)
    for stream in streams:
        stream.stop()
    assert all(stream.echoes > seen for stream, seen in zip(streams, echoes, strict=True))
    assert [stream.problem for stream in streams] == [""] * 4
    expect_nothing_left(agent, containers.docker, before)


def test_a_broken_database_is_set_aside_and_the_agent_works_on(
    make_agent: MakeAgent, containers: Containers, before: Things
) -> None:
    agent = make_agent()
    agent.start()
    old = agent.started(WEB)
    identities = containers.identities([old.arn])
    assert agent.stop() == 0  # so that nothing is left in the journal that could mend the file
    database = agent.data / "berth.db"
    database.write_bytes(b"this is no database" * 1000)

    assert agent.start() < 10
    assert list(agent.data.glob("berth.db.broken-*"))
    eventually("the old task is known", lambda: agent.task(old.arn).status == "RUNNING", seconds=10)
    assert containers.identities([old.arn]) == identities
    new = agent.started(WEB)
    assert new.address != old.address
    assert containers.network(new).page(f"http://{old.address}/").code == 200
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as reader:
        assert reader.execute("PRAGMA quick_check").fetchone() == ("ok",)
    reader.close()
    expect_nothing_left(agent, containers.docker, before)
