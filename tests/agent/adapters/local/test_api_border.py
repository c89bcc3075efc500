"""Who may speak to the API, and how strangers, browsers and broken requests are answered."""

import asyncio
import io
import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import aiohttp
import botocore.auth
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError

from agent.adapters.clock import SystemClock
from agent.adapters.local.api import LARGEST_BODY
from tests.agent.adapters.local.stage import NGINX, REGION, running

PREFIX = "AmazonEC2ContainerServiceV20141113"


def signed(
    stage, operation="ListClusters", body="{}", *, host=None, region=REGION, key=None, secret=None, extra=None
):
    keys = stage.backend.keys
    headers = {
        "X-Amz-Target": f"{PREFIX}.{operation}",
        "Content-Type": "application/x-amz-json-1.1",
        "Host": host or f"127.0.0.1:{stage.port}",
        **(extra or {}),
    }
    request = AWSRequest("POST", f"http://{headers['Host']}/", headers=headers, data=body)
    credentials = SimpleNamespace(
        access_key=key or keys.access_key_id, secret_key=secret or keys.secret_access_key, token=None
    )
    SigV4Auth(credentials, "ecs", region).add_auth(request)
    return {name: str(value) for name, value in request.headers.items()}


async def send(stage, headers, body="{}", *, method="POST", path="/"):
    async with (
        aiohttp.ClientSession(skip_auto_headers=("Content-Type",)) as session,
        session.request(method, stage.url + path, headers=headers, data=io.BytesIO(body.encode())) as answer,
    ):
        content = await answer.read()
        return answer.status, json.loads(content) if content else {}


async def kind_of(stage, headers, body="{}", **how):
    status, content = await send(stage, headers, body, **how)
    return status, content.get("__type")


async def test_a_signed_request_is_answered_as_json_with_a_request_id(stage):
    assert await send(stage, signed(stage)) == (
        200,
        {"clusterArns": ["arn:aws:ecs:us-east-1:000000000000:cluster/default"]},
    )


async def test_the_description_of_the_api_is_read_when_it_is_first_needed_and_only_once(tmp_path):
    async with running(tmp_path, SystemClock(), loads_shapes=True) as stage:
        assert stage.backend._api._shapes is None
        answers = await asyncio.gather(*(send(stage, signed(stage)) for _ in range(3)))
        assert {status for status, _ in answers} == {200}
        shapes = stage.backend._api._shapes
        await send(stage, signed(stage))
        assert stage.backend._api._shapes is shapes


async def test_an_unsigned_request_is_refused(stage):
    headers = {"X-Amz-Target": f"{PREFIX}.ListClusters"}
    assert await kind_of(stage, headers) == (400, "MissingAuthenticationTokenException")


async def test_an_unknown_key_is_refused(stage):
    headers = signed(stage, key="BERTHLOCALOTHER")
    assert await kind_of(stage, headers) == (400, "UnrecognizedClientException")


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda headers: headers | {"X-Amz-Target": f"{PREFIX}.ListTasks"}, id="another operation"),
        pytest.param(lambda headers: headers | {"Authorization": headers["Authorization"][:-1] + "x"}, id="signature"),
        pytest.param(lambda headers: headers | {"Authorization": "Basic QTpC"}, id="algorithm"),
        pytest.param(lambda headers: headers | {"Authorization": "AWS4-HMAC-SHA256 nothing"}, id="no parts"),
        pytest.param(
            lambda headers: headers
            | {"Authorization": headers["Authorization"].replace("host;", "").replace("SignedHeaders=host", "SignedHeaders=")},
            id="host not signed",
        ),
        pytest.param(
            lambda headers: headers | {"Authorization": headers["Authorization"].replace("host;", "host;x-missing;")},
            id="signed header missing",
        ),
        pytest.param(lambda headers: headers | {"X-Amz-Date": "yesterday"}, id="no time"),
        pytest.param(
            lambda headers: headers | {"Authorization": headers["Authorization"][:-1] + "é"}, id="beyond ascii"
        ),
        pytest.param(lambda headers: headers | {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}, id="unsigned payload"),
    ],
)  # fmt: skip
async def test_a_signature_that_does_not_fit_is_refused(stage, damage):
    assert await kind_of(stage, damage(signed(stage))) == (400, "InvalidSignatureException")


async def test_a_changed_body_is_refused(stage):
    assert await kind_of(stage, signed(stage), '{"maxResults": 1}') == (400, "InvalidSignatureException")


async def test_a_wrong_secret_is_refused(stage):
    headers = signed(stage, secret="obviously-not-the-secret")
    assert await kind_of(stage, headers) == (400, "InvalidSignatureException")


async def test_a_signature_for_another_region_is_refused_and_the_right_one_is_named(stage):
    status, content = await send(stage, signed(stage, region="eu-west-1"))
    assert (status, content["__type"]) == (400, "InvalidSignatureException")
    assert "us-east-1/ecs/aws4_request" in content["message"]


