"""The metadata stand-in judged by botocore's own fetcher, which real SDKs use, and by plain requests."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from botocore.utils import InstanceMetadataFetcher, InstanceMetadataRegionFetcher

from tests.fakes.ecs import faults
from tests.fakes.ecs.faults import ANY, Fault
from tests.fakes.ecs.imds import DOCUMENT, LIFECYCLE, MAINTENANCE, ROLES, SIGNATURE, SPOT_ACTION, TOKEN_PATH
from tests.fakes.ecs.imds import InstanceMetadataStandIn as Metadata

_TTL = "X-aws-ec2-metadata-token-ttl-seconds"


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    with Metadata() as metadata:
        yield metadata


def ask(
    metadata: Metadata, path: str, *, method: str = "GET", seconds: float = 2.0, **headers: str
) -> tuple[int, str]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"{metadata.url}/latest/{path}", method=method, headers=sent)
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def token(metadata: Metadata, ttl: str = "60") -> str:
    status, text = ask(metadata, TOKEN_PATH, method="PUT", **{_TTL: ttl})
    assert status == 200
    return text


def read(metadata: Metadata, path: str) -> tuple[int, str]:
    return ask(metadata, path, X_aws_ec2_metadata_token=token(metadata))


def test_botocore_finds_the_roles_keys_and_the_region(metadata: Metadata) -> None:
    expected = metadata.set_role("nodes")
    base = {"base_url": metadata.url + "/", "timeout": 1, "num_attempts": 1}
    found = InstanceMetadataFetcher(**base).retrieve_iam_role_credentials()
    assert (found["role_name"], found["access_key"], found["token"]) == (
        "nodes",
        expected["AccessKeyId"],
        expected["Token"],
    )
    region = InstanceMetadataRegionFetcher(**base).retrieve_region()
    assert region == metadata.region
    assert {call.status for call in metadata.calls()} == {200}


def test_only_who_has_a_token_is_answered(metadata: Metadata) -> None:
    assert ask(metadata, "meta-data/mac")[0] == 401
    assert ask(metadata, "meta-data/mac", X_aws_ec2_metadata_token="made-up")[0] == 401
    assert read(metadata, "meta-data/mac") == (200, metadata.mac)
    held = token(metadata)
    metadata.expire_tokens()
    assert ask(metadata, "meta-data/mac", X_aws_ec2_metadata_token=held)[0] == 401
    metadata.allows_v1 = True
    assert ask(metadata, "meta-data/mac") == (200, metadata.mac)


def test_a_token_ends_after_its_time(metadata: Metadata) -> None:
    held = token(metadata, "1")
    assert ask(metadata, "meta-data/mac", X_aws_ec2_metadata_token=held)[0] == 200
    time.sleep(1.05)
    assert ask(metadata, "meta-data/mac", X_aws_ec2_metadata_token=held)[0] == 401


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [("PUT", {}, 400), ("PUT", {_TTL: "0"}, 400), ("PUT", {_TTL: "21601"}, 400), ("GET", {_TTL: "60"}, 405),
     ("PUT", {_TTL: "60", "X-Forwarded-For": "10.0.0.1"}, 403)],
)  # fmt: skip
def test_a_wrong_request_for_a_token_is_refused(
    metadata: Metadata, method: str, headers: dict[str, str], status: int
) -> None:
    assert ask(metadata, TOKEN_PATH, method=method, **headers)[0] == status


def test_everything_an_agent_reads_is_there(metadata: Metadata) -> None:
    document = json.loads(read(metadata, DOCUMENT)[1])
    assert (document["instanceId"], document["region"]) == (metadata.instance_id, metadata.region)
    assert len(read(metadata, SIGNATURE)[1]) > 100
    interface = f"meta-data/network/interfaces/macs/{metadata.mac}"
    assert read(metadata, f"{interface}/vpc-id")[1] == metadata.vpc_id
    assert read(metadata, f"{interface}/subnet-id")[1] == metadata.subnet_id
    assert read(metadata, "meta-data/placement/availability-zone")[1] == metadata.zone
    assert read(metadata, "meta-data/network/interfaces/macs/")[1] == f"{metadata.mac}/"
    assert read(metadata, ROLES)[1] == "fkInstanceRole"
    assert read(metadata, MAINTENANCE)[1] == "[]"
    for absent in (SPOT_ACTION, LIFECYCLE, "user-data", "meta-data/outpost-arn"):
        assert read(metadata, absent)[0] == 404


def test_what_happens_to_an_instance_can_be_announced(metadata: Metadata) -> None:
    metadata.interrupt("stop")
    assert json.loads(read(metadata, SPOT_ACTION)[1])["action"] == "stop"
    metadata.schedule_maintenance("instance-retirement")
    assert json.loads(read(metadata, MAINTENANCE)[1])[0]["Code"] == "instance-retirement"
    metadata.set(LIFECYCLE, "InService")
    assert read(metadata, LIFECYCLE)[1] == "InService"
    metadata.set("user-data", b"\x00\x01")
    assert read(metadata, "user-data")[1] == "\x00\x01"
    metadata.remove("meta-data/iam")
    assert read(metadata, ROLES)[0] == 404


@pytest.mark.parametrize(
    ("fault", "status"), [(faults.bare(404), 404), (faults.server_error(), 500), (faults.throttled(), 400)]
)
def test_a_path_can_fail_for_some_time(metadata: Metadata, fault: Fault, status: int) -> None:
    metadata.faults.plan("meta-data/mac", fault, times=2)
    assert [read(metadata, "meta-data/mac")[0] for _ in range(3)] == [status, status, 200]
    metadata.faults.plan(TOKEN_PATH, fault)
    assert ask(metadata, TOKEN_PATH, method="PUT", **{_TTL: "60"})[0] == status


def test_it_can_be_slow_and_it_can_go(metadata: Metadata) -> None:
    held = token(metadata)
    metadata.faults.plan(ANY, faults.slow(2.0))
    with pytest.raises(TimeoutError):
        ask(metadata, "meta-data/mac", seconds=0.1, X_aws_ec2_metadata_token=held)
    metadata.server.refuse_connections()
    with pytest.raises(urllib.error.URLError, match="refused"):
        ask(metadata, "meta-data/mac")
    metadata.server.accept_connections()
    assert read(metadata, "meta-data/mac")[0] == 200
