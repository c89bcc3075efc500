"""The stand-in's two websockets judged by aiohttp's client, with handshakes and frames signed by botocore."""

import asyncio
import dataclasses
import json
import ssl
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
from yarl import URL

from tests.contracts.ecs_client import QUICK, Client, Ear
from tests.fakes.ecs import faults
from tests.fakes.ecs.control_plane import ControlPlane
from tests.fakes.ecs.protocol import ACS_MESSAGES, ACS_QUERY, REQUESTS, TCS_MESSAGES, TCS_QUERY
from tests.fakes.ecs.records import NotSeen
from tests.fakes.ecs.replay import Explained, example, examples, same_shape
from tests.fakes.ecs.shapes import problems
from tests.fakes.ecs.tasks import ContainerPlan, Eni, TaskPlan, one_container
from tests.fakes.ecs.truth import TASK_ROLE, TaskRecord

ENI = Eni("0a:77:00:01:00:00", "10.77.1.0")


@pytest.fixture
def control() -> Iterator[ControlPlane]:
    with ControlPlane(tls=False) as control:
        yield control


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def client(control: ControlPlane) -> Client:
    client = Client(control)
    await client.register()
    return client


@pytest.fixture
async def ear(client: Client, http: aiohttp.ClientSession) -> AsyncIterator[Ear]:
    async with client.connected(http) as socket:
        yield Ear(client.control, socket)


async def settled(control: ControlPlane, message_id: str | None) -> None:
    assert message_id is not None
    await asyncio.to_thread(control.wait_acked, message_id, QUICK)


# -- handshakes --------------------------------------------------------------------------------


async def test_a_connection_is_greeted_as_the_recorded_one(ear: Ear) -> None:
    first, second = await ear.hear(), await ear.hear()
    assert [first["type"], second["type"]] == ["HeartbeatMessage", "TaskManifestMessage"]
    assert same_shape(first["message"], example("HeartbeatMessage", healthy=True).body) == []
    assert same_shape(second["message"], example("TaskManifestMessage").body) == []
    handshake = ear.control.wait_connected()
    assert (handshake.connection, handshake.query["dockerVersion"]) == (1, "DockerVersion: 20.10.24")
    assert ear.control.problems() == []


async def test_a_plus_sign_in_the_query_is_a_space_and_signed_as_one(
    client: Client, http: aiohttp.ClientSession
) -> None:
    signed_url = client.socket_url().replace("ws", "http", 1)
    assert "%20" in signed_url
    sent = URL(client.socket_url().replace("%20", "+"), encoded=True)
    async with http.ws_connect(sent, headers=client.signature("GET", signed_url, b"", {})) as socket:
        assert (await Ear(client.control, socket).hear())["type"] == "HeartbeatMessage"


async def test_it_works_over_tls(http: aiohttp.ClientSession) -> None:
    with ControlPlane() as control:
        trusting = ssl.create_default_context(cafile=str(control.server.certificate_file))
        client = Client(control)
        client.arn = control.truth.register(client.registration()).arn
        async with client.connected(http, ssl=trusting) as socket:
            assert (await Ear(control, socket).hear())["type"] == "HeartbeatMessage"
            control.acs.side.freeze()
            control.acs.side.thaw()
            control.heartbeat()
            assert (await Ear(control, socket).hear("HeartbeatMessage"))["message"]["healthy"] is True


async def refusal(client: Client, http: aiohttp.ClientSession, channel: str = "acs", **query: str) -> Any:
    url = client.socket_url(channel, **query).replace("ws", "http", 1)
    headers = {**client.signature("GET", url, b"", {}), **_UPGRADE}
    async with http.get(URL(url, encoded=True), headers=headers) as answer:
        return answer.status, await answer.text()


_UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ({"clusterArn": "another"}, "InvalidClusterException"),
        ({"containerInstanceArn": "arn:aws:ecs:us-west-2:111122223333:container-instance/c/" + "0" * 32},
         "InvalidInstanceException"),
        ({"protocolVersion": "1"}, "BadRequestException"),
        ({"dockerVersion": "20.10.24"}, "BadRequestException"),
        ({"zone": "here"}, "BadRequestException"),
    ],
)  # fmt: skip
async def test_a_wrong_query_is_refused_with_an_envelope(
    client: Client, http: aiohttp.ClientSession, query: dict[str, str], kind: str
) -> None:
    status, text = await refusal(client, http, **query)
    assert (status, json.loads(text)["type"]) == (400, kind)
    assert client.control.wait_for(lambda: client.control.handshakes("acs")[-1].status == 400)


@pytest.mark.parametrize(
    "kind",
    ["ServerException", "BadRequestException", "InvalidClusterException", "InvalidInstanceException",
     "AccessDeniedException", "InactiveInstanceException"],
)  # fmt: skip
async def test_every_refusal_of_a_handshake_can_be_had(
    client: Client, http: aiohttp.ClientSession, kind: str
) -> None:
    client.control.faults.plan("acs", faults.refused(kind, "told so", 403))
    status, text = await refusal(client, http)
    assert (status, json.loads(text)) == (403, {"type": kind, "message": {"message": "told so"}})
    client.control.faults.plan("acs", faults.html())
    assert (await refusal(client, http))[1].startswith("<html>")
    async with client.connected(http):
        client.control.wait_connected()


async def test_a_deregistered_instance_is_inactive(
    client: Client, ear: Ear, http: aiohttp.ClientSession
) -> None:
    client.control.deregister()
    message = await _closing(ear)
    assert message.data == 1000
    status, text = await refusal(client, http)
    assert (status, json.loads(text)["type"]) == (400, "InactiveInstanceException")
    await client.register(containerInstanceArn=client.arn)
    async with client.connected(http):
        await asyncio.to_thread(client.control.wait_connected)


async def test_a_wrong_signature_gets_no_websocket(client: Client, http: aiohttp.ClientSession) -> None:
    client.keys = dataclasses.replace(client.keys, secret_access_key="fake-secret-wrong")
    status, text = await refusal(client, http)
    assert (status, json.loads(text)["type"]) == (403, "AccessDeniedException")
    assert "acs handshake: InvalidSignatureException" in client.control.refusals[0]


# -- the control channel -----------------------------------------------------------------------


async def started(
    client: Client, ear: Ear, plan: TaskPlan, **more: Any
) -> tuple[TaskRecord, list[dict[str, Any]]]:
    """The whole way of a task as the service goes it, with an agent that does everything right."""
    heard: list[dict[str, Any]] = []

    async def behave() -> None:
        announced = (await ear.hear("AttachTaskNetworkInterfacesMessage"))["message"]
        await ear.ack(announced)
        attachment = announced["elasticNetworkInterfaces"][0]["attachmentArn"]
        await client.call(
            "SubmitTaskStateChange",
            {"cluster": "berth-test", "task": announced["taskArn"],
             "attachments": [{"attachmentArn": attachment, "status": "ATTACHED"}]},
        )  # fmt: skip
        payload = (await ear.hear("PayloadMessage"))["message"]
        await ear.ack(payload)
        keys = payload["tasks"][0]["roleCredentials"]
        await ear.say(
            "IAMRoleCredentialsAckRequest", messageId=payload["messageId"],
            credentialsId=keys["credentialsId"], expiration=keys["expiration"],
        )  # fmt: skip
        await report(client, announced["taskArn"], "RUNNING")
        heard.extend((announced, payload))

    async with asyncio.TaskGroup() as group:
        group.create_task(behave())
        task = await asyncio.to_thread(client.control.run_task, plan, eni=ENI, seconds=QUICK, **more)
    return task, heard


