"""The control channel's conversation: what is answered, what is kept, and that nothing ends it."""

import asyncio
import copy
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from agent.adapters.ecs.acs import ControlSession, control_url
from agent.adapters.ecs.assignments import Assignments
from agent.adapters.ecs.attachments import Attachments
from agent.adapters.ecs.backend import EcsBackend
from agent.adapters.ecs.change import Change
from agent.adapters.ecs.credentials import DeliveredCredentials
from agent.adapters.ecs.outbox import Outbox
from agent.adapters.ecs.records import InstanceRecord
from agent.adapters.ecs.store import Store
from agent.model.errors import BackendUnavailable, CredentialsUnavailable
from agent.model.ids import TaskArn
from agent.model.report import TaskReport
from agent.model.spec import PullBehavior
from agent.model.status import TaskStatus
from tests.fakes.clock import FakeClock
from tests.fakes.documents import MemoryDocuments
from tests.fakes.interfaces import FakeInterfaces

EXAMPLES = [
    json.loads(line) for line in (Path(__file__).parent / "wire" / "messages.jsonl").read_text().splitlines()
]


def example(kind: str, number: int = 0, *, of: str = "cluster") -> dict[str, Any]:
    """A message that was seen on the wire."""
    found = [each for each in EXAMPLES if each["from"] == of and each["type"] == kind]
    return copy.deepcopy({"type": kind, "message": found[number]["message"]})


PAYLOAD = example("PayloadMessage")
STOP = example("PayloadMessage", 1)
ATTACH = example("AttachTaskNetworkInterfacesMessage")
ARN = TaskArn(PAYLOAD["message"]["tasks"][0]["arn"])
MAC = ATTACH["message"]["elasticNetworkInterfaces"][0]["macAddress"]


@dataclass
class Submitted:
    changes: list[dict[str, Any]] = field(default_factory=list)
    problems: int = 0

    async def submit(self, body: dict[str, Any], *, operation: str = "SubmitTaskStateChange") -> None:
        del operation
        if self.problems:
            self.problems -= 1
            raise BackendUnavailable("away")
        self.changes.append(body)


class Talk:
    """A conversation whose messages a test gives in advance."""

    def __init__(self, *texts: str) -> None:
        self.sent: list[dict[str, Any]] = []
        self.signs_of_life = 0
        self._texts = texts

    async def texts(self) -> AsyncIterator[str]:
        for text in self._texts:
            yield text

    async def send(self, text: str) -> None:
        self.sent.append(json.loads(text))

    def active(self) -> None:
        self.signs_of_life += 1


@dataclass
class Stage:
    clock: FakeClock
    documents: MemoryDocuments
    submitted: Submitted
    store: Store
    credentials: DeliveredCredentials
    interfaces: FakeInterfaces
    assignments: Assignments
    backend: EcsBackend
    session: ControlSession
    heartbeats: list[None]
    change: Change

    async def hear(self, *messages: dict[str, Any] | str) -> list[dict[str, Any]]:
        """The answers to these messages."""
        talk = Talk(*(each if isinstance(each, str) else json.dumps(each) for each in messages))
        await self.session.converse(talk)
        await asyncio.sleep(0.01)
        return talk.sent

    def wanted(self) -> dict[TaskArn, str | None]:
        """Which tasks should be here, and why they should stop."""
        return {each.arn: each.stop for each in self.assignments.wanted().tasks}


@asynccontextmanager
async def a_stage(documents: MemoryDocuments | None = None):
    clock = FakeClock()
    documents = documents or MemoryDocuments()
    change = Change()
    store = Store(documents, clock, change)
    await store.open()
    if store.instance is None:
        await store.update_instance(lambda _: InstanceRecord("demo", "arn:instance"))
    submitted, interfaces, heartbeats = Submitted(), FakeInterfaces(), []
    credentials = DeliveredCredentials(clock)
    outbox = Outbox(submitted, store, clock, cluster="demo")
    attachments = Attachments(store, interfaces, outbox, clock, timedelta(minutes=5))
    assignments = Assignments(
        store,
        credentials,
        attachments,
        outbox,
        tasks_changed=change,
        cluster="demo",
        pull_behavior=PullBehavior.DEFAULT,
    )
    session = ControlSession(assignments, attachments, clock, heartbeat=lambda: heartbeats.append(None))
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(outbox.run()), group.create_task(attachments.run())]
        backend = EcsBackend(assignments, outbox, credentials, change)
        yield Stage(
            clock,
            documents,
            submitted,
            store,
            credentials,
            interfaces,
            assignments,
            backend,
            session,
            heartbeats,
            change,
        )
        for each in running:
            each.cancel()


