import asyncio
import json
from dataclasses import replace
from datetime import timedelta

import pytest

from agent.endpoints.health import HealthBoard
from agent.endpoints.introspection import Answers, NodeIdentity, introspection_application
from agent.model.channels import ChannelState, ChannelStatus
from agent.model.errors import BackendUnavailable, RuntimeUnavailable
from agent.model.explanation import Explanation
from agent.model.ids import ContainerId
from tests.agent.endpoints.asking import a_task, served
from tests.agent.endpoints.asking import ask as ask_raw
from tests.fakes.clock import NOON


class FakeLogs:
    def __init__(self):
        self.asked = None
        self.pieces = [b"one\n", b"two\n"]
        self.failure = None
        self.is_endless = False
        self.closed = asyncio.Event()

    async def read(self, container_id, wanted):
        self.asked = (container_id, wanted.follow, wanted.tail)
        self.asked_for_times = (wanted.since, wanted.timestamps)
        try:
            for piece in self.pieces:
                yield piece
            if self.failure is not None:
                raise self.failure
            if self.is_endless:
                await asyncio.Event().wait()
        finally:
            self.closed.set()


@pytest.fixture
def logs():
    return FakeLogs()


@pytest.fixture
def board(clock):
    return HealthBoard(clock)


@pytest.fixture
def found_leaks():
    return {"volumes": ("v1",), "cgroups": ()}


@pytest.fixture
def channels():
    return []


@pytest.fixture
def waits_for():
    return "interface_present"


@pytest.fixture
def application(directory, clock, board, logs, *, found_leaks, channels, waits_for):
    def explain(task, now):
        return (
            Explanation(
                "sandbox",
                "PAUSED",
                "RUN",
                waits_for,
                "no ENI",
                NOON,
                NOON + timedelta(minutes=5),
                "stop",
            ),
        )

    async def leaks():
        if isinstance(found_leaks, Exception):
            raise found_leaks
        return found_leaks

    answers = Answers(
        directory=directory,
        health=board,
        identity=lambda: NodeIdentity("default", "arn:instance", "Amazon ECS Agent - v0.1.0 (berth)"),
        explain=explain,
        logs=logs,
        leaks=leaks,
        config=lambda: {"settings": [{"name": "ECS_CLUSTER", "value": "default", "source": "default"}]},
        channels=lambda: tuple(channels),
    )
    return introspection_application(answers, clock, license_text="Apache License\n")


async def ask(port, target, **options):
    return await ask_raw(port, target, **{"host": f"127.0.0.1:{port}", **options})


async def get(application, target, status=200):
    async with served(application) as port:
        answer = await ask(port, target)
    assert answer.status == status
    return json.loads(answer.body)


@pytest.mark.parametrize("target", ["/", "/nothing", "/v1", "/v1/tasks/"])
async def test_unknown_paths_list_what_there_is(application, target):
    assert await get(application, target) == {"AvailableCommands": ["/v1/metadata", "/v1/tasks", "/license"]}


async def test_metadata_names_the_agent(application):
    assert await get(application, "/v1/metadata") == {
        "Cluster": "default",
        "ContainerInstanceArn": "arn:instance",
        "Version": "Amazon ECS Agent - v0.1.0 (berth)",
    }


async def test_the_license_is_plain_text(application):
    async with served(application) as port:
        answer = await ask(port, "/license")
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.body == b"Apache License\n"


async def test_all_tasks_are_listed(application, directory):
    document = await get(application, "/v1/tasks")
    assert [task["Arn"] for task in document["Tasks"]] == [task.arn for task in directory.tasks()]


EMPTY = {"Arn": "", "KnownStatus": "", "Family": "", "Version": "", "Containers": None}


async def test_one_task_is_found_by_arn_or_docker_id_or_not_at_all(application, directory):
    first, second = directory.tasks()
    directory.put(
        replace(first, containers=(replace(first.containers[0], container_id=ContainerId("aa" * 32)),))
    )
    directory.put(
        replace(second, containers=(replace(second.containers[0], container_id=ContainerId("ab" * 32)),))
    )
    async with served(application) as port:

        async def tasks(query):
            answer = await ask(port, f"/v1/tasks?{query}")
            return answer.status, json.loads(answer.body)

        assert (await tasks(f"taskarn={second.arn}"))[1]["Arn"] == second.arn
        assert (await tasks(f"dockerid={'aa' * 32}"))[1]["Arn"] == first.arn
        assert (await tasks("dockerid=ab"))[1]["Arn"] == second.arn
        assert await tasks("dockerid=a") == (400, EMPTY)
        assert await tasks(f"dockerid={'aa' * 10}") == (404, EMPTY)
        assert await tasks("taskarn=nobody") == (404, EMPTY)
        assert await tasks("taskarn=") == (404, EMPTY)
        assert await tasks(f"taskarn={first.arn}&dockerid=aa") == (400, EMPTY)