@pytest.mark.parametrize(("minutes", "status"), [(-6, 400), (-4, 200), (4, 200), (6, 400)])
async def test_a_signature_holds_for_five_minutes(stage, monkeypatch, minutes, status):
    then = datetime.now(UTC).replace(tzinfo=None) + timedelta(minutes=minutes)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: then)
    assert (await send(stage, signed(stage)))[0] == status


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:51670", "127.0.0.1.evil.example", "127.0.0.1:x", "[::1]:80"]
)
async def test_a_foreign_host_header_is_refused_even_with_a_signature(stage, host):
    assert await kind_of(stage, signed(stage, host=host)) == (403, "AccessDeniedException")


async def test_localhost_is_not_foreign(stage):
    assert (await send(stage, signed(stage, host=f"localhost:{stage.port}")))[0] == 200


@pytest.mark.parametrize("header", ["Origin", "Sec-Fetch-Site"])
async def test_a_browser_is_refused(stage, header):
    headers = signed(stage) | {header: "http://127.0.0.1"}
    assert await kind_of(stage, headers) == (403, "AccessDeniedException")


@pytest.mark.parametrize("method", ["GET", "PUT", "OPTIONS", "DELETE"])
async def test_only_post_is_served(stage, method):
    assert await kind_of(stage, signed(stage), method=method) == (403, "AccessDeniedException")


@pytest.mark.parametrize("path", ["/x", "/?x=1", "//"])
async def test_only_the_root_is_served(stage, path):
    assert await kind_of(stage, signed(stage), path=path) == (403, "AccessDeniedException")


async def test_an_unknown_operation_is_named_with_the_known_ones(stage):
    status, content = await send(stage, signed(stage, "CreateService"))
    assert (status, content["__type"]) == (400, "UnknownOperationException")
    assert content["message"].startswith("CreateService: not supported by berth; supported are CreateCluster")
    assert "RunTask" in content["message"]


async def test_a_target_of_another_service_is_refused(stage):
    headers = signed(stage, extra={"X-Amz-Target": "DynamoDB_20120810.ListTables"})
    status, content = await send(stage, headers)
    assert (status, content["__type"]) == (400, "UnknownOperationException")
    assert f"expected {PREFIX}. and the name of an operation" in content["message"]


@pytest.mark.parametrize("body", ["", "not json", "[]", '"text"', "[" * 100_000, r'{"startedBy": "\ud800"}'])
async def test_a_body_that_is_no_object_is_refused(stage, body):
    status, kind = await kind_of(stage, signed(stage, body=body), body)
    assert (status, kind) == ((200, None) if body == "" else (400, "SerializationException"))


async def test_a_body_that_is_too_large_is_refused(stage):
    body = json.dumps({"nextToken": "x" * LARGEST_BODY})
    assert await kind_of(stage, signed(stage, body=body), body) == (413, "SerializationException")


@pytest.mark.parametrize(
    ("operation", "wanted", "sentence"),
    [
        ("RunTask", {}, 'Missing required parameter in input: "taskDefinition"'),
        ("RunTask", {"taskDefinition": "x", "count": "many"}, "Invalid type for parameter count"),
        ("RunTask", {"taskDefinition": "x", "count": True}, "Invalid type for parameter count"),
        ("RunTask", {"taskDefinition": "x", "kount": 1}, 'Unknown parameter in input: "kount"'),
        ("ListTasks", {"maxResults": 0}, "maxResults 0: expected 1 to 100"),
        ("ListTasks", {"nextToken": "x"}, "Invalid token"),
        ("ListTasks", {"desiredStatus": "GONE"}, "desiredStatus 'GONE'"),
        ("ListTasks", {"serviceName": "s"}, "there are no services"),
        ("DescribeTasks", {"tasks": []}, "tasks: 0 given, expected 1 to 100"),
        ("DescribeTasks", {"tasks": ["short"]}, "Invalid task 'short'"),
        ("DescribeTasks", {"tasks": ["arn:aws:ecs:us-east-1:111122223333:task/default/" + "0" * 32]}, "Invalid identifier"),
        ("StopTask", {"task": "0" * 32}, "The referenced task was not found."),
        ("ListContainerInstances", {"filter": "x == y"}, "filter 'x == y': not supported"),
        ("UpdateContainerInstancesState", {"containerInstances": ["x"], "status": "GONE"}, "should be one of [ACTIVE, DRAINING]"),
        ("TagResource", {"resourceArn": "x", "tags": []}, "resourceArn 'x'"),
        ("CreateCluster", {"clusterName": "1"}, "clusterName '1'"),
        ("CreateCluster", {"capacityProviders": ["x"]}, "capacityProviders: not supported"),
        ("DeregisterTaskDefinition", {"taskDefinition": "web"}, "expected family:revision"),
        ("ListTaskDefinitions", {"sort": "UP"}, "sort 'UP': expected ASC or DESC"),
    ],
)  # fmt: skip
async def test_a_wrong_parameter_is_named(stage, operation, wanted, sentence):
    body = json.dumps(wanted)
    status, content = await send(stage, signed(stage, operation, body), body)
    assert (status, content["__type"]) == (400, "InvalidParameterException")
    assert sentence in content["message"]