def manifest(timeline: int, *running: str) -> dict[str, Any]:
    message = example("TaskManifestMessage")
    message["message"] |= {
        "timeline": timeline,
        "messageId": f"manifest-{timeline}",
        "tasks": [{"taskArn": each, "taskClusterArn": "c", "desiredStatus": "RUNNING"} for each in running],
    }
    return message


def kinds(answers: list[dict[str, Any]]) -> list[str]:
    return [each["type"] for each in answers]


class TestTheUrl:
    def test_has_its_keys_in_order_and_the_docker_version_with_its_prefix(self):
        url = control_url(
            "https://ecs-a.example/",
            cluster="demo",
            instance_arn="arn:aws:ecs:x:1:container-instance/demo/1",
            agent_version="1.2.3",
            agent_hash="abcdef01",
            docker_version="20.10.24+dfsg1",
            send_credentials=True,
        )
        parts = urlsplit(url)
        assert parts.path == "/ws"
        assert parse_qsl(parts.query) == [
            ("agentHash", "abcdef01"),
            ("agentVersion", "1.2.3"),
            ("clusterArn", "demo"),
            ("containerInstanceArn", "arn:aws:ecs:x:1:container-instance/demo/1"),
            ("dockerVersion", "DockerVersion: 20.10.24+dfsg1"),
            ("protocolVersion", "2"),
            ("sendCredentials", "true"),
            ("seqNum", "1"),
        ]
        assert "dockerVersion=DockerVersion%3A+20.10.24%2Bdfsg1" in url


async def test_a_heartbeat_is_answered():
    async with a_stage() as stage:
        beat = example("HeartbeatMessage")
        assert await stage.hear(beat) == [
            {"type": "HeartbeatAckRequest", "message": {"messageId": beat["message"]["messageId"]}}
        ]
        assert len(stage.heartbeats) == 1


