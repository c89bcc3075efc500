"""The stand-in's API judged by a client that others wrote: boto3, signed by botocore."""

import dataclasses
import json
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, ReadTimeoutError

from tests.contracts.ecs_client import RESOURCES, Client
from tests.fakes.ecs import faults
from tests.fakes.ecs.control_plane import ControlPlane
from tests.fakes.ecs.faults import Fault
from tests.fakes.ecs.tasks import one_container
from tests.fakes.ecs.truth import TASK_ROLE


@pytest.fixture
def control() -> Iterator[ControlPlane]:
    with ControlPlane(tls=False) as control:
        yield control


@pytest.fixture
def client(control: ControlPlane) -> Iterator[Client]:
    client = Client(control)
    yield client
    client.close()


# -- the API -----------------------------------------------------------------------------------


def test_boto3_speaks_with_it_over_tls_and_trusts_its_certificate() -> None:
    with ControlPlane() as control:
        client = boto3.session.Session().client(
            "ecs", endpoint_url=control.url, region_name="us-west-2", verify=str(control.server.certificate_file),
            aws_access_key_id=control.instance_keys.access_key_id,
            aws_secret_access_key=control.instance_keys.secret_access_key,
            aws_session_token=control.instance_keys.token,
        )  # fmt: skip
        try:
            assert client.create_cluster(clusterName="other")["cluster"]["clusterName"] == "other"
        finally:
            client.close()
        assert control.problems() == []
        assert control.calls("CreateCluster")[0].access_key_id == control.instance_keys.access_key_id


async def test_an_instance_registers_and_every_attribute_comes_back(client: Client) -> None:
    own = [{"name": "ecs.os-type", "value": "linux"}, {"name": "ecs.capability.task-eni"}]
    shown = await client.register()
    assert [each for each in shown["attributes"] if each in own] == own
    assert {"name": "ecs.availability-zone", "value": "us-west-2a"} in shown["attributes"]
    again = await client.register(containerInstanceArn=client.arn)
    assert again["containerInstanceArn"] == shown["containerInstanceArn"]
    assert client.control.wait_for_registration(times=2).arn == client.arn
    assert client.control.problems() == []


async def test_the_same_token_registers_one_instance(client: Client) -> None:
    token = str(uuid.uuid4())
    first = await client.register(clientToken=token)
    assert (await client.register(clientToken=token))["containerInstanceArn"] == first["containerInstanceArn"]
    assert (await client.register())["containerInstanceArn"] != first["containerInstanceArn"]


async def test_a_cluster_that_is_not_there_is_named_as_ecs_names_it(client: Client) -> None:
    client.control.truth.clusters.clear()
    document = client.registration()
    del document["clientToken"]  # which boto3's model does not know
    with pytest.raises(ClientError) as raised:
        client.boto.register_container_instance(**document)
    assert raised.value.response["Error"] == {
        "Code": "ClusterNotFoundException",
        "Message": "Cluster not found.",
    }
    client.boto.create_cluster(clusterName=client.control.names.cluster)
    await client.register()


async def test_the_poll_endpoint_is_itself(client: Client) -> None:
    await client.register()
    status, answer, headers = await client.call(
        "DiscoverPollEndpoint", {"cluster": "berth-test", "containerInstance": client.arn, "zoneId": ""}
    )
    assert (status, answer["endpoint"]) == (200, f"{client.control.url}/acs/")
    assert answer["telemetryEndpoint"] == f"{client.control.url}/tcs/"
    assert headers["Date"].endswith("GMT")
    assert client.control.problems() == []


async def test_an_instance_drains_and_its_tags_are_listed(client: Client) -> None:
    await client.register(tags=[{"key": "team", "value": "blue"}])
    answer = client.boto.update_container_instances_state(
        cluster="berth-test", containerInstances=[client.arn], status="DRAINING"
    )
    assert answer["containerInstances"][0]["status"] == "DRAINING"
    assert client.control.instance.status == "DRAINING"
    client.control.truth.tags[client.arn] = [{"key": "team", "value": "blue"}]
    assert client.boto.list_tags_for_resource(resourceArn=client.arn)["tags"] == client.control.instance.tags
    assert client.control.problems() == []


async def test_an_echo_can_be_spoiled_and_endpoints_moved(client: Client) -> None:
    client.control.api.echo = lambda sent: [{**each, "value": "other"} for each in sent]
    shown = await client.register()
    assert shown["attributes"][0] == {"name": "ecs.os-type", "value": "other"}
    client.control.api.endpoints = {"endpoint": "https://elsewhere.invalid/", "telemetryEndpoint": ""}
    answer = client.boto.discover_poll_endpoint(cluster="berth-test", containerInstance=client.arn)
    assert answer["endpoint"] == "https://elsewhere.invalid/"
    assert "telemetryEndpoint" not in answer


