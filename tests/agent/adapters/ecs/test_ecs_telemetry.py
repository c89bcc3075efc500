"""The telemetry channel's conversation, with a probe and a peer that the test plays, on jumped time."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from agent.adapters.ecs.tcs import PUBLISH_LIMIT, SAMPLE_LIMIT, Telemetry, TelemetrySettings
from agent.adapters.ecs.wire.containers import read_container
from agent.adapters.ecs.wire.fields import Fields
from agent.adapters.ecs.wire.telemetry import Instance
from agent.model.errors import CredentialsUnavailable, PortUnavailable, RuntimeUnavailable
from agent.model.ids import ContainerId
from agent.model.spec import HealthCheck
from agent.model.state import Attachment, TaskState
from agent.model.status import ContainerStatus, Health, SandboxStatus
from agent.model.usage import LinkUsage, Usage
from agent.ports.usage import UsageSubject
from tests.builders import NOON, a_container, a_task
from tests.fakes.directory import FakeDirectory
from tests.fakes.ecs.protocol import TCS_MESSAGES
from tests.fakes.ecs.shapes import problems

CLUSTER_ARN = "arn:aws:ecs:us-east-1:111122223333:cluster/default"
INSTANCE_ARN = f"arn:aws:ecs:us-east-1:111122223333:container-instance/default/{7:032x}"
URL = "wss://t.example/ws?cluster=default"


class Signs:
    """A signature of one line, so that tests see what was sent."""

    def __init__(self) -> None:
        self.urls: set[str] = set()
        self.trouble: list[Exception] = []

    async def frame(self, url: str, payload: bytes) -> bytes:
        self.urls.add(url)
        if self.trouble:
            raise self.trouble.pop(0)
        return b"Signed: yes\r\n\r\n" + payload


class Probe:
    """Every container uses a quarter of a core, 5 MiB and a kilobyte of network per second."""

    def __init__(self, loop) -> None:
        self.loop = loop
        self.asked: list[tuple[UsageSubject, ...]] = []
        self.times: list[float] = []
        self.gone: set[ContainerId] = set()
        self.trouble: list[Exception] = []
        self.delay = 0.0

    async def read(self, subjects: Sequence[UsageSubject]) -> tuple[Usage | None, ...]:
        self.asked.append(tuple(subjects))
        self.times.append(self.loop.time())
        if self.trouble:
            raise self.trouble.pop(0)
        if self.delay:
            await asyncio.sleep(self.delay)
        return tuple(None if each.container_id in self.gone else self._usage(each) for each in subjects)

    def _usage(self, subject: UsageSubject) -> Usage:
        now = self.loop.time()
        link = LinkUsage(int(now * 1000), 0, 0, 0, 0, 0, 0, 0) if subject.link == "eth0" else None
        return Usage(now, int(now * 250_000_000), 5 * 1024 * 1024, 0, 0, link)


class Peer:
    """``Conversation`` on jumped time. What is said to the agent is put into ``inbox``; None ends it."""

    url = URL

    def __init__(self, loop) -> None:
        self.loop = loop
        self.inbox: asyncio.Queue[str | None] = asyncio.Queue()
        self.sent: list[tuple[float, str, dict]] = []
        self.actives = 0
        self.is_stuck = False
        self.is_closed = False

    async def texts(self) -> AsyncIterator[str]:
        while (text := await self.inbox.get()) is not None:
            yield text

    async def send(self, text: str) -> None:
        if self.is_closed:
            raise ConnectionResetError("gone")
        if self.is_stuck:
            await asyncio.sleep(3600)
        head, _, payload = text.partition("\r\n\r\n")
        assert head == "Signed: yes"
        message = json.loads(payload)
        assert list(problems(message["message"], TCS_MESSAGES[message["type"]])) == []
        self.sent.append((self.loop.time(), message["type"], message["message"]))

    def active(self) -> None:
        self.actives += 1

    def say(self, kind: str, **message: object) -> None:
        self.inbox.put_nowait(json.dumps({"type": kind, "message": message}))

    def of(self, kind: str) -> list[tuple[float, dict]]:
        return [(at, message) for at, found, message in self.sent if found == kind]


def running(number: int = 1, **container: object) -> TaskState:
    task = a_task(replace(a_container("app"), **{"arn": f"arn:app:{number}", **container}), number=number)
    sandbox = replace(
        task.sandbox,
        status=SandboxStatus.CONNECTED,
        container_id=ContainerId(f"pause-{number}"),
        pid=1000 + number,
        attachment=Attachment("169.254.172.2"),
    )
    [app] = task.containers
    app = replace(
        app,
        status=ContainerStatus.RUNNING,
        container_id=ContainerId(f"app-{number}"),
        pid=2000 + number,
        started_at=NOON,
    )
    return replace(task, sandbox=sandbox, containers=(app,))


class Stage:
    def __init__(self, jumping, *tasks: TaskState, **settings: bool) -> None:
        self.jumping = jumping
        self.directory = FakeDirectory(*tasks)
        self.probe = Probe(jumping.loop)
        self.signs = Signs()
        self.peer = Peer(jumping.loop)
        self.checks: list[float] = []
        self.outcomes: list[object] = []
        self.telemetry = Telemetry(
            directory=self.directory,
            probe=self.probe,
            signer=self.signs,
            instance=lambda: Instance("default", INSTANCE_ARN),
            clock=jumping.clock,
            is_runtime_well=self._check,
            cores=2,
            settings=TelemetrySettings(**settings),
        )

    async def _check(self) -> bool:
        self.checks.append(self.jumping.loop.time())
        outcome = self.outcomes.pop(0) if self.outcomes else True
        if isinstance(outcome, Exception):
            raise outcome
        if isinstance(outcome, float):
            await asyncio.sleep(outcome)
        return bool(outcome)

    def run(self, *acts: tuple[float, object], until: float) -> None:
        """Run everything; each act is a moment and a callable. The connection ends at ``until``."""

        async def story() -> None:
            async with asyncio.TaskGroup() as group:
                sampling = group.create_task(self.telemetry.sample())
                talking = group.create_task(self.telemetry.converse(self.peer))
                for at, act in acts:
                    await asyncio.sleep(at - self.jumping.loop.time())
                    act()
                await asyncio.sleep(until - self.jumping.loop.time())
                self.peer.inbox.put_nowait(None)
                await talking
                sampling.cancel()

        self.jumping.run(story())


# -- metrics -------------------------------------------------------------------------------------


def test_an_idle_machine_says_so_at_once_and_every_twenty_seconds(jumping):
    stage = Stage(jumping)
    stage.run(until=70)
    told = stage.peer.of("PublishMetricsRequest")
    assert [at for at, _ in told] == [0, 20, 40, 60]
    assert [(each["metadata"]["idle"], each["metadata"]["fin"]) for _, each in told] == [(True, True)] * 4
    assert len({each["metadata"]["messageId"] for _, each in told}) == 4
    assert told[1][1]["timestamp"] == NOON.timestamp() + 20
    assert stage.signs.urls == {URL}
    assert stage.probe.asked == []


def test_a_running_task_is_measured_again_and_again_and_told_every_twenty_seconds(jumping):
    stage = Stage(jumping, running())
    stage.run(until=45)
    assert stage.probe.times[:3] == [0, 2.5, 5]
    assert stage.probe.asked[0] == (
        UsageSubject(ContainerId("app-1"), 2001),
        UsageSubject(ContainerId("pause-1"), 1001, "eth0"),
    )
    told = stage.peer.of("PublishMetricsRequest")
    assert [at for at, _ in told] == [20, 40]  # at 0 there was one reading, which is no set yet
    [task] = told[1][1]["taskMetrics"]
    assert task["taskArn"] == running().arn
    assert (task["taskDefinitionFamily"], task["taskDefinitionVersion"]) == ("web", "1")
    assert "clusterArn" not in task  # the task's cluster is known by its name only
    app, pause = task["containerMetrics"]
    assert (app["containerName"], app["containerArn"]) == ("app", "arn:app:1")
    assert (pause["containerName"], pause.get("containerArn")) == ("~internal~ecs~pause", None)
    # a quarter of a core is an eighth of this host
    assert app["cpuStatsSet"] == {"min": 12.5, "max": 12.5, "sum": 100, "sampleCount": 8}
    assert app["memoryStatsSet"] == {"min": 5, "max": 5, "sum": 40, "sampleCount": 8}
    assert app["networkStatsSet"]["rxBytesPerSecond"] == {
        "min": 1000, "max": 1000, "sum": 8000, "sampleCount": 8
    }  # fmt: skip
    assert "networkStatsSet" not in pause
    assert pause["memoryStatsSet"]["sampleCount"] == 8


def test_all_containers_of_a_task_have_the_tasks_network(jumping):
    task = running()
    side = replace(task.containers[0], name="side", container_id=ContainerId("side-1"), pid=3)
    spec = replace(task.spec, containers=(*task.spec.containers, a_container("side")), cluster=CLUSTER_ARN)
    stage = Stage(jumping, replace(task, spec=spec, containers=(*task.containers, side)))
    stage.run(until=21)
    [(_, message)] = stage.peer.of("PublishMetricsRequest")
    [told] = message["taskMetrics"]
    app, second, pause = told["containerMetrics"]
    assert app["networkStatsSet"] == second["networkStatsSet"]
    assert "networkStatsSet" not in pause
    assert told["clusterArn"] == CLUSTER_ARN


def test_twenty_three_tasks_are_three_messages_of_one_report(jumping):
    stage = Stage(jumping, *(running(number) for number in range(1, 24)))
    stage.run(until=21)
    told = [message for at, message in stage.peer.of("PublishMetricsRequest") if at == 20]
    assert [len(each["taskMetrics"]) for each in told] == [10, 10, 3]
    assert [each["metadata"]["fin"] for each in told] == [False, False, True]
    assert len({each["metadata"]["messageId"] for each in told}) == 1
    assert len({task["taskArn"] for each in told for task in each["taskMetrics"]}) == 23


@pytest.mark.parametrize(
    "change",
    [
        lambda task: replace(task, stopped_at=NOON),
        lambda task: replace(
            task,
            sandbox=replace(task.sandbox, status=SandboxStatus.STOPPED),
            containers=(replace(task.containers[0], status=ContainerStatus.STOPPED),),
        ),
    ],
)
def test_what_does_not_run_is_not_measured(jumping, change):
    stage = Stage(jumping, change(running()))
    stage.run(until=21)
    assert stage.probe.asked == []
    assert [message["metadata"]["idle"] for _, message in stage.peer.of("PublishMetricsRequest")] == [
        True
    ] * 2


def test_of_a_stopped_container_beside_a_running_one_nothing_is_told(jumping):
    task = running()
    side = replace(task.containers[0], name="side", status=ContainerStatus.STOPPED)
    spec = replace(task.spec, containers=(*task.spec.containers, a_container("side")))
    stage = Stage(jumping, replace(task, spec=spec, containers=(*task.containers, side)))
    stage.run(until=21)
    [(_, message)] = stage.peer.of("PublishMetricsRequest")
    names = [each["containerName"] for each in message["taskMetrics"][0]["containerMetrics"]]
    assert names == ["app", "~internal~ecs~pause"]


def test_a_container_without_numbers_is_left_out_and_named_after_its_grace(jumping):
    stage = Stage(jumping, running())
    stage.probe.gone = {ContainerId("app-1")}
    with capture_logs() as logs:
        stage.run(until=85)
    told = [
        message["taskMetrics"][0]["containerMetrics"] for _, message in stage.peer.of("PublishMetricsRequest")
    ]
    assert [[each["containerName"] for each in containers] for containers in told] == [
        ["~internal~ecs~pause"]
    ] * 4
    missed = [line for line in logs if line["event"] == "usage.missed"]
    assert [line["container"] for line in missed] == ["app"]  # at 40 s, and not again at 60 and 80


def test_a_young_container_without_numbers_is_not_named(jumping):
    stage = Stage(jumping, running())
    stage.probe.gone = {ContainerId("app-1")}
    with capture_logs() as logs:
        stage.run(until=25)
    assert not [line for line in logs if line["event"] == "usage.missed"]


def test_a_probe_that_fails_or_hangs_is_named_once_and_asked_again(jumping):
    stage = Stage(jumping, running())
    stage.probe.trouble = [PortUnavailable("busy"), PortUnavailable("busy")]
    stage.probe.delay = SAMPLE_LIMIT + 5
    with capture_logs() as logs:
        stage.run((8.0, lambda: setattr(stage.probe, "delay", 0.0)), until=41)
    failed = [line["reason"] for line in logs if line["event"] == "sampling.failed"]
    assert failed == ["busy"]
    assert [at for at in stage.probe.times if at < 20] == [0, 2.5, 5, 17.5]
    # one reading at 17.5 s is too few at 20 s
    assert [at for at, _ in stage.peer.of("PublishMetricsRequest")] == [40]


def test_a_bug_in_the_probe_ends_neither_the_sampling_nor_the_session(jumping):
    stage = Stage(jumping, running())
    stage.probe.trouble = [ZeroDivisionError("a bug")]
    with capture_logs() as logs:
        stage.run(until=21)
    assert "sampling.crashed" in {line["event"] for line in logs}
    assert len(stage.peer.of("PublishMetricsRequest")) == 1


@pytest.mark.parametrize("where", ["directory", "samples"])
def test_a_bug_beside_the_probe_does_not_end_the_sampling_either(jumping, where):
    stage = Stage(jumping, running())

    def broken(*_):
        raise ZeroDivisionError("a bug")

    if where == "directory":
        stage.telemetry._directory = type("Broken", (), {"tasks": broken})()
    else:
        stage.telemetry._samples.add = broken

    async def story():
        async with asyncio.TaskGroup() as group:
            sampling = group.create_task(stage.telemetry.sample())
            await asyncio.sleep(6)
            stage.telemetry._directory = stage.directory
            vars(stage.telemetry._samples).pop("add", None)
            await asyncio.sleep(6)
            sampling.cancel()

    with capture_logs() as logs:
        jumping.run(story())
    crashed = [line["event"] for line in logs if line["event"] == "sampling.crashed"]
    assert len(crashed) == 3  # at 0, 2.5 and 5 s
    assert stage.telemetry._samples.take(ContainerId("app-1")) is not None


# -- health --------------------------------------------------------------------------------------


def checked(health: Health, **container: object) -> TaskState:
    task = running(health_check=HealthCheck(("CMD", "true")))
    [app] = task.containers
    return replace(task, containers=(replace(app, health=health, **container),))


def test_health_is_told_every_twenty_seconds(jumping):
    since = NOON - timedelta(seconds=5)
    stage = Stage(jumping, checked(Health.UNHEALTHY, health_since=since, health_output="refused"))
    stage.run(until=41)
    told = stage.peer.of("PublishHealthRequest")
    assert [at for at, _ in told] == [0, 20, 40]
    [task] = told[0][1]["tasks"]
    assert task["containers"] == [
        {
            "containerName": "app",
            "healthStatus": "UNHEALTHY",
            "statusSince": since.timestamp(),
            "statusMessage": "refused",
        }
    ]


def test_a_check_that_has_not_ended_yet_is_unknown_since_the_start(jumping):
    stage = Stage(jumping, checked(Health.UNKNOWN))
    stage.run(until=1)
    [(_, message)] = stage.peer.of("PublishHealthRequest")
    [container] = message["tasks"][0]["containers"]
    assert (container["healthStatus"], container["statusSince"]) == ("UNKNOWN", NOON.timestamp())


@pytest.mark.parametrize(
    ("config", "count"),
    [
        ({"Healthcheck": {"Test": ["CMD", "true"]}}, 1),
        ({"healthCHECK": {"tEST": ["CMD", "true"]}}, 1),
        ({"healthcheck": {"test": ["NONE"]}}, 0),
        ({"Healthcheck": None}, 0),
        ({"User": "1000"}, 0),
    ],
)
def test_a_check_in_dockers_own_json_counts_in_any_case(jumping, config, count):
    container = {"name": "app", "image": "web", "dockerConfig": {"config": json.dumps(config)}}
    spec = read_container(Fields(container, "containers[0]"))
    stage = Stage(jumping, running(health_check=spec.health_check, overlay=spec.overlay))
    stage.run(until=1)
    assert len(stage.peer.of("PublishHealthRequest")) == count


# -- what is switched off ------------------------------------------------------------------------


def test_without_metrics_health_is_told_and_nothing_is_measured(jumping):
    stage = Stage(jumping, checked(Health.HEALTHY, health_since=NOON), metrics=False)
    stage.run(until=41)
    assert {kind for _, kind, _ in stage.peer.sent} == {"PublishHealthRequest"}
    assert stage.probe.asked == []


def test_without_health_metrics_are_told(jumping):
    stage = Stage(jumping, checked(Health.HEALTHY, health_since=NOON), health=False)
    stage.run(until=41)
    assert {kind for _, kind, _ in stage.peer.sent} == {"PublishMetricsRequest"}


@pytest.mark.parametrize(
    ("metrics", "health", "is_needed"),
    [(True, True, True), (True, False, True), (False, True, True), (False, False, False)],
)
def test_the_channel_is_needed_unless_there_is_nothing_to_tell(metrics, health, is_needed):
    assert TelemetrySettings(metrics, health).is_needed is is_needed


# -- the status of the runtime -------------------------------------------------------------------


def statuses(stage: Stage) -> list[tuple[float, dict]]:
    return [
        (at, message["statuses"][0]) for at, message in stage.peer.of("PublishInstanceStatusRequest")
    ]  # fmt: skip


def test_each_heartbeat_is_a_check_and_the_next_report_tells_it_once(jumping):
    stage = Stage(jumping)
    beat = stage.telemetry.note_heartbeat
    stage.run((3, beat), (25, beat), until=90)
    noon = NOON.timestamp()
    assert stage.checks == [3, 25]
    assert [
        (at, each["status"], each["lastStatusChange"] - noon, each["lastUpdated"] - noon)
        for at, each in statuses(stage)
    ] == [(20, "OK", 3, 3), (40, "OK", 3, 25)]
    assert {each["type"] for _, each in statuses(stage)} == {"ContainerRuntime"}


def test_a_status_that_changes_says_since_when_and_why(jumping):
    stage = Stage(jumping)
    stage.outcomes = [True, RuntimeUnavailable("Docker: no space"), 60.0, False, RuntimeUnavailable(""), True]
    beat = stage.telemetry.note_heartbeat
    stage.run(*((moment, beat) for moment in (1, 21, 41, 61, 81, 101)), until=121)
    noon = NOON.timestamp()
    assert [
        (each["status"], each["lastStatusChange"] - noon, each.get("statusReason"))
        for _, each in statuses(stage)
    ] == [
        ("OK", 1, None),
        ("IMPAIRED", 21, "Docker: no space"),
        ("IMPAIRED", 21, "the container runtime did not answer within 2 s"),
        ("IMPAIRED", 21, "the container runtime is not well"),
        ("IMPAIRED", 21, "the container runtime is not well"),
        ("OK", 101, None),
    ]


def test_a_heartbeat_between_two_sessions_is_not_forgotten(jumping):
    stage = Stage(jumping)
    stage.telemetry.note_heartbeat()
    stage.run(until=25)
    assert [(at, each["status"]) for at, each in statuses(stage)] == [(20, "OK")]


def test_a_check_that_is_cut_off_is_made_again_in_the_next_session(jumping):
    stage = Stage(jumping)
    stage.outcomes = [1.5]
    stage.run((1, stage.telemetry.note_heartbeat), until=2)
    assert statuses(stage) == []
    stage.run(until=26)
    assert [(at, each["status"]) for at, each in statuses(stage)] == [(22, "OK")]


# -- the session ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["HeartbeatMessage", "AckPublishMetric", "AckPublishHealth", "AckPublishInstanceStatus"]
)
def test_signs_of_life_keep_the_connection(jumping, kind):
    stage = Stage(jumping)
    stage.run((1, lambda: stage.peer.say(kind, message="")), until=2)
    assert stage.peer.actives == 1


@pytest.mark.parametrize(
    "kind",
    ["ServerException", "BadRequestException", "ResourceValidationException", "InvalidParameterException"],
)
def test_refusals_are_logged_with_their_text_and_are_no_sign_of_life(jumping, kind):
    stage = Stage(jumping)
    with capture_logs() as logs:
        stage.run((1, lambda: stage.peer.say(kind, message="no such cluster")), until=30)
    assert stage.peer.actives == 0
    [line] = [line for line in logs if line["event"] == "telemetry.refused"]
    assert (line["kind"], line["reason"]) == (kind, "no such cluster")
    assert [at for at, _, _ in stage.peer.sent] == [0, 20]


@pytest.mark.parametrize("text", ["", "not JSON", "[]", "{}", '{"type":"PayloadMessage","message":{}}'])
def test_what_is_not_understood_is_skipped_with_a_word_and_is_no_sign_of_life(jumping, text):
    stage = Stage(jumping)
    with capture_logs() as logs:
        stage.run((1, lambda: stage.peer.inbox.put_nowait(text)), until=30)
    assert stage.peer.actives == 0
    assert [line["event"] for line in logs] == ["message.skipped"]
    assert [at for at, _, _ in stage.peer.sent] == [0, 20]


def test_the_peer_may_end_the_session(jumping):
    stage = Stage(jumping)

    async def story() -> float:
        stage.peer.loop.call_later(5, stage.peer.say, "StopTelemetrySessionMessage")
        await stage.telemetry.converse(stage.peer)
        return jumping.loop.time()

    assert jumping.run(story()) == 5


def test_what_cannot_be_sent_in_time_is_dropped_and_the_next_report_is_on_time(jumping):
    stage = Stage(jumping)
    stage.peer.is_stuck = True
    with capture_logs() as logs:
        stage.run((PUBLISH_LIMIT + 1, lambda: setattr(stage.peer, "is_stuck", False)), until=45)
    assert [line["event"] for line in logs] == ["telemetry.dropped"]
    assert [at for at, _, _ in stage.peer.sent] == [20, 40]


def test_a_report_without_keys_is_dropped_and_a_status_is_told_later(jumping):
    stage = Stage(jumping)
    with capture_logs() as logs:
        stage.run(
            (1, stage.telemetry.note_heartbeat),
            (2, lambda: stage.signs.trouble.append(CredentialsUnavailable("no keys"))),
            until=45,
        )
    [line] = [line for line in logs if line["event"] == "telemetry.dropped"]
    assert line["reason"] == "no keys"
    assert [at for at, _ in stage.peer.of("PublishMetricsRequest")] == [0, 40]
    assert [at for at, _ in statuses(stage)] == [40]


def test_a_bug_in_one_report_does_not_end_the_session(jumping):
    stage = Stage(jumping)
    stage.signs.trouble = [ZeroDivisionError("a bug")]
    with capture_logs() as logs:
        stage.run(until=25)
    assert [line["event"] for line in logs] == ["telemetry.crashed"]
    assert [at for at, _, _ in stage.peer.sent] == [20]


def test_a_connection_that_is_lost_while_sending_ends_the_talking_quietly(jumping):
    stage = Stage(jumping)
    with capture_logs() as logs:
        stage.run((1, lambda: setattr(stage.peer, "is_closed", True)), until=90)
    assert logs == []
    assert [at for at, _, _ in stage.peer.sent] == [0]


def test_after_a_reconnect_the_report_is_at_once_and_holds_what_came_meanwhile(jumping):
    stage = Stage(jumping, running())
    stage.run(until=25)
    stage.peer.sent.clear()
    stage.run(until=36)
    [(at, message)] = stage.peer.of("PublishMetricsRequest")
    assert at == 25
    sets = message["taskMetrics"][0]["containerMetrics"][0]
    assert sets["cpuStatsSet"]["min"] == pytest.approx(12.5)