async def report(client: Client, arn: str, status: str, **more: Any) -> tuple[int, Any]:
    container = {"containerName": "app", "runtimeId": "0" * 64, "status": status, **more}
    code, answer, _ = await client.call(
        "SubmitTaskStateChange",
        {"cluster": "berth-test", "task": arn, "status": status, "reason": "", "containers": [container]},
    )
    return code, answer


async def test_a_task_goes_its_way_and_its_messages_are_shaped_as_recorded(client: Client, ear: Ear) -> None:
    appeared: list[Eni] = []
    plan = one_container("fkapp:local", "sh", "-c", "sleep 9")
    task, (announced, payload) = await started(client, ear, plan, appear=appeared.append)
    assert (task.status, task.containers["app"].status) == ("RUNNING", "RUNNING")
    assert appeared[0].attachment_arn == task.enis[0].attachment_arn
    assert same_shape(announced, example("AttachTaskNetworkInterfacesMessage").body) == []
    theirs = json.loads(json.dumps(example("PayloadMessage").body))
    theirs["tasks"][0]["containers"][0]["environment"] = {}
    assert same_shape(payload, theirs) == []
    stop = client.control.stop_task(task.arn)
    wanted = (await ear.hear("PayloadMessage"))["message"]
    assert same_shape(wanted["tasks"][0], example("PayloadMessage", number=1).body["tasks"][0],
                      [Explained("containers[].environment.FK", "no variable here")]) == []  # fmt: skip
    await ear.ack(wanted)
    await settled(client.control, stop)
    await report(client, task.arn, "STOPPED", exitCode=0)
    await asyncio.to_thread(client.control.wait_status, task.arn, "STOPPED", QUICK)
    assert (task.containers["app"].exit_code, [each["status"] for each in task.reports]) == (
        0,
        ["RUNNING", "STOPPED"],
    )
    assert client.control.problems() == []


async def test_a_task_that_stops_instead_of_running_ends_the_wait(client: Client) -> None:
    task = client.control.new_task(one_container("app:1"))
    client.control.send_payload(task)
    await report(client, task.arn, "STOPPED")
    with pytest.raises(NotSeen, match=r"STOPPED \(''\), expected RUNNING"):
        client.control.wait_status(task.arn, "RUNNING", QUICK)


async def test_what_a_report_may_not_say_is_noted(client: Client, ear: Ear) -> None:
    task, _ = await started(client, ear, one_container("app:1"))
    attachment = {"attachmentArn": task.enis[0].attachment_arn, "status": "ATTACHED"}
    base = {"cluster": "berth-test", "task": task.arn}
    for wrong, said in [
        ({"status": "ACTIVATING"}, "status: 'ACTIVATING', expected one of"),
        ({"status": "RUNNING", "reason": "x" * 1025}, "reason: 1025 characters"),
        ({"status": "PENDING"}, "PENDING after RUNNING"),
        ({"attachments": [attachment]}, "reported again although the report was accepted"),
        ({"attachments": [attachment], "reason": ""}, "expected only cluster, task and attachments"),
        ({"status": "RUNNING", "executionStoppedAt": "now"}, "executionStoppedAt: str, expected a number"),
        ({"status": "RUNNING", "containers": [{"containerName": "pause", "status": "RUNNING"}]},
         "container 'pause' is not one of ['app']"),
        ({"status": "RUNNING", "containers": [{"containerName": "app", "status": "PENDING"}]},
         "container app PENDING after RUNNING"),
        ({"status": "RUNNING", "containers": [{"containerName": "app", "status": "RUNNING", "networkBindings":
         [{"bindIP": "0.0.0.0", "protocol": "tcp"}]}]}, "network bindings of an awsvpc task"),
    ]:  # fmt: skip
        client.control.journal.forget()
        await client.call("SubmitTaskStateChange", {**base, **wrong})
        assert [each for each in client.control.violations if said in each], (
            wrong,
            client.control.violations,
        )