async def test_a_caller_that_is_no_agent_is_told_so(client: Client) -> None:
    with pytest.raises(ClientError) as raised:
        client.boto.list_clusters()
    assert raised.value.response["Error"]["Code"] == "UnknownOperationException"
    assert client.control.violations == ["ListClusters: agents do not call it"]
    status, answer, _ = await client.call("SubmitAttachmentStateChanges", {"cluster": "berth-test"})
    assert (status, answer["__type"]) == (400, "InvalidParameterException")


@pytest.mark.parametrize(
    ("altered", "said"),
    [
        ({"versionInfo": {}}, "versionInfo: not a member"),
        ({"clientToken": "x"}, "clientToken: 'x', expected"),
        ({"attributes": [{"name": "a b"}]}, "attributes[0].name: 'a b'"),
        ({"attributes": [{"name": "a", "value": 1}]}, "attributes[0].value: int, expected a string"),
        ({"tags": [{"key": "aws:x", "value": "y"}]}, "tags[0].key: 'aws:x'"),
        ({"totalResources": RESOURCES[:3]}, "totalResources: 3 elements"),
        (
            {"platformDevices": [{"id": "GPU-1", "type": "TPU"}]},
            "platformDevices[0].type: 'TPU', expected one of GPU",
        ),
    ],
)
async def test_what_a_registration_may_not_say_is_noted(
    client: Client, altered: dict[str, Any], said: str
) -> None:
    await client.register(**altered)
    assert [each for each in client.control.violations if said in each]


async def test_an_attribute_of_the_operator_is_sent_only_once(client: Client) -> None:
    own = {"attributes": [{"name": "stack", "value": "blue"}]}
    await client.register(**own)
    assert client.control.violations == []
    await client.register(containerInstanceArn=client.arn, **own)
    assert "['stack'] on re-registration" in client.control.violations[0]


# -- signatures --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("altered", "code"),
    [
        (
            {"X-Amz-Target": "AmazonEC2ContainerServiceV20141113.ListTagsForResource"},
            "InvalidSignatureException",
        ),
        ({"X-Amz-Security-Token": "another"}, "UnrecognizedClientException"),
        ({"X-Amz-Date": "20200101T000000Z"}, "InvalidSignatureException"),
        ({"X-Amz-Date": "yesterday"}, "IncompleteSignatureException"),
        ({"Authorization": ""}, "MissingAuthenticationTokenException"),
        ({"Authorization": "Bearer x"}, "IncompleteSignatureException"),
        ({"X-Amz-Extra": "not signed"}, "InvalidSignatureException"),
    ],
)
async def test_what_was_changed_after_signing_is_refused(
    client: Client, altered: dict[str, str], code: str
) -> None:
    status, answer, _ = await client.call("CreateCluster", {"clusterName": "x"}, **altered)
    assert (status, answer["__type"]) == (400, code)
    assert client.control.refusals


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"secret_access_key": "fake-secret-wrong"}, "InvalidSignatureException"),
        ({"access_key_id": "EXAMPLEKEYIDNOBODYS"}, "UnrecognizedClientException"),
        ({"token": None}, "UnrecognizedClientException"),
    ],
)
async def test_wrong_keys_are_refused(control: ControlPlane, changed: dict[str, Any], code: str) -> None:
    client = Client(control, dataclasses.replace(control.instance_keys, **changed))
    status, answer, _ = await client.call("CreateCluster", {"clusterName": "x"})
    assert (status, answer["__type"]) == (400, code)


async def test_old_keys_are_good_until_they_expire(client: Client) -> None:
    client.control.rotate_keys()
    assert (await client.call("CreateCluster", {"clusterName": "x"}))[0] == 200
    renewed = Client(client.control)
    client.control.rotate_keys(expire_old=True)
    assert (await renewed.call("CreateCluster", {"clusterName": "x"}))[1]["__type"] == "ExpiredTokenException"


