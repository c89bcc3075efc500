"""The tags of the instance, from moto's EC2 and from one that is in trouble."""

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest
from moto.server import ThreadedMotoServer
from structlog.testing import capture_logs

from agent.adapters.aws import tags
from agent.adapters.aws.sdk import Sdk
from agent.adapters.aws.tags import instance_tags
from agent.model.errors import PortUnavailable

PAGE = """<DescribeTagsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><tagSet>
<item><resourceId>i-1</resourceId><resourceType>instance</resourceType><key>{key}</key><value>v</value></item></tagSet>
{token}</DescribeTagsResponse>"""
REFUSAL = """<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>not allowed</Message></Error></Errors>
<RequestID>1</RequestID></Response>"""


@pytest.fixture(scope="module")
def server():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def stub():
    """An EC2 whose answers a test writes; the last one is repeated."""

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            status, body = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(status)
            self.send_header("Content-Type", "text/xml")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            """Tests are quiet."""

    answers, asked = [], []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", answers, asked
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def no_pauses(monkeypatch):
    monkeypatch.setattr(tags, "_FIRST_PAUSE", 0.001)


async def test_every_tag_of_the_instance_is_found_and_no_other(server):
    ec2 = boto3.client("ec2", region_name="us-west-2", endpoint_url=server)
    run = ec2.run_instances(ImageId="ami-12c6146b", MinCount=2, MaxCount=2)["Instances"]
    instance, other = (each["InstanceId"] for each in run)
    ec2.create_tags(
        Resources=[instance], Tags=[{"Key": "team", "Value": "a"}, {"Key": "Name", "Value": "node ü"}]
    )
    ec2.create_tags(Resources=[other], Tags=[{"Key": "team", "Value": "b"}])
    with contextlib.closing(Sdk("us-west-2", endpoint=server)) as sdk:
        assert await instance_tags(sdk, instance) == (("Name", "node ü"), ("team", "a"))
        assert await instance_tags(sdk, "i-0fk00000000000001") == ()


async def test_the_question_is_the_protocols_and_pages_are_turned(stub):
    endpoint, answers, asked = stub
    answers += [
        (200, PAGE.format(key="b", token="<nextToken>more</nextToken>")),
        (200, PAGE.format(key="a", token="")),
    ]
    with contextlib.closing(Sdk("us-west-2", endpoint=endpoint)) as sdk:
        assert await instance_tags(sdk, "i-1") == (("a", "v"), ("b", "v"))
    assert len(asked) == 2
    for part in (
        "Filter.1.Name=resource-id",
        "Filter.1.Value.1=i-1",
        "Filter.2.Value.1=instance",
        "MaxResults=50",
    ):
        assert part in asked[0]
    assert "NextToken=more" in asked[1]


async def test_trouble_is_asked_about_again(stub, no_pauses):
    endpoint, answers, _ = stub
    answers += [(403, REFUSAL), (403, REFUSAL), (200, PAGE.format(key="a", token=""))]
    with contextlib.closing(Sdk("us-west-2", endpoint=endpoint)) as sdk, capture_logs() as logs:
        assert await instance_tags(sdk, "i-1") == (("a", "v"),)
    assert [entry["event"] for entry in logs] == ["tags.missed", "tags.missed"]


async def test_after_five_attempts_the_trouble_is_told(stub, no_pauses):
    endpoint, answers, asked = stub
    answers.append((403, REFUSAL))
    with (
        contextlib.closing(Sdk("us-west-2", endpoint=endpoint)) as sdk,
        pytest.raises(PortUnavailable, match=r"UnauthorizedOperation: not allowed \(asked up to 5 times\)"),
    ):
        await instance_tags(sdk, "i-1")
    assert len(asked) == 5


async def test_trouble_that_lasts_is_given_up_in_time(stub, monkeypatch):
    endpoint, answers, asked = stub
    answers.append((403, REFUSAL))
    monkeypatch.setattr(tags, "_FIRST_PAUSE", 5.0)
    monkeypatch.setattr(tags, "_LONGEST_PAUSE", 5.0)
    monkeypatch.setattr(tags, "_LIMIT", 0.5)
    with (
        contextlib.closing(Sdk("us-west-2", endpoint=endpoint)) as sdk,
        pytest.raises(PortUnavailable, match="asked up to 5 times"),
    ):
        await instance_tags(sdk, "i-1")
    assert len(asked) <= 1