class TestPayloads:
    async def test_a_task_is_kept_then_acknowledged_with_its_credentials(self):
        async with a_stage() as stage:
            answers = await stage.hear(PAYLOAD)
            wire = [example("AckRequest", 2, of="agent"), example("IAMRoleCredentialsAckRequest", of="agent")]
            assert answers == wire
            assert stage.wanted() == {ARN: None}
        async with a_stage(stage.documents) as again:
            assert again.wanted() == {ARN: None}
            assert again.assignments.wanted().tasks[0].spec.containers[0].name == "app"

    async def test_no_secret_is_kept(self):
        async with a_stage() as stage:
            await stage.hear(PAYLOAD)
            kept = json.dumps(stage.documents.documents)
            for name in ("accessKeyId", "secretAccessKey", "sessionToken"):
                assert PAYLOAD["message"]["tasks"][0]["roleCredentials"][name] not in kept

    async def test_nothing_is_acknowledged_that_could_not_be_kept(self):
        async with a_stage() as stage:
            stage.documents.is_full = True
            with capture_logs() as lines:
                assert await stage.hear(PAYLOAD, example("HeartbeatMessage")) == [
                    {
                        "type": "HeartbeatAckRequest",
                        "message": {"messageId": example("HeartbeatMessage")["message"]["messageId"]},
                    }
                ]
            assert "message.failed" in [line["event"] for line in lines]

    @pytest.mark.parametrize("messages", [(PAYLOAD,), (PAYLOAD, STOP)], ids=["run", "stop"])
    async def test_what_could_not_be_kept_counts_when_it_is_sent_again(self, messages):
        *before, last = messages
        async with a_stage() as stage:
            await stage.hear(*before)
            changed = stage.change.next
            stage.documents.failures = 1
            assert await stage.hear(last) == []
            assert not changed.is_set()
            assert kinds(await stage.hear(last))[0] == "AckRequest"
            assert changed.is_set()
        async with a_stage(stage.documents) as again:
            assert again.wanted() == stage.wanted() == {ARN: None if last is PAYLOAD else ""}

    async def test_a_manifest_that_could_not_be_kept_counts_when_it_is_sent_again(self):
        async with a_stage() as stage:
            stage.documents.failures = 1
            assert await stage.hear(manifest(10)) == []
            assert kinds(await stage.hear(manifest(10))) == ["AckRequest"]
            assert stage.assignments.wanted().complete

    async def test_an_order_to_stop_has_no_reason_of_ours(self):
        async with a_stage() as stage:
            await stage.hear(PAYLOAD)
            assert kinds(await stage.hear(STOP)) == ["AckRequest"]
            assert stage.wanted() == {ARN: ""}

    async def test_a_stopped_task_does_not_run_again(self):
        async with a_stage() as stage:
            await stage.hear(PAYLOAD, STOP)
            assert kinds(await stage.hear(PAYLOAD)) == ["AckRequest", "IAMRoleCredentialsAckRequest"]
            assert stage.wanted() == {ARN: ""}
            await stage.backend.report(TaskReport(ARN, TaskStatus.STOPPED, ()))
            assert kinds(await stage.hear(PAYLOAD)) == ["AckRequest"]
            assert stage.wanted() == {}
            assert len(stage.submitted.changes) == 1

    async def test_delivered_ten_times_in_any_order_it_is_one_task(self):
        async with a_stage() as stage:
            await stage.hear(*[PAYLOAD] * 5, *[STOP] * 2, *[PAYLOAD] * 5)
            assert stage.wanted() == {ARN: ""}

    async def test_a_task_that_was_never_here_and_must_stop_is_taken_to_be_reported(self):
        async with a_stage() as stage:
            assert kinds(await stage.hear(STOP)) == ["AckRequest"]
            assert stage.wanted() == {ARN: ""}

    async def test_a_task_that_cannot_be_read_is_stopped_and_the_message_is_not_acknowledged(self):
        bad = copy.deepcopy(PAYLOAD)
        other = copy.deepcopy(bad["message"]["tasks"][0])
        bad["message"]["tasks"].insert(0, other | {"arn": f"{ARN[:-4]}ffff", "networkMode": "bridge"})
        async with a_stage() as stage:
            assert await stage.hear(bad) == []
            assert stage.wanted() == {ARN: None}, "the good one runs"
            (change,) = stage.submitted.changes
            assert (change["task"], change["status"]) == (f"{ARN[:-4]}ffff", "STOPPED")
            assert change["reason"].startswith("UnrecogniedTaskError: Error loading task - ")
            assert "bridge" in change["reason"]
            await stage.hear(bad)
            assert len(stage.submitted.changes) == 1, "told once, however often it is sent"

    async def test_a_repetition_that_cannot_be_read_does_not_end_a_running_task(self):
        bad = copy.deepcopy(PAYLOAD)
        bad["message"]["tasks"][0]["containers"] = "none"
        async with a_stage() as stage:
            await stage.hear(PAYLOAD)
            await stage.hear(bad)
            assert stage.wanted() == {ARN: None}
            assert stage.submitted.changes == []

    async def test_a_task_that_is_understood_and_cannot_run_is_told_also_after_a_crash(self):
        bad = copy.deepcopy(PAYLOAD)
        container = bad["message"]["tasks"][0]["containers"][0]
        container["dependsOn"] = [{"containerName": "nobody", "condition": "START"}]
        async with a_stage() as stage:
            stage.submitted.problems = 1000
            assert kinds(await stage.hear(bad))[0] == "AckRequest"
            assert stage.wanted() == {}
        async with a_stage(stage.documents) as again:
            await asyncio.sleep(0.01)
            (change,) = again.submitted.changes
            assert (change["task"], change["status"]) == (ARN, "STOPPED")
            assert change["reason"].startswith("TaskDependencyError")
            assert again.store.tasks() == ()
            assert kinds(await again.hear(bad)) == ["AckRequest"]
            assert len(again.submitted.changes) == 1

    async def test_a_task_that_this_version_cannot_read_any_more_can_still_be_stopped(self):
        async with a_stage() as stage:
            await stage.hear(PAYLOAD)
        (name,) = [each for each in stage.documents.documents if each.startswith("task-")]
        stage.documents.documents[name]["payload"]["networkMode"] = "from the future"
        async with a_stage(stage.documents) as again:
            await again.hear(manifest(10, ARN))
            assert not again.assignments.wanted().complete, "it may run, and must not be stopped for that"
            assert kinds(await again.hear(STOP)) == ["AckRequest"]
            await asyncio.sleep(0.01)
            assert [each["status"] for each in again.submitted.changes] == ["STOPPED"]
            assert again.assignments.wanted().complete

    @pytest.mark.parametrize("missing", ["messageId", "clusterArn", "containerInstanceArn"])
    async def test_a_message_without_an_address_is_dropped_in_silence(self, missing):
        bad = copy.deepcopy(PAYLOAD)
        del bad["message"][missing]
        async with a_stage() as stage:
            assert await stage.hear(bad) == []
            assert stage.wanted() == {}


