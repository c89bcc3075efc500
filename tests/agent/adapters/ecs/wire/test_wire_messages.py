import copy
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.adapters.ecs.wire import answers
from agent.adapters.ecs.wire.envelope import Envelope, read_envelope
from agent.adapters.ecs.wire.messages import (
    CloseMessage,
    ConfirmAttachmentMessage,
    ErrorMessage,
    HeartbeatMessage,
    IAMRoleCredentialsMessage,
    InvalidMessage,
    PayloadMessage,
    RoleType,
    StageUpdateMessage,
    TaskManifestMessage,
    TaskStopVerificationAck,
    UnknownMessage,
    UpdateInfo,
    read_message,
)
from agent.adapters.ecs.wire.tasks import InvalidTask, read_task
from tests.agent.adapters.ecs.wire.recorded import ARN, PLACE, RECORDED, a_role, an_eni, recorded
from tests.agent.adapters.ecs.wire.test_wire_fields import JSON

ADDRESS = {"messageId": "m-1", "clusterArn": "arn:c", "containerInstanceArn": "arn:i"}
ATTACH = {**ADDRESS, "taskArn": ARN, "elasticNetworkInterfaces": [an_eni()], "waitTimeoutMs": 300_000}
CREDENTIALS = {"messageId": "m-1", "taskArn": ARN, "roleType": "TaskApplication", "roleCredentials": a_role()}


def read(kind, **message):
    return read_message(Envelope(kind, message))


def answered(message_id):
    """What was really answered to a message, without regard to order."""
    return sorted(
        (each["type"], json.dumps(each["message"], sort_keys=True))
        for each in RECORDED
        if each["from"] == "agent" and each["message"]["messageId"] == message_id
    )


def test_every_recorded_message_is_answered_field_by_field_as_it_was():
    seen = set()
    for each in RECORDED:
        if each["from"] != "cluster":
            continue
        message = read_message(Envelope(each["type"], each["message"]))
        seen.add(type(message))
        ours = [read_envelope(text) for text in _answers(message)]
        assert sorted((one.type, json.dumps(one.message, sort_keys=True)) for one in ours) == [
            # one verification is answered by the other side, not by us
            one
            for one in answered(each["message"]["messageId"])
            if one[0] != "TaskStopVerificationMessage"
        ]
    assert len(seen) == 6


def _answers(message):
    match message:
        case HeartbeatMessage():
            return [answers.heartbeat_ack_request(message.message_id)]
        case IAMRoleCredentialsMessage():
            return [answers.credentials_ack_request(message.message_id, message.credentials)]
        case TaskStopVerificationAck():
            return []
    found = [answers.ack_request(message.message_id, message.cluster_arn, message.instance_arn)]
    if isinstance(message, PayloadMessage):
        for raw in message.tasks:
            try:
                read = read_task(
                    {**raw, "networkMode": "awsvpc", "elasticNetworkInterfaces": [an_eni()]}, PLACE
                )
            except InvalidTask as error:
                pytest.fail(str(error))
            if read.task_credentials is not None:
                found.append(answers.credentials_ack_request(message.message_id, read.task_credentials))
    return found


def test_a_question_about_tasks_is_asked_as_it_was():
    (asked,) = recorded("TaskStopVerificationMessage", "agent")
    candidate = asked["stopCandidates"][0]
    ours = read_envelope(
        answers.task_stop_verification(
            asked["messageId"], candidate["taskClusterArn"], [candidate["taskArn"]]
        )
    )
    assert (ours.type, ours.message) == ("TaskStopVerificationMessage", asked)


def test_a_refused_update_is_answered_with_its_reason():
    assert read_envelope(answers.nack_request("m-1", "arn:c", "arn:i", "Updates are disabled")) == Envelope(
        "NackRequest",
        {
            "cluster": "arn:c",
            "containerInstance": "arn:i",
            "messageId": "m-1",
            "reason": "Updates are disabled",
        },
    )


def test_a_payload_keeps_its_tasks_as_they_were_and_does_not_show_them():
    raw = recorded("PayloadMessage")[0]
    message = read("PayloadMessage", **raw)
    assert message.tasks == tuple(raw["tasks"])
    assert (message.seq_num, message.generated_at) == (3, 1795226363602)
    assert "fake-secret" not in repr(message)
    assert read("PayloadMessage", **ADDRESS) == PayloadMessage("m-1", "arn:c", "arn:i", 0, None, ())