async def test_a_report_whose_answer_was_lost_may_come_again(client: Client) -> None:
    task = client.control.new_task(one_container("app:1"), ENI)
    client.control.attach(task.arn)
    document = {"cluster": "berth-test", "task": task.arn,
                "attachments": [{"attachmentArn": task.enis[0].attachment_arn, "status": "ATTACHED"}]}  # fmt: skip
    client.control.faults.plan("SubmitTaskStateChange", faults.lost_answer())
    with pytest.raises(aiohttp.ClientError):
        await client.call("SubmitTaskStateChange", document)
    assert (await client.call("SubmitTaskStateChange", document))[0] == 200
    assert client.control.problems() == []


async def test_an_interface_reported_too_late_or_of_nobody_is_noted(client: Client) -> None:
    task = client.control.new_task(one_container("app:1"), ENI)
    document = {"cluster": "berth-test", "task": task.arn,
                "attachments": [{"attachmentArn": task.enis[0].attachment_arn, "status": "ATTACHED"}]}  # fmt: skip
    await client.call("SubmitTaskStateChange", document)
    assert "was never announced" in client.control.violations[0]
    client.control.attach(task.arn, wait_ms=1)
    await asyncio.sleep(0.01)
    await client.call("SubmitTaskStateChange", document)
    assert "reported after its time was over" in client.control.violations[1]


async def test_a_report_of_a_task_that_nobody_knows_is_refused(client: Client) -> None:
    task = client.control.new_task(one_container("app:1"))
    client.control.send_payload(task)
    client.control.forget_task(task.arn)
    assert (await report(client, task.arn, "STOPPED"))[1]["__type"] == "InvalidParameterException"
    assert client.control.violations == []
    await report(client, client.control.names.new_task_arn(), "STOPPED")
    assert "was never sent" in client.control.violations[0]


async def test_a_task_of_the_tests_own_may_lack_anything(client: Client) -> None:
    arn = client.control.names.new_task_arn()
    client.control.send_payload({"arn": arn, "roleCredentials": {"roleArn": "x"}})
    code, _, _ = await client.call(
        "SubmitTaskStateChange",
        {
            "cluster": "berth-test",
            "task": arn,
            "status": "STOPPED",
            "reason": "UnrecogniedTaskError: Error loading task - x",
        },
    )
    assert (code, client.control.task(arn).status, client.control.problems()) == (200, "STOPPED", [])


async def test_acknowledgements_are_counted_and_what_is_owed_is_sent_again(client: Client, ear: Ear) -> None:
    task = client.control.new_task(one_container("app:1"))
    sent = client.control.send_payload(task, seq=41)
    client.control.acs.swallow("AckRequest")
    payload = (await ear.hear("PayloadMessage"))["message"]
    assert payload["seqNum"] == 41
    await ear.ack(payload)
    await client.control.eventually(lambda: client.control.messages("acs", "AckRequest"))
    assert sent in [each.message_id for each in client.control.unacked()]
    client.control.resend_unacked()
    again = (await ear.hear("PayloadMessage"))["message"]
    assert again == payload
    await ear.ack(again)
    keys = again["tasks"][0]["roleCredentials"]
    for expiration in ("2020-01-01T00:00:00Z", keys["expiration"]):
        await ear.say("IAMRoleCredentialsAckRequest", messageId=sent, credentialsId=keys["credentialsId"],
                      expiration=expiration)  # fmt: skip
    await settled(client.control, sent)
    assert [each for each in client.control.violations if "expiration 2020-01-01T00:00:00Z" in each]
    for _ in range(2):
        await ear.ack(again)
    await client.control.eventually(
        lambda: any("3 times, sent 2 times" in each for each in client.control.violations), QUICK
    )