class TestCredentials:
    async def test_refreshed_ones_are_served_and_acknowledged(self):
        async with a_stage() as stage:
            await stage.hear(PAYLOAD)
            role = stage.assignments.wanted().tasks[0].spec.task_role
            refresh = example("IAMRoleCredentialsMessage")
            refresh["message"]["taskArn"] = ARN
            refresh["message"]["roleCredentials"]["credentialsId"] = role.credentials_id
            (answer,) = await stage.hear(refresh)
            assert answer["type"] == "IAMRoleCredentialsAckRequest"
            assert answer["message"] == {
                "messageId": refresh["message"]["messageId"],
                "credentialsId": role.credentials_id,
                "expiration": refresh["message"]["roleCredentials"]["expiration"],
            }
            held = await stage.credentials.for_role(role, ARN)
            assert held.access_key_id == refresh["message"]["roleCredentials"]["accessKeyId"]

    async def test_a_repeated_payload_brings_them_under_the_id_that_the_containers_know(self):
        again = copy.deepcopy(PAYLOAD)
        again["message"]["tasks"][0]["roleCredentials"] |= {
            "credentialsId": "new",
            "accessKeyId": "EXAMPLEKEYID9",
        }
        async with a_stage() as stage:
            await stage.hear(PAYLOAD)
            role = stage.assignments.wanted().tasks[0].spec.task_role
            await stage.hear(again)
            assert (await stage.credentials.for_role(role, ARN)).access_key_id == "EXAMPLEKEYID9"

    async def test_those_that_come_while_a_task_goes_down_do_not_outlive_it(self):
        async with a_stage() as stage:
            await stage.hear(PAYLOAD)
            role = stage.assignments.wanted().tasks[0].spec.task_role
            await stage.credentials.forget(ARN)
            await stage.hear(PAYLOAD)
            await stage.backend.report(TaskReport(ARN, TaskStatus.STOPPED, ()))
            with pytest.raises(CredentialsUnavailable):
                await stage.credentials.for_role(role, ARN)

    async def test_those_of_an_unknown_task_are_not_acknowledged(self):
        async with a_stage() as stage:
            assert await stage.hear(example("IAMRoleCredentialsMessage")) == []


class TestInterfaces:
    async def test_they_are_acknowledged_before_there_is_a_device(self):
        async with a_stage() as stage:
            assert await stage.hear(ATTACH) == [example("AckRequest", 1, of="agent")]
            assert stage.submitted.changes == []
            stage.interfaces.appear(MAC)
            await asyncio.sleep(0.01)
            (change,) = stage.submitted.changes
            assert change["attachments"][0]["status"] == "ATTACHED"

    async def test_what_cannot_be_written_down_is_not_acknowledged_so_that_it_is_sent_again(self):
        async with a_stage() as stage:
            stage.documents.is_full = True
            assert await stage.hear(ATTACH) == []
            stage.documents.is_full = False
            assert await stage.hear(ATTACH) == [example("AckRequest", 1, of="agent")]
            assert MAC in str(stage.documents.documents["attachments"])

    async def test_a_task_waits_for_its_interface_as_long_as_the_message_says(self):
        slow = copy.deepcopy(ATTACH)
        slow["message"]["waitTimeoutMs"] = 900_000
        async with a_stage() as stage:
            await stage.hear(slow, PAYLOAD)
            (task,) = stage.assignments.wanted().tasks
            assert task.spec.network.expires_at == stage.clock.now() + timedelta(minutes=15)

    async def test_an_interface_that_was_told_in_time_serves_a_payload_that_comes_late(self):
        async with a_stage() as stage:
            await stage.hear(ATTACH)
            stage.interfaces.appear(MAC)
            await asyncio.sleep(0.01)
            stage.clock.advance(timedelta(hours=1))
            await stage.hear(PAYLOAD)
            (task,) = stage.assignments.wanted().tasks
            assert task.spec.network.expires_at > stage.clock.now()


