"""What the supervisor is told, and when: no sockets, a time that the test moves."""

from datetime import UTC, datetime, timedelta

from agent.adapters.host.notify import Notifier
from agent.daemon.pulse import COMPONENT, PATIENCE, Pulse, describe
from agent.endpoints.health import HealthBoard
from agent.model.channels import ChannelState, ChannelStatus
from agent.model.progress import Progress

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class StoodClock:
    def now(self) -> datetime:
        return NOW


class Heard(Notifier):
    def __init__(self, health: HealthBoard) -> None:
        super().__init__("@heard", health)
        self.messages: list[list[str]] = []

    def send(self, message: str, descriptors: object = ()) -> None:
        assert descriptors == ()
        self.messages.append(message.split("\n"))


class Agent:
    """A pulse with its surroundings. ``live`` lets seconds pass, with a beat in each."""

    def __init__(self, watchdog: timedelta | None = None) -> None:
        self.health = HealthBoard(StoodClock())
        self.progress = Progress()
        self.heard = Heard(self.health)
        self.pulse = Pulse(self.progress, self.heard, self.health, watchdog)
        self.now = 1000.0

    def live(self, seconds: int) -> None:
        with self.progress.watched("event loop") as loop:
            for _ in range(seconds):
                self.pulse.beat(loop, self.now, 1.0)
                self.now += 1.0
                self.progress.tick(1.0, 2.0)

    def said(self, line: str) -> int:
        return sum(line in message for message in self.heard.messages)


def test_a_start_that_gets_on_is_given_more_time_again_and_again() -> None:
    agent = Agent()
    agent.live(5)
    assert agent.said("EXTEND_TIMEOUT_USEC=90000000") == 5
    assert agent.said("READY=1") == 0


def test_a_start_that_does_not_get_on_is_not_given_more_time() -> None:
    agent = Agent()
    with agent.progress.watched("start"):
        agent.live(100)
    assert agent.said("EXTEND_TIMEOUT_USEC=90000000") == PATIENCE + 1


def test_ready_is_told_once_with_a_status_and_needs_no_more_time() -> None:
    agent = Agent()
    agent.pulse.ready(lambda: "3 of 4 tasks running")
    agent.live(50)
    assert agent.heard.messages == [["READY=1", "STATUS=3 of 4 tasks running"]]


def test_a_status_is_told_when_it_changes() -> None:
    agent = Agent()
    texts = iter(["a", "a", "a", "b", "b", "a"])
    agent.pulse.ready(lambda: next(texts))
    agent.live(5)
    assert [message[-1] for message in agent.heard.messages] == ["STATUS=a", "STATUS=b", "STATUS=a"]


def test_what_keeps_the_start_waiting_is_its_status() -> None:
    agent = Agent()
    agent.health.report("runtime", "Docker does not answer")
    agent.live(1)
    assert "STATUS=starting; runtime: Docker does not answer" in agent.heard.messages[0]


def test_signs_of_life_come_twice_in_the_time_that_the_supervisor_waits() -> None:
    agent = Agent(timedelta(seconds=60))
    agent.pulse.ready(lambda: "well")
    agent.live(301)
    assert agent.said("WATCHDOG=1") == 11


def test_a_loop_that_does_not_get_on_is_named_in_health_and_no_sign_of_life_is_sent() -> None:
    agent = Agent(timedelta(seconds=2))
    agent.pulse.ready(lambda: "well")
    with agent.progress.watched("task 1234"):
        agent.live(int(PATIENCE))
        assert not agent.health.is_impaired
        before = agent.said("WATCHDOG=1")
        agent.live(20)
        assert agent.said("WATCHDOG=1") <= before + 1
        (problem,) = agent.health.snapshot()
        assert problem.component == COMPONENT
        assert "task 1234" in problem.reason
    agent.live(2)
    assert not agent.health.is_impaired
    assert agent.said("WATCHDOG=1") >= before + 2


def test_the_end_is_told_at_once_and_nothing_overwrites_its_status() -> None:
    agent = Agent(timedelta(seconds=2))
    agent.pulse.ready(lambda: "well")
    agent.pulse.stopping()
    agent.live(3)
    assert agent.heard.messages[1] == ["STOPPING=1", "STATUS=stopping; tasks go on"]
    assert agent.heard.messages[2:] == [["WATCHDOG=1"]] * 3


def test_the_status_has_the_tasks_the_connections_and_what_is_wrong() -> None:
    health = HealthBoard(StoodClock())
    health.report("backend", None)
    health.report("firewall", "table inet berth had been removed")
    channels = [
        ChannelStatus("control", ChannelState.CONNECTED, NOW, NOW, None),
        ChannelStatus("telemetry", ChannelState.DISCONNECTED, NOW, None, "no route to host"),
    ]
    assert describe(2, 3, "", channels, health.snapshot()) == (
        "2 of 3 tasks running; control channel connected; telemetry channel disconnected: no route to host; "
        "firewall: table inet berth had been removed"
    )
    assert describe(1, 1, "joining the cluster blue", [], []) == (
        "1 of 1 task running; joining the cluster blue"
    )


def test_where_nobody_is_told_no_status_is_made_and_health_is_told_all_the_same() -> None:
    agent = Agent()
    asked: list[float] = []

    def describe_all() -> str:
        asked.append(agent.now)
        return "1000 tasks"

    pulse = Pulse(agent.progress, Notifier(None, agent.health), agent.health, None)
    pulse.ready(describe_all)
    asked.clear()
    with agent.progress.watched("event loop") as loop, agent.progress.watched("stuck"):
        for _ in range(100):
            pulse.beat(loop, agent.now, 1.0)
            agent.progress.tick(1.0, 2.0)
    assert asked == []
    (found,) = agent.health.snapshot()
    assert found.component == COMPONENT
    assert "stuck" in found.reason