@pytest.mark.parametrize(
    ("operation", "wanted", "kind"),
    [
        ("DescribeTasks", {"cluster": "other", "tasks": ["0" * 32]}, "ClusterNotFoundException"),
        ("ListTasks", {"cluster": "arn:aws:ecs:eu-west-1:1:cluster/default"}, "ClusterNotFoundException"),
        ("DescribeTaskDefinition", {"taskDefinition": "web:1"}, "ClientException"),
        ("RegisterTaskDefinition", {"family": "x"}, "ClientException"),
        ("ListTagsForResource", {"resourceArn": "arn:aws:ecs:us-east-1:000000000000:cluster/x"}, "ResourceNotFoundException"),
    ],
)  # fmt: skip
async def test_errors_have_the_types_of_amazon_ecs(stage, operation, wanted, kind):
    body = json.dumps(wanted)
    assert await kind_of(stage, signed(stage, operation, body), body) == (400, kind)


async def test_numbers_written_as_text_are_taken_as_numbers_and_null_as_nothing(stage):
    definition = {
        **NGINX,
        "cpu": 256,
        "memory": "1gb",
        "taskRoleArn": None,
        "containerDefinitions": [
            {
                "name": "nginx",
                "image": "nginx",
                "memory": "512",
                "cpu": "100",
                "essential": "true",
                "portMappings": [{"containerPort": "80"}],
                "command": None,
            }
        ],
    }
    body = json.dumps(definition)
    status, content = await send(stage, signed(stage, "RegisterTaskDefinition", body), body)
    assert status == 200
    container = content["taskDefinition"]["containerDefinitions"][0]
    assert (container["memory"], container["cpu"], container["essential"]) == (512, 100, True)
    assert container["portMappings"][0]["containerPort"] == 80
    assert content["taskDefinition"]["cpu"] == "256"
    assert isinstance(content["taskDefinition"]["registeredAt"], float)


LIMITS = {
    "family": "nginx-limits",
    "requiresCompatibilities": ["FARGATE", "EC2"],
    "networkMode": "awsvpc",
    "cpu": ".25vcpu",
    "memory": "1gb",
    "executionRoleArn": "arn:aws:iam::111122223333:role/ecsTaskExecutionRole",
    "containerDefinitions": [
        {
            "name": "nginx",
            "image": "nginx",
            "memory": "512",
            "cpu": "100",
            "essential": True,
            "portMappings": [{"containerPort": "80", "protocol": "tcp"}],
            "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "/ecs/"}},
        }
    ],
}


async def test_a_definition_with_limits_as_text_is_refused_for_its_log_driver_only(stage):
    body = json.dumps(LIMITS)
    status, content = await send(stage, signed(stage, "RegisterTaskDefinition", body), body)
    assert (status, content["__type"]) == (400, "ClientException")
    assert "logConfiguration.logDriver 'awslogs'" in content["message"]
    assert "problems" not in content["message"]
    containers = [{**LIMITS["containerDefinitions"][0], "logConfiguration": {"logDriver": "json-file"}}]
    body = json.dumps({**LIMITS, "containerDefinitions": containers})
    status, content = await send(stage, signed(stage, "RegisterTaskDefinition", body), body)
    assert status == 200
    assert (content["taskDefinition"]["cpu"], content["taskDefinition"]["memory"]) == ("256", "1024")


async def test_a_bug_in_an_operation_is_answered_and_the_api_goes_on(stage, monkeypatch):
    async def crash(operation, wanted):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(stage.backend._api, "_perform", crash)
    status, content = await send(stage, signed(stage))
    assert (status, content["__type"]) == (500, "ServerException")
    assert "a bug" not in content["message"]
    monkeypatch.undo()
    stage.backend._api._perform = stage.backend.perform
    assert (await send(stage, signed(stage)))[0] == 200


async def test_many_clients_at_once_are_served(stage):
    await stage.register()
    answers = await asyncio.gather(*(stage.run(count=1) for _ in range(8)))
    arns = {task["taskArn"] for answer in answers for task in answer["tasks"]}
    addresses = {
        one["containers"][0]["networkInterfaces"][0]["privateIpv4Address"]
        for answer in answers
        for one in answer["tasks"]
    }
    failures = [one for answer in answers for one in answer["failures"]]
    assert (len(arns), len(addresses), failures) == (8, 8, [])


async def test_boto3_sees_the_message(stage):
    with pytest.raises(ClientError, match=r"networkMode 'bridge': not supported") as refused:
        await stage.register({**NGINX, "networkMode": "bridge"})
    assert refused.value.response["Error"]["Code"] == "ClientException"