class TestManifests:
    async def test_what_the_cluster_does_not_know_is_stopped_after_it_has_confirmed(self):
        async with a_stage() as stage:
            await stage.hear(PAYLOAD)
            answers = await stage.hear(manifest(10))
            assert kinds(answers) == ["AckRequest", "TaskStopVerificationMessage"]
            assert answers[1]["message"] == {
                "messageId": "manifest-10",
                "stopCandidates": [
                    {
                        "taskArn": ARN,
                        "taskClusterArn": manifest(10)["message"]["clusterArn"],
                        "desiredStatus": "STOPPED",
                    }
                ],
            }
            assert stage.wanted() == {ARN: None}, "not before the cluster has confirmed it"
            confirmed = example("TaskStopVerificationAck")
            confirmed["message"] |= {
                "messageId": "manifest-10",
                "stopTasks": [{"taskArn": ARN, "taskClusterArn": "c", "desiredStatus": "STOPPED"}],
            }
            assert await stage.hear(confirmed) == []
            assert stage.wanted() == {ARN: ""}

    async def test_a_confirmation_of_another_manifest_stops_nothing(self):
        async with a_stage() as stage:
            await stage.hear(PAYLOAD, manifest(10), manifest(11))
            confirmed = example("TaskStopVerificationAck")
            confirmed["message"] |= {
                "messageId": "manifest-10",
                "stopTasks": [{"taskArn": ARN, "taskClusterArn": "c", "desiredStatus": "STOPPED"}],
            }
            await stage.hear(confirmed)
            assert stage.wanted() == {ARN: None}

    async def test_one_that_agrees_is_only_acknowledged(self):
        async with a_stage() as stage:
            await stage.hear(PAYLOAD)
            assert kinds(await stage.hear(manifest(10, ARN))) == ["AckRequest"]

    async def test_an_old_one_is_dropped_also_after_a_restart(self):
        async with a_stage() as stage:
            await stage.hear(manifest(10))
            assert await stage.hear(manifest(10), manifest(9)) == []
        async with a_stage(stage.documents) as again:
            assert not again.assignments.wanted().complete
            assert await again.hear(manifest(10)) == []
            assert again.assignments.wanted().complete, "the list is the same as before"
            assert kinds(await again.hear(manifest(11))) == ["AckRequest"]

    async def test_one_that_is_older_than_the_newest_payload_is_dropped(self):
        payload = copy.deepcopy(PAYLOAD)
        payload["message"]["seqNum"] = 20
        async with a_stage() as stage:
            await stage.hear(payload)
            assert await stage.hear(manifest(20)) == []

    async def test_only_after_one_is_it_known_that_no_task_is_missing(self):
        async with a_stage() as stage:
            await stage.hear(PAYLOAD)
            assert not stage.assignments.wanted().complete
            await stage.hear(manifest(10, ARN))
            assert stage.assignments.wanted().complete