@pytest.mark.parametrize(("skew", "word"), [(400, "Signature expired"), (-400, "Signature not yet current")])
async def test_a_clock_five_minutes_off_is_told_by_message_and_date(
    client: Client, skew: float, word: str
) -> None:
    client.control.skew_s = skew
    status, answer, headers = await client.call("CreateCluster", {"clusterName": "x"})
    assert (status, answer["__type"]) == (400, "InvalidSignatureException")
    assert word in answer["message"]
    shown = datetime.strptime(headers["Date"], "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
    assert abs((shown - datetime.now(UTC)).total_seconds() - skew) < 5
    client.control.skew_s = skew / 2
    assert (await client.call("CreateCluster", {"clusterName": "x"}))[0] == 200


async def test_a_task_role_may_not_speak_for_the_instance(client: Client) -> None:
    task = client.control.new_task(one_container("app:1"))
    keys = client.control.keys[task.credentials[TASK_ROLE].access_key_id]
    status, answer, _ = await Client(client.control, keys).call("CreateCluster", {"clusterName": "x"})
    assert (status, answer["__type"]) == (400, "AccessDeniedException")


# -- faults of the API -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "code", "status"),
    [
        (faults.throttled(), "ThrottlingException", 400),
        (faults.server_error(), "ServerException", 500),
        (faults.refused("ClientException", "no"), "ClientException", 400),
        (faults.bare(503, "busy"), "503", 503),
        (faults.html(), "502", 502),
    ],
)
def test_the_next_calls_are_refused_and_then_all_is_well(
    client: Client, fault: Fault, code: str, status: int
) -> None:
    client.control.faults.plan("CreateCluster", fault, times=2)
    for _ in range(2):
        with pytest.raises(ClientError) as raised:
            client.boto.create_cluster(clusterName="x")
        answer = raised.value.response
        assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == (code, status)
    client.boto.create_cluster(clusterName="x")
    assert [call.fault for call in client.control.calls("CreateCluster")] == [fault.name, fault.name, None]


@pytest.mark.parametrize("fault", [faults.hang_up(), faults.garbage()])
def test_a_connection_ends_without_a_good_answer(client: Client, fault: Fault) -> None:
    client.control.faults.plan("CreateCluster", fault)
    with pytest.raises((ConnectionClosedError, EndpointConnectionError)):
        client.boto.create_cluster(clusterName="x")
    assert "x" not in client.control.truth.clusters


def test_a_lost_answer_has_had_its_effect(client: Client) -> None:
    client.control.faults.plan("CreateCluster", faults.lost_answer())
    with pytest.raises(ConnectionClosedError):
        client.boto.create_cluster(clusterName="x")
    assert "x" in client.control.truth.clusters


def test_a_slow_answer_outlasts_the_clients_patience(client: Client) -> None:
    client.control.faults.plan("CreateCluster", faults.slow(1.0))
    with pytest.raises(ReadTimeoutError):
        client.boto.create_cluster(clusterName="x")
    client.control.faults.plan("CreateCluster", faults.slow(0.05))
    began = time.monotonic()
    client.boto.create_cluster(clusterName="y")
    assert time.monotonic() - began >= 0.05


async def test_answers_that_are_no_answers(client: Client) -> None:
    plan = client.control.faults.plan
    plan("CreateCluster", faults.not_json())
    with pytest.raises(json.JSONDecodeError):
        await client.call("CreateCluster", {"clusterName": "x"})
    plan("CreateCluster", faults.answered(["a", "list"]))
    assert (await client.call("CreateCluster", {"clusterName": "x"}))[1] == ["a", "list"]
    plan("CreateCluster", faults.redirect("https://elsewhere.invalid/"))
    with pytest.raises(json.JSONDecodeError):
        await client.call("CreateCluster", {"clusterName": "x"})
    assert client.control.calls()[-1].status == 302


def test_a_fault_may_stay_until_it_is_healed(client: Client) -> None:
    client.control.faults.plan(faults.ANY, faults.throttled(), times=None)
    for _ in range(3):
        with pytest.raises(ClientError):
            client.boto.create_cluster(clusterName="x")
    assert client.control.faults.left(faults.ANY) is None
    client.control.faults.heal()
    client.boto.create_cluster(clusterName="x")


def test_connections_are_refused_for_a_while_and_then_taken_on_the_same_port(client: Client) -> None:
    client.boto.create_cluster(clusterName="x")
    with client.control.unreachable(), pytest.raises((EndpointConnectionError, ConnectionClosedError)):
        client.boto.create_cluster(clusterName="y")
    client.boto.create_cluster(clusterName="z")
    client.control.server.refuse_connections(seconds=0.1)
    client.control.server.drop_connections()
    with pytest.raises((EndpointConnectionError, ConnectionClosedError)):
        client.boto.create_cluster(clusterName="y")
    time.sleep(0.2)
    client.boto.create_cluster(clusterName="y")
