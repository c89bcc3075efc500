"""Who this machine is, asked of a stand-in on loopback; and what it costs when nobody can say."""

import asyncio
import base64
import itertools
import json
import time
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from agent.adapters.aws.imds import (
    DEFAULT_ENDPOINT,
    Identity,
    InstanceMetadata,
    MetadataUnavailable,
    Patience,
)
from tests.fakes.ecs.faults import ANY, bare, hang_up, html, redirect, server_error, slow
from tests.fakes.ecs.imds import DOCUMENT, SIGNATURE, TOKEN_PATH, InstanceMetadataStandIn

QUICK = Patience(first=(0.1, 0.2, 0.3), later=0.5, identity=1.0, pause=0.01, longest_pause=0.05)


@pytest.fixture
def service():
    with InstanceMetadataStandIn() as service:
        yield service


@pytest.fixture
async def metadata(service):
    metadata = InstanceMetadata(f"{service.url}/", patience=QUICK)
    yield metadata
    await metadata.aclose()


def methods(service: InstanceMetadataStandIn) -> list[str]:
    """What was asked, in order, without what identifies the stand-in."""
    return [call.operation for call in service.calls()]


async def test_the_usual_endpoint_is_the_one_of_ec2():
    assert InstanceMetadata().endpoint == DEFAULT_ENDPOINT == "http://169.254.169.254"


async def test_the_identity_is_given_to_the_letter_and_understood(service, metadata):
    document = await metadata.identity_document()
    assert document == json.dumps(service.identity_document(), indent=2)
    assert base64.b64decode(await metadata.identity_signature() or "") == b"fake-signature" * 8
    assert await metadata.identity() == Identity(
        instance_id=service.instance_id,
        region=service.region,
        account=service.account,
        architecture="x86_64",
        availability_zone=service.zone,
    )
    assert methods(service).count(DOCUMENT) == 1


async def test_every_field_has_its_place(service, metadata):
    service.set("meta-data/outpost-arn", "arn:aws:outposts:us-west-2:111122223333:outpost/op-0fk")
    service.set("user-data", "#!/bin/sh\necho ü\n")
    assert await metadata.mac() == service.mac
    assert await metadata.vpc_id(service.mac.upper()) == service.vpc_id
    assert await metadata.subnet_id(service.mac) == service.subnet_id
    assert await metadata.outpost_arn() == "arn:aws:outposts:us-west-2:111122223333:outpost/op-0fk"
    assert await metadata.user_data() == "#!/bin/sh\necho ü"


async def test_every_answer_may_be_missing(service, metadata):
    for path in ("meta-data", "dynamic", "user-data"):
        service.remove(path)
    with capture_logs() as logs:
        answers = [
            await metadata.identity_document(),
            await metadata.identity_signature(),
            await metadata.identity(),
            await metadata.mac(),
            await metadata.vpc_id(service.mac),
            await metadata.subnet_id(service.mac),
            await metadata.outpost_arn(),
            await metadata.user_data(),
        ]
    assert answers == [None] * len(answers)
    assert logs == []


@pytest.mark.parametrize("content", [b"", b"  \n", b"\x1f\x8b\x08\xff\xfe"])
async def test_user_data_that_is_no_text_is_none(service, metadata, content):
    service.set("user-data", content)
    assert await metadata.user_data() is None


@pytest.mark.parametrize("text", ["not json", "[1]", '"i-1"'])
async def test_a_document_that_is_no_object_is_no_identity_and_named(service, metadata, text):
    service.set(DOCUMENT, text)
    with capture_logs() as logs:
        assert await metadata.identity() is None
    assert [entry["event"] for entry in logs] == ["metadata.doubted"]
    assert await metadata.identity_document() == text


async def test_a_document_may_say_less_and_say_it_wrongly(service, metadata):
    service.set(DOCUMENT, {"region": "eu-west-1", "accountId": 42, "instanceId": ""})
    assert await metadata.identity() == Identity(region="eu-west-1")


async def test_a_mac_that_is_none_is_not_believed(service, metadata):
    service.set("meta-data/mac", "../../user-data")
    assert await metadata.mac() is None
    with pytest.raises(ValueError, match="expected a MAC address"):
        await metadata.vpc_id("../../user-data")


# --- tokens


async def test_one_token_serves_all_questions(service, metadata):
    await asyncio.gather(metadata.mac(), metadata.outpost_arn(), metadata.subnet_id(service.mac))
    assert methods(service)[0] == TOKEN_PATH
    assert methods(service).count(TOKEN_PATH) == 1
    assert [call.status for call in service.calls()] == [200, 200, 404, 200]