class TestTheRest:
    @pytest.mark.parametrize(
        ("kind", "reason"),
        [
            ("StageUpdateMessage", "Updates are disabled"),
            ("PerformUpdateMessage", "Cannot perform update; update not downloaded"),
        ],
    )
    async def test_updates_are_refused(self, kind, reason):
        update = {
            "messageId": "u-1",
            "clusterArn": "arn:cluster",
            "containerInstanceArn": "arn:instance",
            "updateInfo": {"location": "https://example/agent.tar", "signature": "00"},
        }
        async with a_stage() as stage:
            assert await stage.hear({"type": kind, "message": update}) == [
                {
                    "type": "NackRequest",
                    "message": {
                        "cluster": "arn:cluster",
                        "containerInstance": "arn:instance",
                        "messageId": "u-1",
                        "reason": reason,
                    },
                }
            ]

    async def test_an_interface_of_the_machine_is_told_as_such(self):
        trunk = copy.deepcopy(ATTACH)
        trunk["type"] = "AttachInstanceNetworkInterfacesMessage"
        del trunk["message"]["taskArn"], trunk["message"]["taskClusterArn"]
        async with a_stage() as stage:
            stage.interfaces.appear(MAC)
            assert kinds(await stage.hear(trunk)) == ["AckRequest"]
            (change,) = stage.submitted.changes
            assert "task" not in change

    async def test_a_disk_is_not_promised(self):
        disk = {
            "messageId": "d-1",
            "clusterArn": "arn:cluster",
            "containerInstanceArn": "arn:instance",
            "taskArn": ARN,
            "taskClusterArn": "arn:cluster",
            "attachment": {
                "attachmentArn": "arn:disk",
                "attachmentType": "amazonebs",
                "attachmentProperties": [
                    {"name": name, "value": "1"}
                    for name in (
                        "volumeId",
                        "volumeSizeGib",
                        "deviceName",
                        "sourceVolumeHostPath",
                        "volumeName",
                    )
                ],
            },
        }
        async with a_stage() as stage:
            with capture_logs() as lines:
                assert await stage.hear({"type": "ConfirmAttachmentMessage", "message": disk}) == []
            assert "attachment.unsupported" in [line["event"] for line in lines]

    async def test_an_unknown_message_is_skipped_and_is_no_sign_of_life(self):
        async with a_stage() as stage:
            talk = Talk('{"type":"SomethingNewMessage","message":{}}', "not json", json.dumps(manifest(1)))
            await stage.session.converse(talk)
            assert kinds(talk.sent) == ["AckRequest"]
            assert talk.signs_of_life == 1

    async def test_words_of_the_cluster_are_no_orders(self):
        async with a_stage() as stage:
            for kind in ("CloseMessage", "ErrorMessage", "ServerException"):
                assert await stage.hear({"type": kind, "message": {"message": "bye"}}) == []

    async def test_a_bug_in_one_message_does_not_keep_the_next_from_being_heard(self, monkeypatch):
        async with a_stage() as stage:

            async def bug(_: object) -> None:
                raise ZeroDivisionError

            monkeypatch.setattr(stage.assignments, "take_payload", bug)
            assert kinds(await stage.hear(PAYLOAD, manifest(1))) == ["AckRequest"]


# -- fuzzing ---------------------------------------------------------------------------------------

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
json_values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
CLUSTER_MESSAGES = [
    {"type": each["type"], "message": each["message"]} for each in EXAMPLES if each["from"] == "cluster"
]


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    found = [path] if path else []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += paths(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            found += paths(inner, (*path, number))
    return found


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A real message with something wrong in one to three places, or cut off."""
    message = copy.deepcopy(draw(st.sampled_from(CLUSTER_MESSAGES)))
    for _ in range(draw(st.integers(1, 3))):
        places = paths(message)
        if not places:
            break
        *above, last = draw(st.sampled_from(places))
        holder: Any = message
        for step in above:
            holder = holder[step]
        if draw(st.booleans()):
            holder[last] = draw(json_values)
        elif isinstance(holder, dict):
            del holder[last]
    text = json.dumps(message)
    return text[: draw(st.integers(0, len(text)))] if draw(st.booleans()) else text


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(broken=st.lists(st.one_of(mutated(), st.text(max_size=50), json_values.map(json.dumps)), max_size=4))
def test_no_message_however_broken_ends_the_session_or_blocks_the_next(broken):
    async def story() -> None:
        async with a_stage() as stage:
            with capture_logs() as lines:
                answers = await stage.hear(*broken, example("HeartbeatMessage"))
            assert answers, "the last message was heard"
            assert answers[-1]["type"] == "HeartbeatAckRequest"
            assert not [line for line in lines if line["event"].endswith(".crashed")]
            for wanted in stage.assignments.wanted().tasks:
                assert wanted.spec.containers

    asyncio.run(story())