def test_credentials_keep_the_time_to_the_letter_and_do_not_show():
    message = read(
        "IAMRoleCredentialsMessage",
        **{**CREDENTIALS, "roleCredentials": a_role(expiration="2030-01-01T18:00:00+01:00")},
    )
    assert message.role_type is RoleType.TASK_APPLICATION
    assert message.credentials.expiration == "2030-01-01T18:00:00+01:00"
    assert message.credentials.expires_at == datetime(2030, 1, 1, 17, tzinfo=UTC)
    assert "fake-secret" not in repr(message)
    assert "EXAMPLEKEYID" not in repr(message)
    assert "cred-1" not in repr(message)


def test_attached_interfaces_come_with_their_task_and_their_time():
    (raw,) = recorded("AttachTaskNetworkInterfacesMessage")
    message = read("AttachTaskNetworkInterfacesMessage", **raw)
    assert (message.task_arn, message.wait) == (raw["taskArn"], timedelta(minutes=5))
    assert [each.mac_address for each in message.interfaces] == ["0a:77:00:01:00:00"]
    trunk = read("AttachInstanceNetworkInterfacesMessage", **ATTACH)
    assert (trunk.wait, len(trunk.interfaces)) == (timedelta(minutes=5), 1)


def test_the_other_messages_are_read():
    tasks = [{"taskArn": ARN, "taskClusterArn": "arn:c", "desiredStatus": "RUNNING"}]
    manifest = read("TaskManifestMessage", **ADDRESS, timeline=7, tasks=tasks)
    assert isinstance(manifest, TaskManifestMessage)
    assert (manifest.timeline, manifest.tasks[0].task_arn, manifest.tasks[0].desired_status) == (
        7,
        ARN,
        "RUNNING",
    )
    assert read("TaskStopVerificationAck", messageId="m-1", stopTasks=None).stop_tasks == ()
    update = {"location": "https://example.com/agent.tar", "signature": "00"}
    assert read("StageUpdateMessage", **ADDRESS, updateInfo=update) == StageUpdateMessage(
        "m-1", "arn:c", "arn:i", UpdateInfo("https://example.com/agent.tar", "00")
    )
    assert read("PerformUpdateMessage", **ADDRESS).update is None
    assert read("CloseMessage", message="bye") == CloseMessage("bye")
    assert read("HeartbeatMessage", healthy=True) == HeartbeatMessage("", is_healthy=True)
    attachment = {
        "attachmentArn": "arn:a",
        "attachmentType": "amazonebs",
        "attachmentProperties": [{"name": "volumeId", "value": "vol-1"}],
    }
    assert read("ConfirmAttachmentMessage", **ADDRESS, attachment=attachment) == ConfirmAttachmentMessage(
        "m-1", "arn:c", "arn:i", "", "arn:a", "amazonebs", (("volumeId", "vol-1"),), timedelta(minutes=5)
    )


@pytest.mark.parametrize("kind", ["ErrorMessage", "ServerException", "InactiveInstanceException"])
def test_errors_are_read_with_their_name(kind):
    assert read(kind, message="oops") == ErrorMessage(kind, "oops")
    assert read(kind, message=None) == ErrorMessage(kind, "")