async def test_what_was_owed_comes_with_the_next_connection(
    client: Client, http: aiohttp.ClientSession
) -> None:
    task = client.control.new_task(one_container("app:1"))
    client.control.send_payload(task)
    async with client.connected(http, sendCredentials="false") as socket:
        ear = Ear(client.control, socket)
        manifest = (await ear.hear("TaskManifestMessage"))["message"]
        assert [each["taskArn"] for each in manifest["tasks"]] == [task.arn]
        assert (await ear.hear("PayloadMessage"))["message"]["tasks"][0]["arn"] == task.arn
    await client.control.eventually(lambda: client.control.handshakes("acs")[0].close_code == 1000)


async def test_keys_are_sent_to_who_asks_and_replaced(
    client: Client, ear: Ear, http: aiohttp.ClientSession
) -> None:
    task, _ = await started(client, ear, one_container("app:1"))
    sent = client.control.send_credentials(task.arn)
    body = (await ear.hear("IAMRoleCredentialsMessage"))["message"]
    assert same_shape(body, example("IAMRoleCredentialsMessage").body) == []
    assert client.control.acs.sent(sent).owed
    async with client.connected(http) as socket:
        keys = (await Ear(client.control, socket).hear("IAMRoleCredentialsMessage"))["message"][
            "roleCredentials"
        ]
        assert keys == task.credentials[TASK_ROLE].document()
        assert keys["credentialsId"] == body["roleCredentials"]["credentialsId"]


async def test_only_tasks_that_should_not_run_are_confirmed_to_stop(client: Client, ear: Ear) -> None:
    task, _ = await started(client, ear, one_container("app:1"))
    manifest_id = client.control.send_manifest([])
    await ear.hear("TaskManifestMessage")
    stranger = client.control.names.new_task_arn()
    candidates = [
        {"taskArn": arn, "taskClusterArn": client.control.names.cluster_arn, "desiredStatus": "STOPPED"}
        for arn in (task.arn, stranger)
    ]
    await ear.say("TaskStopVerificationMessage", messageId=manifest_id, stopCandidates=candidates)
    answer = (await ear.hear("TaskStopVerificationAck"))["message"]
    assert same_shape(answer, example("TaskStopVerificationAck").body) == []
    assert answer["stopTasks"] == candidates[1:]
    assert client.control.violations == []
    true_manifest = client.control.send_manifest()
    await ear.say("TaskStopVerificationMessage", messageId=true_manifest, stopCandidates=candidates[:1])
    await ear.hear("TaskStopVerificationAck")
    assert "runs in the manifest" in client.control.violations[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "no envelope"),
        ('{"type": "Ack"}', "no envelope"),
        ('{"type": "PollRequest", "message": {}}', "type 'PollRequest', expected one of"),
        ('{"type": "HeartbeatAckRequest", "message": {}}', "messageId: absent"),
        ('{"type": "HeartbeatAckRequest", "message": {"messageId": "x"}}', "message x was never sent"),
    ],
)
async def test_what_an_agent_may_not_say_is_noted(ear: Ear, text: str, said: str) -> None:
    await ear.socket.send_str(text)
    await ear.control.eventually(lambda: any(said in each for each in ear.control.violations), QUICK)


async def test_a_nack_of_a_payload_and_a_binary_frame_are_noted(client: Client, ear: Ear) -> None:
    task = client.control.new_task(one_container("app:1"))
    sent = client.control.send_payload(task)
    assert client.arn
    body = {"cluster": client.control.names.cluster_arn, "containerInstance": client.arn,
            "messageId": sent, "reason": "no"}  # fmt: skip
    await ear.socket.send_bytes(json.dumps({"type": "NackRequest", "message": body}).encode())
    await client.control.eventually(lambda: len(client.control.violations) == 2, QUICK)
    assert client.control.acs.sent(sent).nack_reason == "no"


# -- faults of the channels --------------------------------------------------------------------


async def _closing(ear: Ear) -> aiohttp.WSMessage:
    async with asyncio.timeout(QUICK):
        while True:
            message = await ear.socket.receive()
            if message.type is not aiohttp.WSMsgType.TEXT:
                return message