async def test_health_says_what_is_wrong_and_since_when(application, board, clock):
    async with served(application) as port:
        board.clear("docker")
        answer = await ask(port, "/health")
        assert (answer.status, json.loads(answer.body)) == (200, {"status": "OK", "reasons": []})
        board.set("docker", "Docker does not answer")
        clock.advance(60)
        answer = await ask(port, "/health")
        assert answer.status == 503
        assert json.loads(answer.body) == {
            "status": "IMPAIRED",
            "reasons": [
                {
                    "component": "docker",
                    "status": "IMPAIRED",
                    "since": "2026-01-01T12:00:00Z",
                    "reason": "Docker does not answer",
                }
            ],
        }


async def test_health_shows_the_connections_to_the_control_plane(application, clock, channels):
    channels += [
        ChannelStatus("control", ChannelState.CONNECTED, NOON, NOON + timedelta(seconds=48), None),
        ChannelStatus("telemetry", ChannelState.DISCONNECTED, NOON, None, "no route"),
    ]
    clock.advance(60.5)
    document = await get(application, "/health")
    assert document["status"] == "OK"
    assert document["channels"] == [
        {
            "name": "control",
            "state": "connected",
            "since": "2026-01-01T12:00:00Z",
            "last_message_at": "2026-01-01T12:00:48Z",
            "age_seconds": 12.5,
            "problem": None,
        },
        {
            "name": "telemetry",
            "state": "disconnected",
            "since": "2026-01-01T12:00:00Z",
            "last_message_at": None,
            "age_seconds": None,
            "problem": "no route",
        },
    ]


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"host": "localhost"}, 200),
        ({"host": "localhost:51678"}, 200),
        ({"host": "127.0.0.1:51678"}, 200),
        ({"host": "[::1]:51678"}, 200),
        ({"host": "evil.example"}, 403),
        ({"host": "localhost.evil.example"}, 403),
        ({"host": "127.0.0.1.evil.example:51678"}, 403),
        ({"method": "POST"}, 405),
        ({"method": "DELETE"}, 405),
    ],
)
async def test_only_this_machine_may_ask_and_only_read(application, options, status):
    async with served(application) as port:
        assert (await ask(port, "/v1/metadata", **options)).status == status


async def test_the_full_view_lists_every_task(application):
    document = await get(application, "/berth/v1/tasks")
    assert [task["sandbox"]["local_ipv4"] for task in document["tasks"]] == ["127.0.0.11", "127.0.0.12"]


async def test_an_explanation_says_what_a_task_waits_for(application, directory):
    document = await get(application, f"/berth/v1/explain?task={directory.tasks()[0].task_id}")
    assert document["task"] == directory.tasks()[0].arn
    assert document["waits"] == [
        {
            "subject": "sandbox",
            "status": "PAUSED",
            "goal": "RUN",
            "waits_for": "interface_present",
            "cause": "no ENI",
            "since": "2026-01-01T12:00:00Z",
            "until": "2026-01-01T12:05:00Z",
            "then": "stop",
            "age": 0.0,
        }
    ]


async def test_without_a_task_everything_that_waits_is_explained(application, directory):
    document = await get(application, "/berth/v1/explain")
    assert [each["task"] for each in document["tasks"]] == [task.arn for task in directory.tasks()]
    assert {each["waits"][0]["cause"] for each in document["tasks"]} == {"no ENI"}


@pytest.mark.parametrize("waits_for", ["retention_over", "containers_removed"])
async def test_tasks_that_have_ended_and_are_kept_for_a_while_are_explained_when_asked_for(
    application, directory, waits_for
):
    assert (await get(application, "/berth/v1/explain"))["tasks"] == []
    task = directory.tasks()[0]
    document = await get(application, f"/berth/v1/explain?task={task.task_id}")
    assert [each["waits_for"] for each in document["waits"]] == [waits_for]