async def test_a_token_that_has_expired_is_renewed_once(service, metadata):
    assert await metadata.mac() == service.mac
    service.expire_tokens()
    assert await metadata.mac() == service.mac
    assert methods(service).count(TOKEN_PATH) == 2


async def test_a_service_that_takes_no_token_is_not_asked_for_ever(service, metadata):
    service.faults.plan("meta-data/mac", bare(401), times=9)
    with pytest.raises(MetadataUnavailable) as error:
        await metadata.fetch("meta-data/mac")
    assert error.value.status == 401
    assert methods(service).count("meta-data/mac") == 2


@pytest.mark.parametrize("status", [404, 405])
async def test_a_stand_in_without_tokens_is_asked_without(service, metadata, status):
    service.allows_v1 = True
    service.faults.plan(TOKEN_PATH, bare(status), times=1)
    assert await metadata.mac() == service.mac
    assert await metadata.subnet_id(service.mac) == service.subnet_id
    assert methods(service).count(TOKEN_PATH) == 1


async def test_tokens_may_become_compulsory_later(service, metadata):
    service.allows_v1 = True
    service.faults.plan(TOKEN_PATH, bare(404), times=1)
    assert await metadata.mac() == service.mac
    service.allows_v1 = False
    assert await metadata.mac() == service.mac
    assert methods(service).count(TOKEN_PATH) == 2


async def test_a_service_that_is_troubled_is_never_asked_without_a_token(service, metadata):
    service.allows_v1 = True
    service.faults.plan(TOKEN_PATH, server_error(), times=1)
    assert await metadata.mac() is None
    assert methods(service) == [TOKEN_PATH]


async def test_a_service_that_is_turned_off_is_absent(service, metadata):
    service.faults.plan(TOKEN_PATH, bare(403), times=1)
    with capture_logs() as logs:
        assert await metadata.mac() is None
        assert await metadata.identity_document() is None
    assert methods(service) == [TOKEN_PATH]
    assert [entry["event"] for entry in logs] == ["metadata.missed"]
    assert "turned off" in logs[0]["reason"]


async def test_no_token_is_in_a_log_or_an_error(service, metadata):
    service.faults.plan("meta-data/mac", server_error(), times=1)
    with capture_logs() as logs:
        await metadata.mac()
    assert "fake-imds-token" not in repr(logs) + repr(metadata)
    assert logs[0]["path"] == "meta-data/mac"


# --- trouble


async def test_the_identity_is_asked_for_again_and_other_things_are_not(service, metadata):
    for path in (DOCUMENT, SIGNATURE, "meta-data/mac"):
        service.faults.plan(path, server_error(503), times=3)
    assert await metadata.identity_document() is not None
    assert await metadata.identity_signature() is not None
    assert await metadata.mac() is None
    assert methods(service).count(DOCUMENT) == 4
    assert methods(service).count("meta-data/mac") == 1


async def test_the_identity_is_given_up_in_time(service):
    service.faults.plan(DOCUMENT, server_error(), times=10_000)
    patience = Patience(identity=0.3, pause=0.01, longest_pause=0.02)
    metadata = InstanceMetadata(service.url, patience=patience)
    began = time.monotonic()
    with capture_logs() as logs:
        assert await metadata.identity_document() is None
    assert time.monotonic() - began < 2
    assert methods(service).count(DOCUMENT) > 3
    assert [entry["event"] for entry in logs] == ["metadata.missed"]
    await metadata.aclose()


def test_the_pauses_are_those_of_the_protocol(jumping):
    class Busy(InstanceMetadata):
        """Always in trouble, and remembers when it was asked."""

        async def fetch(self, path: str) -> bytes | None:
            asked.append(jumping.loop.time())
            raise MetadataUnavailable("busy", status=503)

    asked: list[float] = []

    async def story() -> str | None:
        return await Busy().identity_document()

    assert jumping.run(story()) is None
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked)]
    expected = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0]
    for pause, least in zip(pauses, expected, strict=False):
        assert least <= pause <= least * 1.2 + 1e-9
    assert len(pauses) >= 8
    assert asked[-1] <= 30


async def test_trouble_that_lasts_is_told_once_and_again_when_it_changes(service, metadata):
    service.faults.plan("meta-data/mac", server_error(500), times=2)
    service.faults.plan("meta-data/mac", server_error(503), times=1)
    with capture_logs() as logs:
        for _ in range(4):
            await metadata.mac()
    assert [entry["reason"][-25:] for entry in logs] == [
        "answered 500 to meta-data/mac"[-25:],
        "answered 503 to meta-data/mac"[-25:],
    ]