async def test_messages_can_be_doubled_held_and_reordered(ear: Ear) -> None:
    await ear.hear("TaskManifestMessage")
    ear.control.acs.side.copies = 2
    ear.control.heartbeat()
    assert await ear.hear() == await ear.hear()
    ear.control.acs.side.copies = 1
    ear.control.acs.side.hold()
    first, second = ear.control.heartbeat(), ear.control.heartbeat()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await ear.hear()
    assert ear.control.acs.side.release(is_reversed=True) == 2
    assert [(await ear.hear())["message"]["messageId"] for _ in range(2)] == [second, first]


async def test_anything_can_be_sent(ear: Ear) -> None:
    await ear.hear("TaskManifestMessage")
    ear.control.send_raw("{")
    ear.control.send_raw(b"\x00\x01")
    ear.control.send_raw("x" * 2_000_000)
    assert (await ear.socket.receive()).data == "{"
    assert (await ear.socket.receive()).data == b"\x00\x01"
    assert len((await ear.socket.receive()).data) == 2_000_000
    sent = ear.control.acs.message("PayloadMessage", {"messageId": "bad-1", "tasks": "none"})
    assert (await ear.hear())["message"]["tasks"] == "none"
    await ear.say("AckRequest", cluster=ear.control.names.cluster_arn, messageId="bad-1",
                  containerInstance=ear.control.instance.arn)  # fmt: skip
    await ear.control.eventually(lambda: ear.control.acs.sent(sent).acked_at is not None)
    assert ear.control.problems() == []


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 4001])
async def test_a_channel_is_closed_with_any_code(ear: Ear, code: int) -> None:
    ear.control.acs.side.close(code, "enough")
    message = await _closing(ear)
    assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, code, "enough")
    await ear.control.eventually(lambda: ear.control.acs.side.connection is None)


async def test_an_agents_farewell_is_kept(ear: Ear) -> None:
    await ear.socket.close(code=1000, message=b"ConnectionExpired: Reconnect to continue")
    shown = ear.control.handshakes("acs")[0]
    await ear.control.eventually(lambda: shown.closed_at)
    assert (shown.close_code, shown.close_text) == (1000, "ConnectionExpired: Reconnect to continue")


@pytest.mark.parametrize("reset", [False, True])
async def test_all_connections_can_be_cut(
    client: Client, ear: Ear, http: aiohttp.ClientSession, reset: bool
) -> None:
    assert client.control.server.drop_connections(reset=reset) >= 1
    message = await _closing(ear)
    assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
    await client.control.eventually(lambda: client.control.acs.side.connection is None)
    async with client.connected(http):
        await asyncio.to_thread(client.control.wait_connected, "acs", QUICK, times=2)


async def test_a_half_open_connection_says_and_hears_nothing(ear: Ear) -> None:
    await ear.hear("TaskManifestMessage")
    ear.control.acs.side.freeze()
    sent = ear.control.heartbeat()
    await ear.say("HeartbeatAckRequest", messageId=sent)
    await ear.socket.ping()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await ear.socket.receive()
    assert ear.control.messages("acs", "HeartbeatAckRequest") == []
    ear.control.acs.side.thaw()
    assert (await ear.hear())["message"]["messageId"] == sent
    await settled(ear.control, sent)


async def test_it_goes_on_beating(client: Client, http: aiohttp.ClientSession) -> None:
    client.control.acs.side.heartbeat_s = 0.05
    async with client.connected(http) as socket:
        ear = Ear(client.control, socket)
        beats = [await ear.hear("HeartbeatMessage") for _ in range(3)]
        assert len({beat["message"]["messageId"] for beat in beats}) == 3


# -- the telemetry channel ---------------------------------------------------------------------