@pytest.mark.parametrize(
    ("target", "status", "words"),
    [
        ("/berth/v1/logs?task=00000000000000000000000000000001&since=noon", 400, "seconds since 1970"),
        ("/berth/v1/explain?task=", 400, "missing"),
        ("/berth/v1/explain?task=ffff", 404, "not known"),
        ("/berth/v1/explain?task=0000", 400, "ambiguous"),
        ("/berth/v1/logs?task=ffff", 404, "not known"),
        ("/berth/v1/logs?task=00000000000000000000000000000001&container=db", 404, "it has app"),
        ("/berth/v1/logs?task=00000000000000000000000000000001&tail=-1", 400, "number of lines"),
        ("/berth/v1/logs?task=00000000000000000000000000000001", 409, "not been created yet"),
        ("/berth/v1/nothing", 404, "/berth/v1/nothing"),
    ],
)
async def test_a_bad_question_is_answered_in_words(application, target, status, words):
    assert words in (await get(application, target, status))["message"]


@pytest.fixture
def created(directory):
    first = directory.tasks()[0]
    directory.put(
        replace(first, containers=(replace(first.containers[0], container_id=ContainerId("aa" * 32)),))
    )
    return first


async def test_logs_are_streamed_as_they_are(application, logs, created):
    async with served(application) as port:
        answer = await ask(port, f"/berth/v1/logs?task={created.arn}&container=app&tail=2&follow=1")
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert b"one\n" in answer.body
    assert b"two\n" in answer.body
    assert logs.asked == ("aa" * 32, True, 2)


async def test_logs_may_be_of_a_time_and_have_times(application, logs, created):
    async with served(application) as port:
        await ask(port, f"/berth/v1/logs?task={created.arn}&since=1767268800.5&timestamps=true")
    assert logs.asked_for_times == (1767268800.5, True)


async def test_logs_of_a_container_that_printed_nothing_are_empty(application, logs, created):
    logs.pieces = []
    async with served(application) as port:
        answer = await ask(port, f"/berth/v1/logs?task={created.arn}")
    assert answer.status == 200
    assert logs.asked == ("aa" * 32, False, None)


async def test_logs_while_docker_is_away_are_a_503(application, logs, created):
    logs.pieces, logs.failure = [], RuntimeUnavailable("Docker does not answer")
    document = await get(application, f"/berth/v1/logs?task={created.arn}", 503)
    assert "Docker does not answer" in document["message"]


async def test_logs_that_break_off_do_not_look_complete(application, logs, created):
    logs.failure = RuntimeUnavailable("Docker has gone")
    async with served(application) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET /berth/v1/logs?task={created.arn} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        text = b""
        try:
            while piece := await asyncio.wait_for(reader.read(1000), 5):
                text += piece
        except ConnectionError:
            text += b"(reset)"
        writer.close()
    assert not text.endswith(b"0\r\n\r\n")


async def test_a_follower_that_leaves_ends_the_reading(application, logs, created):
    logs.is_endless = True
    async with served(application) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"GET /berth/v1/logs?task={created.arn}&follow=true HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        )
        assert b" 200 " in await reader.readline()
        writer.close()
        await asyncio.wait_for(logs.closed.wait(), 5)


async def test_leaks_and_settings_are_handed_on(application):
    assert await get(application, "/berth/v1/leaks") == {"volumes": ["v1"], "cgroups": []}


async def test_settings_are_handed_on(application):
    assert (await get(application, "/berth/v1/config"))["settings"][0]["name"] == "ECS_CLUSTER"


class TestWithoutDocker:
    @pytest.fixture
    def found_leaks(self):
        return RuntimeUnavailable("Docker does not answer")

    async def test_leaks_cannot_be_looked_for(self, application):
        assert "Docker does not answer" in (await get(application, "/berth/v1/leaks", 503))["message"]


class TestBeforeTheBackendHasSpoken:
    @pytest.fixture
    def found_leaks(self):
        return BackendUnavailable("the backend has not named all of its tasks yet")

    async def test_nobody_says_that_nothing_is_left(self, application):
        assert "not named all" in (await get(application, "/berth/v1/leaks", 503))["message"]


class TestWithABug:
    @pytest.fixture
    def found_leaks(self):
        return RuntimeError("details")

    async def test_a_bug_is_a_500_without_details(self, application):
        document = await get(application, "/berth/v1/leaks", 500)
        assert "details" not in document["message"]


async def test_a_task_that_is_gone_is_not_shown(application, directory):
    directory.drop(a_task(1).arn)
    assert len((await get(application, "/v1/tasks"))["Tasks"]) == 1