@pytest.mark.parametrize(
    ("kind", "message", "why"),
    [
        ("PayloadMessage", {**ADDRESS, "messageId": ""}, "Message ID is not set"),
        ("PayloadMessage", {**ADDRESS, "clusterArn": None}, "clusterArn is not set for message ID m-1"),
        (
            "PayloadMessage",
            {"messageId": "m-1", "clusterArn": "c"},
            "containerInstanceArn is not set for message ID m-1",
        ),
        (
            "PayloadMessage",
            {**ADDRESS, "tasks": [None]},
            "tasks: it is wrong; expected a list of objects, in PayloadMessage m-1",
        ),
        (
            "PayloadMessage",
            {**ADDRESS, "messageId": 7},
            "messageId: 7 is wrong; expected a text, in PayloadMessage without a message ID",
        ),
        (
            "AttachTaskNetworkInterfacesMessage",
            {**ATTACH, "elasticNetworkInterfaces": []},
            "No ENIs for message ID m-1",
        ),
        (
            "AttachTaskNetworkInterfacesMessage",
            {**ATTACH, "taskArn": ""},
            "taskArn is not set for message ID m-1",
        ),
        (
            "AttachTaskNetworkInterfacesMessage",
            {**ATTACH, "waitTimeoutMs": 0},
            "Invalid timeout set for message ID m-1",
        ),
        (
            "AttachTaskNetworkInterfacesMessage",
            {**ATTACH, "waitTimeoutMs": None},
            "Invalid timeout set for message ID m-1",
        ),
        (
            "AttachInstanceNetworkInterfacesMessage",
            {**ATTACH, "waitTimeoutMs": -1},
            "Invalid timeout set for message ID m-1",
        ),
        (
            "AttachTaskNetworkInterfacesMessage",
            {**ATTACH, "elasticNetworkInterfaces": [an_eni(), an_eni(ec2Id="")]},
            "elasticNetworkInterfaces[1].ec2Id: is not set; expected a text that is not empty, in AttachTaskNetworkInterfacesMessage m-1",
        ),
        ("IAMRoleCredentialsMessage", {}, "Message ID is not set"),
        (
            "IAMRoleCredentialsMessage",
            {**CREDENTIALS, "roleCredentials": None},
            "roleCredentials is not set for message ID m-1",
        ),
        (
            "IAMRoleCredentialsMessage",
            {**CREDENTIALS, "roleCredentials": a_role(credentialsId="")},
            "roleCredentials.credentialsId is not set for message ID m-1",
        ),
        (
            "IAMRoleCredentialsMessage",
            {**CREDENTIALS, "roleType": None},
            "roleType is not set for message ID m-1",
        ),
        (
            "IAMRoleCredentialsMessage",
            {**CREDENTIALS, "taskArn": None},
            "taskArn is not set for message ID m-1",
        ),
        (
            "IAMRoleCredentialsMessage",
            {**CREDENTIALS, "roleType": "Other"},
            'roleType: "Other" is wrong; expected TaskApplication or TaskExecution, in IAMRoleCredentialsMessage m-1',
        ),
        (
            "IAMRoleCredentialsMessage",
            {**CREDENTIALS, "roleCredentials": a_role(expiration="soon")},
            'roleCredentials.expiration: "soon" is wrong; expected a time like 2030-01-31T06:00:00Z, in IAMRoleCredentialsMessage m-1',
        ),
        (
            "IAMRoleCredentialsMessage",
            {**CREDENTIALS, "roleCredentials": a_role(secretAccessKey=["fake-secret"])},
            "roleCredentials.secretAccessKey: it is wrong; expected a text, in IAMRoleCredentialsMessage m-1",
        ),
        (
            "IAMRoleCredentialsMessage",
            {**CREDENTIALS, "roleCredentials": a_role(credentialsId="../../fake")},
            "roleCredentials.credentialsId: it is wrong; expected letters, digits and .~:_-, in IAMRoleCredentialsMessage m-1",
        ),
        ("TaskManifestMessage", ADDRESS, "timeline is not set for message ID m-1"),
        ("ConfirmAttachmentMessage", ADDRESS, "attachment is not set for message ID m-1"),
    ],
)
def test_a_message_that_ecs_would_drop_is_refused_in_its_words(kind, message, why):
    with pytest.raises(InvalidMessage) as refused:
        read(kind, **message)
    assert str(refused.value) == why


def test_a_type_from_the_future_is_unknown():
    with pytest.raises(UnknownMessage, match="PollRequest"):
        read("PollRequest")


def mutated(draw, value):
    """The same JSON with one place of it replaced, removed or added to."""
    value = copy.deepcopy(value)
    place, key = None, None
    current = value
    while isinstance(current, dict | list) and current and (place is None or draw(st.booleans())):
        keys = list(current) if isinstance(current, dict) else list(range(len(current)))
        place, key = current, draw(st.sampled_from(keys))
        current = place[key]
    if place is not None:
        if draw(st.booleans()):
            place[key] = draw(JSON)
        else:
            del place[key]
    return value


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_message_with_something_wrong_is_read_or_refused_and_nothing_else(data):
    one = data.draw(st.sampled_from([each for each in RECORDED if each["from"] == "cluster"]))
    message = mutated(data.draw, mutated(data.draw, one["message"]))
    try:
        found = read_message(Envelope(one["type"], message))
        tasks = found.tasks if isinstance(found, PayloadMessage) else ()
        for raw in tasks:
            assert read_task(raw, PLACE).spec.containers
    except (InvalidMessage, InvalidTask) as error:
        assert "fake-secret" not in str(error)  # noqa: PT017


@given(
    st.sampled_from(sorted({each["type"] for each in RECORDED})), st.dictionaries(st.text(), JSON, max_size=4)
)
def test_any_json_is_read_or_refused(kind, message):
    try:
        assert read_message(Envelope(kind, message))
    except (InvalidMessage, UnknownMessage) as error:
        assert str(error)  # noqa: PT017