def metrics(client: Client, **altered: Any) -> dict[str, Any]:
    place = {"cluster": "berth-test", "containerInstance": client.arn}
    flags = {"fin": True, "idle": True, "messageId": str(uuid.uuid4())}
    return {"metadata": {**place, **flags, **altered}, "timestamp": time.time()}


async def test_signed_frames_are_acknowledged_by_their_kind(
    client: Client, http: aiohttp.ClientSession
) -> None:
    place = {"cluster": "berth-test", "containerInstance": client.arn}
    now = time.time()
    status = {"metadata": {**place, "requestId": str(uuid.uuid4())}, "timestamp": now,
              "statuses": [{"type": "ContainerRuntime", "status": "OK", "lastStatusChange": now,
                            "lastUpdated": now}]}  # fmt: skip
    async with client.connected(http, "tcs") as socket:
        ear = Ear(client.control, socket)
        assert (await ear.hear())["message"] == {"healthy": True}
        for kind, message, ack in [
            ("PublishMetricsRequest", metrics(client), "AckPublishMetric"),
            ("PublishInstanceStatusRequest", status, "AckPublishInstanceStatus"),
        ]:
            await socket.send_bytes(client.frame(kind, message))
            assert await ear.hear() == {"type": ack, "message": {"message": ""}}
        await socket.send_str(client.frame("PublishMetricsRequest", metrics(client)).decode())
        await ear.hear("AckPublishMetric")
        assert client.control.problems() == []
        assert same_shape(status, example("PublishInstanceStatusRequest").body) == []


@pytest.mark.parametrize("changed", ["payload", "header", "unsigned"])
async def test_a_frame_with_a_wrong_signature_is_refused(
    client: Client, http: aiohttp.ClientSession, changed: str
) -> None:
    frame = client.frame("PublishMetricsRequest", metrics(client))
    frame = {
        "payload": frame.replace(b'"fin": true', b'"fin":  true'),
        "header": frame.replace(b"Signature=", b"Signature=0"),
        "unsigned": frame.partition(b"\r\n\r\n")[2],
    }[changed]
    async with client.connected(http, "tcs") as socket:
        await socket.send_bytes(frame)
        assert (await Ear(client.control, socket).hear("BadRequestException"))["message"]
    assert client.control.refusals
    assert client.control.messages("tcs", "PublishMetricsRequest") == []


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"idle": False}, "idle False with 0 tasks"),
        ({"messageId": "1"}, "metadata.messageId: '1', expected"),
        ({"cluster": "another"}, "cluster 'another' is not this one"),
        ({"extra": 1}, "metadata.extra: not a member"),
    ],
)
async def test_what_telemetry_may_not_say_is_noted(
    client: Client, http: aiohttp.ClientSession, message: dict[str, Any], said: str
) -> None:
    async with client.connected(http, "tcs") as socket:
        await socket.send_bytes(client.frame("PublishMetricsRequest", metrics(client, **message)))
        await client.control.eventually(
            lambda: any(said in each for each in client.control.violations), QUICK
        )


async def test_parts_of_a_tick_end_with_fin(client: Client, http: aiohttp.ClientSession) -> None:
    client.control.tcs.acknowledges = False
    async with client.connected(http, "tcs") as socket:
        for fin in (False, True):
            await socket.send_bytes(client.frame("PublishMetricsRequest", metrics(client, fin=fin)))
        await client.control.eventually(
            lambda: any("had no part with fin" in each for each in client.control.violations)
        )
    assert client.control.messages("tcs", "AckPublishMetric", "out") == []


# -- the recordings, and what is left behind ---------------------------------------------------


def test_the_recordings_are_all_there_and_are_of_their_own_shape() -> None:
    assert len(examples()) == 44
    for each in examples():
        assert same_shape(each.body, each.body) == []
    with pytest.raises(LookupError, match="1 were recorded, number 5"):
        example("TaskManifestMessage", number=5)