async def test_nobody_is_followed_elsewhere(service, metadata):
    with InstanceMetadataStandIn() as other:
        service.faults.plan("meta-data/mac", redirect(f"{other.url}/latest/meta-data/mac"), times=1)
        assert await metadata.mac() is None
        assert other.calls() == []


async def test_a_page_for_people_is_no_answer(service, metadata):
    service.faults.plan(ANY, html(), times=1)
    assert await metadata.mac() is None
    assert await metadata.mac() == service.mac


async def test_an_answer_without_end_is_cut_off(service, metadata):
    service.set("user-data", "x" * 200_000)
    with pytest.raises(MetadataUnavailable, match="more than 131072 bytes"):
        await metadata.fetch("user-data")
    assert await metadata.user_data() is None


# --- absence


async def test_a_machine_without_the_service_asks_once(service, metadata):
    service.server.refuse_connections()
    with capture_logs() as logs:
        assert await metadata.identity() is None
        assert await asyncio.gather(metadata.mac(), metadata.user_data()) == [None, None]
    assert len(logs) == 1
    service.server.accept_connections()
    assert await metadata.mac() is None
    assert service.calls() == []


async def test_absence_is_doubted_after_a_while(service):
    metadata = InstanceMetadata(service.url, patience=Patience(absence=0.05))
    service.server.refuse_connections()
    assert await metadata.mac() is None
    service.server.accept_connections()
    await asyncio.sleep(0.06)
    assert await metadata.mac() == service.mac
    await metadata.aclose()


async def test_a_service_that_once_answered_is_not_absent_after_one_failure(service, metadata):
    assert await metadata.mac() == service.mac
    service.server.refuse_connections()
    service.server.drop_connections()
    assert await metadata.mac() is None
    service.server.accept_connections()
    assert await metadata.mac() == service.mac


@asynccontextmanager
async def silence():
    """A service that says nothing; yields its URL and the moments of the connections to it."""
    asked: list[float] = []

    async def take(reader, writer):
        asked.append(time.monotonic())
        await reader.read()  # until the other side gives up
        writer.close()

    async with await asyncio.start_server(take, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


async def test_a_machine_whose_packets_are_dropped_waits_five_seconds_at_start_and_never_again():
    async with silence() as (url, asked):
        metadata = InstanceMetadata(url)
        began = time.monotonic()
        answers = await asyncio.gather(
            metadata.identity_document(), metadata.mac(), metadata.user_data(), metadata.outpost_arn()
        )
        assert answers == [None] * 4
        assert len(asked) == 3  # for all four together
        assert 3.2 < time.monotonic() - began < 4
        metadata.look_again()
        assert await asyncio.gather(metadata.identity(), metadata.mac()) == [None, None]
        assert len(asked) == 4
        assert time.monotonic() - began < 5.5
        assert await metadata.identity() is None
        assert len(asked) == 4
        await metadata.aclose()


@pytest.mark.parametrize("trouble", [slow(0.25), hang_up()])
async def test_a_service_that_is_slow_at_first_is_not_absent(service, metadata, trouble):
    service.faults.plan(TOKEN_PATH, trouble, times=2)
    with capture_logs() as logs:
        mac, document = await asyncio.gather(metadata.mac(), metadata.identity_document())
    assert mac == service.mac
    assert document == json.dumps(service.identity_document(), indent=2)
    assert methods(service).count(TOKEN_PATH) <= 3
    assert logs == []


async def test_absence_can_be_forgotten_at_once(service, metadata):
    service.server.refuse_connections()
    began = time.monotonic()
    assert await metadata.mac() is None
    assert time.monotonic() - began < 0.1  # nobody waits where a connection is refused
    service.server.accept_connections()
    assert await metadata.mac() is None
    metadata.look_again()
    assert await metadata.mac() == service.mac
    metadata.look_again()
    assert await metadata.mac() == service.mac
    assert methods(service).count(TOKEN_PATH) == 1


async def test_disabled_means_that_nothing_is_asked(service):
    metadata = InstanceMetadata(service.url, is_disabled=True)
    assert await metadata.identity() is None
    assert await metadata.mac() is None
    with pytest.raises(MetadataUnavailable, match="AWS_EC2_METADATA_DISABLED is true"):
        await metadata.fetch("meta-data/mac")
    assert service.calls() == []
    await metadata.aclose()


async def test_no_proxy_ever_hears_of_it(service, metadata, monkeypatch):
    with InstanceMetadataStandIn() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        assert await metadata.mac() == service.mac
        assert proxy.calls() == []
