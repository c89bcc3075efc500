"""The chain of credentials: the real one of botocore, against a metadata service on loopback."""

import asyncio
import json
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from structlog.testing import capture_logs

from agent.adapters.ecs.keys import MOST_LOOKS, PATIENCE, Found, InstanceKeys, Keys
from agent.model.errors import CredentialsUnavailable
from tests.fakes.clock import FakeClock

MINUTE = timedelta(minutes=1)
ROLE = "/latest/meta-data/iam/security-credentials/"


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """No credentials anywhere, and nothing of the real machine is looked at."""
    for name in (
        "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_EC2_METADATA_DISABLED",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1/")


@pytest.fixture
def clock():
    return FakeClock()


class Metadata:
    """An instance metadata service with a role. ``lifetime`` of what it gives out; ``is_silent``: never answers."""

    def __init__(self):
        self.number = 0
        self.asked = []
        self.lifetime = timedelta(hours=6)
        self.is_silent = False
        self.role = web.Response
        self.has_role = True

    async def answer(self, request):
        self.asked.append(f"{request.method} {request.path}")
        if self.is_silent:
            await asyncio.sleep(20)
        if request.path == "/latest/api/token":
            return web.Response(text="fake-imds-token")
        assert request.headers["x-aws-ec2-metadata-token"] == "fake-imds-token"
        if not self.has_role:
            return web.Response(status=404)
        if request.path == ROLE:
            return web.Response(text="a-role")
        self.number += 1
        expires = datetime.now(UTC) + self.lifetime
        return web.Response(text=json.dumps({
            "Code": "Success", "AccessKeyId": f"EXAMPLEKEYID{self.number}", "SecretAccessKey": "fake-secret",
            "Token": "fake-token", "Expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }))  # fmt: skip


@pytest.fixture
async def metadata(monkeypatch):
    service = Metadata()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", service.answer)
    async with TestServer(application, host="127.0.0.1") as server:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{server.port}/")
        service.url = f"http://127.0.0.1:{server.port}"
        yield service


class TestChain:
    async def test_the_environment_comes_first(self, clock, metadata, monkeypatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "EXAMPLEKEYIDENV")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "fake-secret-env")
        with capture_logs() as logs:
            assert await InstanceKeys(clock).current() == Keys("EXAMPLEKEYIDENV", "fake-secret-env", "")
        assert [(line["event"], line["method"]) for line in logs] == [("keys.found", "env")]
        assert metadata.asked == []

    async def test_a_shared_file_is_read_again_every_minute(self, clock, tmp_path) -> None:
        def write(number):
            (tmp_path / "credentials").write_text(
                f"[default]\naws_access_key_id=EXAMPLEKEYID{number}\naws_secret_access_key=fake\naws_session_token=t\n"
            )

        keys = InstanceKeys(clock)
        write(1)
        assert await keys.current() == Keys("EXAMPLEKEYID1", "fake", "t")
        write(2)
        assert (await keys.current()).access_key_id == "EXAMPLEKEYID1"
        clock.advance(MINUTE)
        assert (await keys.current()).access_key_id == "EXAMPLEKEYID1"  # nobody waits for the look
        await landed(keys)
        assert (await keys.current()).access_key_id == "EXAMPLEKEYID2"

    async def test_the_role_of_the_instance_is_found_and_kept(self, clock, metadata) -> None:
        keys = InstanceKeys(clock)
        assert await keys.current() == Keys("EXAMPLEKEYID1", "fake-secret", "fake-token")
        for _ in range(5):
            clock.advance(MINUTE)
            await keys.current()
            await landed(keys)
        assert metadata.asked == ["PUT /latest/api/token", f"GET {ROLE}", f"GET {ROLE}a-role"]

    async def test_another_metadata_service_may_be_named(self, clock, metadata, monkeypatch) -> None:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1/")
        keys = InstanceKeys(clock, metadata_service=metadata.url)
        assert (await keys.current()).access_key_id == "EXAMPLEKEYID1"

    async def test_keys_that_end_soon_are_renewed_beside_the_callers(self, clock, metadata) -> None:
        keys = InstanceKeys(clock)
        await keys.current()
        end_in(keys, timedelta(minutes=12))
        clock.advance(MINUTE)
        assert (await keys.current()).access_key_id == "EXAMPLEKEYID1"
        await landed(keys)
        assert (await keys.current()).access_key_id == "EXAMPLEKEYID2"

    async def test_keys_outlive_a_renewal_that_fails(self, clock, metadata) -> None:
        keys = InstanceKeys(clock)
        await keys.current()
        end_in(keys, timedelta(minutes=5))
        metadata.has_role = False
        for _ in range(3):
            clock.advance(MINUTE)
            assert (await keys.current()).access_key_id == "EXAMPLEKEYID1"
            await landed(keys)
        end_in(keys, timedelta(seconds=-1))
        with pytest.raises(CredentialsUnavailable, match="no AWS credentials for this instance"):
            await keys.current()
        metadata.has_role = True
        assert (await keys.current()).access_key_id == "EXAMPLEKEYID2"

    async def test_refused_keys_are_fetched_anew(self, clock, metadata) -> None:
        keys = InstanceKeys(clock)
        await keys.current()
        keys.invalidate()
        assert (await keys.current()).access_key_id == "EXAMPLEKEYID2"

    async def test_a_role_that_comes_late_is_found(self, clock, metadata) -> None:
        metadata.has_role = False
        keys = InstanceKeys(clock)
        with pytest.raises(CredentialsUnavailable):
            await keys.current()
        metadata.has_role = True
        assert (await keys.current()).access_key_id == "EXAMPLEKEYID1"

    async def test_nothing_anywhere_is_told_with_every_place(self, clock) -> None:
        started = time.monotonic()
        with pytest.raises(CredentialsUnavailable) as caught:
            await InstanceKeys(clock).current()
        assert time.monotonic() - started < 5
        assert str(caught.value) == (
            "no AWS credentials for this instance: looked in the environment (AWS_ACCESS_KEY_ID), the shared "
            "credentials and config files (profile 'default'), the container credentials endpoint, and for the "
            "instance's role at http://127.0.0.1:1/ (unless AWS_EC2_METADATA_DISABLED is true)"
        )

    async def test_a_metadata_service_that_never_answers_costs_seconds(self, clock, metadata) -> None:
        metadata.is_silent = True
        started = time.monotonic()
        with pytest.raises(CredentialsUnavailable, match="instance's role"):
            await InstanceKeys(clock).current()
        assert time.monotonic() - started < 8

    async def test_half_of_a_pair_is_told_by_name(self, clock, monkeypatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "EXAMPLEKEYIDENV")
        with pytest.raises(CredentialsUnavailable, match="AWS_SECRET_ACCESS_KEY"):
            await InstanceKeys(clock).current()

    async def test_a_profile_that_does_not_exist_is_told_by_name(self, clock, monkeypatch) -> None:
        monkeypatch.setenv("AWS_PROFILE", "nobody")
        with pytest.raises(CredentialsUnavailable, match="nobody"):
            await InstanceKeys(clock).current()


async def test_keys_that_are_given_are_never_looked_for(clock) -> None:
    given = Keys("EXAMPLEKEYID1", "fake", "")
    keys = InstanceKeys(clock, static=given, look=None)
    keys.invalidate()
    assert await keys.current() is given


class Looks:
    """Looks that a test ends by hand."""

    def __init__(self):
        self.go_on = threading.Event()
        self.befores = []
        self.error = None

    def __call__(self, before):
        self.befores.append(before)
        assert self.go_on.wait(10)
        if self.error is not None:
            raise self.error
        return Found(Keys(f"EXAMPLEKEYID{len(self.befores)}", "fake", ""), "test")


class TestFlights:
    @pytest.fixture
    def looks(self):
        made = Looks()
        yield made
        made.go_on.set()

    async def test_a_hundred_who_ask_cause_one_look(self, clock, looks) -> None:
        keys = InstanceKeys(clock, look=looks)
        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(keys.current()) for _ in range(100)]
            await asyncio.sleep(0.02)
            asking[0].cancel()
            looks.go_on.set()
        assert {one.result().access_key_id for one in asking[1:]} == {"EXAMPLEKEYID1"}
        assert len(looks.befores) == 1

    async def test_a_source_that_hangs_is_not_waited_for(self, clock, looks) -> None:
        keys = InstanceKeys(clock, look=looks, limit=timedelta(seconds=0.1))
        for _ in range(3):
            with pytest.raises(CredentialsUnavailable, match="a source of credentials does not answer"):
                await keys.current()
        assert len(looks.befores) == 1  # one thread hangs, not three
        looks.go_on.set()
        await landed(keys)
        assert (await keys.current()).access_key_id == "EXAMPLEKEYID1"

    async def test_a_source_that_hung_is_asked_again_when_the_look_is_old(self, clock, looks) -> None:
        patience = timedelta(seconds=0.2)
        keys = InstanceKeys(clock, look=looks, limit=timedelta(seconds=0.05), patience=patience)
        with pytest.raises(CredentialsUnavailable):
            await keys.current()
        await asyncio.sleep(0.2)
        second = threading.Event()
        first, looks.go_on = looks.go_on, second
        second.set()
        with capture_logs() as logs:
            assert (await keys.current()).access_key_id == "EXAMPLEKEYID2"
        assert [line["event"] for line in logs] == ["keys.stuck", "keys.found"]
        # what the old look finds in the end is older than what is held
        first.set()
        async with asyncio.timeout(10):
            while keys._looks:
                await asyncio.sleep(0.01)
        assert (await keys.current()).access_key_id == "EXAMPLEKEYID2"
        assert len(looks.befores) == 2

    def test_a_look_is_given_a_minute(self) -> None:
        assert timedelta(seconds=60) == PATIENCE

    async def test_a_source_that_always_hangs_costs_a_few_threads_only(self, clock, looks) -> None:
        keys = InstanceKeys(clock, look=looks, limit=timedelta(seconds=0.02), patience=timedelta(0))
        for _ in range(10):
            with pytest.raises(CredentialsUnavailable, match="does not answer"):
                await keys.current()
        assert len(looks.befores) == MOST_LOOKS == 3
        looks.go_on.set()
        await landed(keys)
        assert (await keys.current()).access_key_id.startswith("EXAMPLEKEYID")

    async def test_what_was_on_its_way_when_keys_were_refused_is_not_used(self, clock, looks) -> None:
        keys = InstanceKeys(clock, look=looks)
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(keys.current())
            await asyncio.sleep(0.02)
            keys.invalidate()
            looks.go_on.set()
        assert asking.result().access_key_id == "EXAMPLEKEYID2"
        assert looks.befores == [None, None]

    async def test_a_failure_is_told_to_all_and_not_remembered(self, clock, looks) -> None:
        looks.error = CredentialsUnavailable("none today")
        looks.go_on.set()
        keys = InstanceKeys(clock, look=looks)
        with capture_logs() as logs:
            got = await asyncio.gather(*(keys.current() for _ in range(3)), return_exceptions=True)
        assert [str(one) for one in got] == ["none today"] * 3
        assert len({id(one) for one in got}) == 3
        assert [line["event"] for line in logs] == ["keys.missed"]
        looks.error = None
        assert (await keys.current()).access_key_id == "EXAMPLEKEYID2"

    async def test_the_text_of_a_surprise_is_not_told(self, clock, looks) -> None:
        looks.error = ValueError("fake-secret-in-a-file")
        looks.go_on.set()
        with pytest.raises(
            CredentialsUnavailable, match=r"^no AWS credentials for this instance: ValueError$"
        ):
            await InstanceKeys(clock, look=looks).current()

    async def test_a_clock_that_jumps_back_does_not_stop_the_looking(self, looks) -> None:
        clock = FakeClock()
        looks.go_on.set()
        keys = InstanceKeys(clock, look=looks)
        await keys.current()
        clock._now -= timedelta(days=1)
        await keys.current()
        await landed(keys)
        assert len(looks.befores) == 2

    def test_a_loop_that_has_ended_harms_nobody(self, clock, looks) -> None:
        async def leave():
            keys = InstanceKeys(clock, look=looks, limit=timedelta(seconds=0.05))
            with pytest.raises(CredentialsUnavailable):
                await keys.current()

        asyncio.run(leave())
        looks.go_on.set()
        for thread in threading.enumerate():
            if thread.name == "instance-keys":
                thread.join(5)
        assert "instance-keys" not in [thread.name for thread in threading.enumerate()]


def test_what_was_found_does_not_show_its_secrets() -> None:
    shown = repr(Found(Keys("EXAMPLEKEYID1", "fake-secret", "fake-token"), "env"))
    assert "EXAMPLEKEYID1" in shown
    assert "fake" not in shown


async def landed(keys):
    async with asyncio.timeout(10):
        while keys._flight is not None:
            await asyncio.sleep(0.01)


def end_in(keys, left):
    """As if so much of the lifetime were left; botocore has the machine's clock."""
    keys._held.source._expiry_time = datetime.now(UTC) + left