def test_what_agents_said_in_the_recordings_breaks_no_rule() -> None:
    judged = 0
    for each in examples():
        if each.direction != "in" or each.channel == "vpc" or each.type in ("(closed)", "GetTaskProtection"):
            continue
        if each.type == "(handshake)":
            shape, body = {"acs": ACS_QUERY, "tcs": TCS_QUERY}[each.channel], each.body["query"]
        else:
            shape, body = (
                {"api": REQUESTS, "acs": ACS_MESSAGES, "tcs": TCS_MESSAGES}[each.channel][each.type],
                each.body,
            )
        assert list(problems(body, shape)) == [], each.type
        judged += 1
    assert judged > 20


def test_differences_of_shape_are_named() -> None:
    theirs = {"a": 1, "b": [{"c": "x"}], "d": None, "config": '{"User": "x"}'}
    ours = {"a": "1", "b": [{"c": "x"}, {"e": 1}], "f": True, "config": '{"User": 1, "Labels": {}}'}
    assert same_shape(ours, theirs) == [
        "a: string, recorded number",
        "b[].c: absent, but recorded",
        "b[].e: not recorded",
        "config.User: number, recorded string",
        "d: absent, but recorded",
        "f: not recorded",
    ]
    explained = [Explained("d", "not needed"), Explained("x", "a mistake")]
    assert same_shape({"a": 2.5, "b": [], "config": "{}"}, theirs, explained) == [
        "x: explained (a mistake), but there is no difference"
    ]


async def test_it_leaves_no_thread_and_no_port(http: aiohttp.ClientSession) -> None:
    before = set(threading.enumerate())
    control = ControlPlane(tls=False).start()
    client = Client(control)
    await client.register()
    async with client.connected(http), client.connected(http, "tcs"):
        control.acs.side.freeze()
        control.faults.plan("CreateCluster", faults.slow(30))
        url = control.url
        async with asyncio.TaskGroup() as group:
            slow = group.create_task(_failing(client))
            await control.eventually(lambda: control.calls("CreateCluster"))
            began = time.monotonic()
            control.stop()
            assert time.monotonic() - began < 2
            await slow
    control.stop()
    left = {
        thread for thread in threading.enumerate() if thread not in before and "asyncio" not in thread.name
    }
    assert left == set()
    with pytest.raises(aiohttp.ClientConnectorError):
        await http.get(url)


async def _failing(client: Client) -> None:
    with pytest.raises(aiohttp.ClientError):
        await client.call("CreateCluster", {"clusterName": "x"})


def test_an_environment_leads_an_agent_here(control: ControlPlane) -> None:
    environment = control.environment()
    assert environment["ECS_BACKEND_HOST"] == control.url
    assert environment["AWS_SESSION_TOKEN"] == control.instance_keys.token
    assert control.instance_keys.secret_access_key not in repr(control.instance_keys)


def test_a_plan_may_say_everything(control: ControlPlane) -> None:
    plan = TaskPlan(
        (ContainerPlan("db", "db:1", ports=(80,), mounts=(("v", "/v", True),), depends_on={"x": "HEALTHY"},
                       host_config={"Init": True}, config={"User": "1"}, command_override=("a",),
                       entry_point=("e",), start_timeout=5, stop_timeout=6, more={"privileged": True}),),
        host_volumes={"v": "/srv", "w": None}, execution_role="fkExecutionRole", cpu=0.5,
        network_mode="bridge", more={"group": "service:web"},
    )  # fmt: skip
    document = control.truth.payload_of(control.new_task(plan), "RUNNING")
    (container,) = document["containers"]
    assert json.loads(container["overrides"]) == {"command": ["a"]}
    assert json.loads(container["dockerConfig"]["hostConfig"])["NetworkMode"] == "bridge"
    assert container["privileged"] is True
    assert document["volumes"][1] == {"name": "w", "type": "host", "host": {}}
    assert {"roleCredentials", "executionRoleCredentials", "group", "cpu"} <= set(document)
