"""The real agent under a stand-in for systemd: what it says, and what becomes of it when it does not get on."""

import itertools
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.agent_process import IS_IN_CONTAINER, eventually
from tests.e2e.altered import STUCK_FAMILY, STUCK_TASK
from tests.e2e.conftest import MakeAgent
from tests.e2e.docker_between import DockerBetween
from tests.e2e.inside import Containers
from tests.e2e.standin_supervisor import FINAL, StandInSupervisor
from tests.e2e.task_definitions import a_definition, a_job

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(240),
    pytest.mark.skipif(
        IS_IN_CONTAINER,
        reason="the supervisor of a container is deploy/berth-container.sh, which has its own tests",
    ),
]

WATCHDOG = 4.0
SLEEPS = a_job("app", "while :; do sleep 1; done")


@pytest.fixture
def supervisor() -> Iterator[StandInSupervisor]:
    made = StandInSupervisor(f"berth-test-{uuid.uuid4().hex}", watchdog=WATCHDOG)
    try:
        yield made
    finally:
        made.close()


def ready(supervisor: StandInSupervisor, times: int = 1) -> None:
    eventually(f"ready {times} times", lambda: len(supervisor.said("READY=1")) >= times, seconds=40)


def children_of(pid: int) -> list[int]:
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def environment_of(pid: int) -> set[str]:
    content = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    return {variable.partition("=")[0] for variable in content.split("\0")}


def test_the_supervisor_hears_ready_a_status_signs_of_life_and_the_end(
    make_agent: MakeAgent, supervisor: StandInSupervisor
) -> None:
    agent = make_agent(environ=supervisor.environ)
    supervisor.start(agent)
    ready(supervisor)
    assert agent.get("/v1/metadata")[0] == 200  # what it says is true at once
    assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in supervisor.messages[0].lines)

    task = agent.started(a_definition("calm", SLEEPS))
    eventually("the status counts", lambda: supervisor.status.startswith("1 of 1 task running"), seconds=10)
    children = children_of(agent.pid)
    assert children, "no child whose environment could be looked at"
    assert all("NOTIFY_SOCKET" not in environment_of(child) for child in children)

    time.sleep(4 * WATCHDOG)
    signs = [message.at for message in supervisor.said("WATCHDOG=1")]
    pauses = [later - earlier for earlier, later in itertools.pairwise(signs)]
    assert len(pauses) >= 6
    assert max(pauses) < WATCHDOG * 0.9
    assert sorted(pauses)[len(pauses) // 2] == pytest.approx(WATCHDOG / 2, abs=0.6)

    agent.stop_tasks([task.arn])
    agent.stopped(task.arn)
    assert supervisor.stop() == 0
    assert len(supervisor.said("STOPPING=1")) == 1
    assert supervisor.status == "stopping; tasks go on"
    assert supervisor.exit_codes == [0]
    assert supervisor.strangers == []


def test_an_agent_that_hangs_as_a_whole_is_replaced_and_its_task_does_not_notice(
    make_agent: MakeAgent, supervisor: StandInSupervisor, containers: Containers
) -> None:
    agent = make_agent(environ=supervisor.environ)
    supervisor.start(agent)
    ready(supervisor)
    task = agent.started(a_definition("calm", SLEEPS))
    identities = containers.identities([task.arn])

    os.kill(agent.pid, signal.SIGSTOP)
    ready(supervisor, 2)

    assert supervisor.watchdog_kills == 1
    assert supervisor.exit_codes == [-signal.SIGABRT]
    assert "Fatal Python error: Aborted" in agent.log_file.read_text(errors="replace")
    agent.all_running([task.arn])
    assert containers.identities([task.arn]) == identities
    agent.stop_tasks([task.arn])
    agent.stopped(task.arn)
    assert supervisor.stop() == 0


def test_a_short_stop_of_the_process_is_forgiven(
    make_agent: MakeAgent, supervisor: StandInSupervisor
) -> None:
    agent = make_agent(environ=supervisor.environ, BERTH_WATCHDOG_LIMIT="10s")
    supervisor.start(agent)
    ready(supervisor)
    for _ in range(8):  # stopped for much longer than the limit, all in all
        os.kill(agent.pid, signal.SIGSTOP)
        time.sleep(1.8)
        os.kill(agent.pid, signal.SIGCONT)
        time.sleep(1.0)
    assert supervisor.exit_codes == []
    assert supervisor.stop() == 0


def test_a_docker_that_hangs_for_a_minute_is_no_reason_to_end_an_agent(
    make_agent: MakeAgent, supervisor: StandInSupervisor, door: DockerBetween
) -> None:
    door.open()
    agent = make_agent(environ=supervisor.environ, DOCKER_HOST=door.host, BERTH_WATCHDOG_LIMIT="10s")
    supervisor.start(agent)
    ready(supervisor)
    task = agent.started(a_definition("calm", SLEEPS))
    eventually("the task counts", lambda: supervisor.status.startswith("1 of 1"), seconds=10)

    door.hang()
    agent.stop_tasks([task.arn])  # so that loops have something to wait for
    seen: set[str] = set()
    until = time.monotonic() + 65
    while time.monotonic() < until:
        seen |= agent.impaired().keys()
        time.sleep(1)
    assert "runtime" in seen
    assert "progress" not in seen
    assert "runtime:" in supervisor.status
    assert supervisor.exit_codes == []
    assert supervisor.watchdog_kills == 0

    door.flow()
    agent.stopped(task.arn)
    assert supervisor.stop() == 0


def test_a_loop_that_does_not_get_on_is_named_and_then_the_agent_ends_to_be_started_anew(
    make_agent: MakeAgent,
) -> None:
    """Without any supervisor: ``docker run --restart`` or a shell's loop would start it again."""
    agent = make_agent(alteration=STUCK_TASK, BERTH_WATCHDOG_LIMIT="36s")
    agent.start()
    (arn,) = agent.run(a_definition(STUCK_FAMILY, SLEEPS))
    named = eventually("health names it", lambda: agent.impaired().get("progress"), seconds=50)
    assert f"task {arn.rsplit('/', 1)[1]}" in named
    assert agent.command("berth", "healthcheck").returncode == 1

    assert agent.process is not None
    assert agent.process.wait(30) == 1
    (stalled,) = agent.said("agent.stalled")
    assert arn.rsplit("/", 1)[1] in stalled["reason"]
    (dumped,) = agent.said("stacks.dumped")
    assert "in stuck" in dumped["tasks"]


def test_an_end_that_no_start_can_mend_is_not_started_again(
    make_agent: MakeAgent, supervisor: StandInSupervisor, tmp_path: Path
) -> None:
    agent = make_agent(environ=supervisor.environ, BERTH_PAUSE_PATH=str(tmp_path / "nowhere"))
    supervisor.start(agent)
    eventually("it has ended", lambda: supervisor.exit_codes, seconds=30)
    time.sleep(1.5)
    assert supervisor.exit_codes == [FINAL]
    assert not agent.is_running
    assert supervisor.said("READY=1") == []


def test_sigusr1_logs_where_everything_stands_and_changes_nothing(make_agent: MakeAgent) -> None:
    agent = make_agent()
    agent.start()
    agent.started(a_definition("asked", SLEEPS))
    assert agent.process is not None
    agent.process.send_signal(signal.SIGUSR1)
    (dumped,) = eventually("it is logged", lambda: agent.said("stacks.dumped"), seconds=10)
    assert "task " in dumped["tasks"]
    assert "watchdog" in dumped["threads"]
    assert agent.is_running
    assert agent.impaired() == {}
