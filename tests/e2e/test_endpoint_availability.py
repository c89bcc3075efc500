"""While the agent restarts, however it ended, nobody who asks for credentials is refused."""

import time

import pytest

from tests.availability import OK, REFUSED, RESET, Asking, Findings
from tests.e2e.agent_process import Agent, eventually
from tests.e2e.conftest import MakeAgent
from tests.e2e.inside import Containers, credentials_url
from tests.e2e.task_definitions import a_definition

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

ROLE = "arn:aws:iam::111122223333:role/reader"
EVERY = 0.01
RESTARTS = 5
KEEPER = {"label": "berth.keeper"}


@pytest.fixture
def kept(make_agent: MakeAgent, containers: Containers) -> Agent:
    agent = make_agent(BERTH_SOCKET_KEEPER="container", BERTH_SOCKET_KEEPER_PATIENCE="20s")
    agent.start()
    eventually("all sockets are kept", lambda: len(kept_names(agent)) >= 2)
    return agent


def kept_names(agent: Agent) -> set[str]:
    return {line["name"] for line in agent.said("socket.kept")}


def test_nobody_is_refused_while_the_agent_restarts(
    kept: Agent, containers: Containers, capsys: pytest.CaptureFixture[str]
) -> None:
    task = kept.started(a_definition("reader", {"name": "app"}, taskRoleArn=ROLE))
    path = "/" + credentials_url(containers, task).split("/", 3)[3]
    pid = containers.pid(task.runtime_id())
    phases: list[tuple[str, float, float]] = []

    with Asking(
        "169.254.170.2", 80, path, every=EVERY, inside=("nsenter", f"--net=/proc/{pid}/ns/net")
    ) as asking:
        time.sleep(1)
        for number in range(RESTARTS):
            began = time.monotonic()
            if number % 2:
                assert kept.stop() == 0
            else:
                kept.kill()
            kept.start()
            phases.append(("SIGTERM" if number % 2 else "SIGKILL", began, time.monotonic() + 1))
            time.sleep(1.5)

    with capsys.disabled():
        for name, begin, end in phases:
            print(f"\n  {name}: {described(asking.findings.between(begin, end))}", end="")
    found = asking.findings
    assert len(found.questions) > 500
    assert found.count(REFUSED) == 0, found.outcomes
    # Whom a killed agent was answering at that very moment is cut off; a stopped one answers everybody.
    assert set(found.outcomes) <= {OK, RESET}, found.outcomes
    assert found.count(RESET) <= 3 * RESTARTS, found.outcomes
    for name, begin, end in phases:
        if name == "SIGTERM":
            assert found.between(begin, end).outcomes.keys() == {OK}, name
    assert found.longest < 30
    assert containers.docker.containers(filters=KEEPER), "the keeper is the first one, all the time"


def described(found: Findings) -> str:
    return f"{found.outcomes}, longest {found.longest * 1000:.0f} ms, over 1 s: {found.slower_than(1.0)}"


def test_the_keeper_goes_when_no_agent_comes_back(kept: Agent, containers: Containers) -> None:
    kept.settings["BERTH_SOCKET_KEEPER_PATIENCE"] = "1s"
    kept.stop()
    kept.start()
    # Its version ends with its patience. A kill while it is being made would leave one that never runs.
    eventually(
        "the keeper is replaced",
        lambda: any(line["version"].endswith(" 1") for line in kept.said("keeper.made")),
    )
    kept.kill()
    eventually("the keeper is gone", lambda: not containers.docker.containers(all=True, filters=KEEPER))
