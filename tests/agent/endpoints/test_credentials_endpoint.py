import asyncio
import json
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from agent.endpoints.audit import AuditLog
from agent.endpoints.credentials import credentials_application
from agent.endpoints.health import HealthBoard
from agent.endpoints.pace import Pace
from agent.endpoints.serving import Limits
from agent.model.errors import CredentialsUnavailable, UnknownRole
from agent.model.ids import RoleArn
from tests.agent.endpoints.asking import a_task, ask, served
from tests.fakes.credentials import FakeCredentials

A, B = "127.0.0.11", "127.0.0.12"
ROLE_1 = RoleArn("arn:aws:iam::123456789012:role/task-1")


@pytest.fixture
def audit_file(tmp_path):
    return tmp_path / "audit.log"


@pytest.fixture
def application(directory, provider, clock, audit_file):
    def build(**options):
        audit = AuditLog(audit_file, clock, HealthBoard(clock), cluster="default")
        return credentials_application(directory, provider, clock, audit, **options)

    return build


@pytest.mark.parametrize("target", ["/v2/credentials/task-id-1", "/v1/credentials?id=task-id-1"])
async def test_a_task_gets_the_credentials_of_its_role_in_the_documented_form(application, target):
    async with served(application()) as port:
        answer = await ask(port, target, source=A)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert "Server" not in answer.headers
    assert answer.body == (
        b'{"RoleArn":"arn:aws:iam::123456789012:role/task-1","AccessKeyId":"FAKE-KEY-1",'
        b'"SecretAccessKey":"fake-secret-1","Token":"fake-token-1","Expiration":"2026-01-01T13:00:00Z"}'
    )


@pytest.mark.parametrize(
    ("target", "body"),
    [
        (
            "/v2/credentials/",
            '{"code":"NoIdInRequest","message":"CredentialsV2Request: No Credential ID in the request","HTTPErrorCode":400}',
        ),
        (
            "/v1/credentials",
            '{"code":"NoIdInRequest","message":"CredentialsV1Request: No Credential ID in the request","HTTPErrorCode":400}',
        ),
        (
            "/v1/credentials?id=",
            '{"code":"NoIdInRequest","message":"CredentialsV1Request: No Credential ID in the request","HTTPErrorCode":400}',
        ),
        (
            "/v2/credentials/nobody",
            '{"code":"InvalidIdInRequest","message":"CredentialsV2Request: Credentials not found","HTTPErrorCode":400}',
        ),
        (
            "/v1/credentials?id=nobody",
            '{"code":"InvalidIdInRequest","message":"CredentialsV1Request: Credentials not found","HTTPErrorCode":400}',
        ),
        (
            "/v2/credentials/task-id-1/more",
            '{"code":"InvalidIdInRequest","message":"CredentialsV2Request: Credentials not found","HTTPErrorCode":400}',
        ),
    ],
)
async def test_a_bad_id_is_refused_in_the_documented_words(application, target, body):
    async with served(application()) as port:
        answer = await ask(port, target, source=A)
    assert (answer.status, answer.body.decode()) == (400, body)


async def test_credentials_that_cannot_be_had_now_are_a_503_that_asks_to_come_again(application, provider):
    provider.fail(ROLE_1, CredentialsUnavailable("STS does not answer"))
    async with served(application()) as port:
        answer = await ask(port, "/v2/credentials/task-id-1", source=A)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert answer.body.decode() == (
            '{"code":"CredentialsUninitialized","message":"CredentialsV2Request: Credentials uninitialized for ID","HTTPErrorCode":503}'
        )
        provider.heal(ROLE_1)
        assert (await ask(port, "/v2/credentials/task-id-1", source=A)).status == 200


async def test_a_slow_source_is_not_waited_for_longer_than_an_sdk_waits(application, provider):
    provider.hold.clear()
    async with served(application(answer_limit=timedelta(seconds=0.05))) as port:
        answer = await ask(port, "/v2/credentials/task-id-1", source=A)
    assert answer.status == 503


async def test_a_role_that_may_not_be_assumed_is_named_with_the_cause(application, provider):
    provider.fail(ROLE_1, UnknownRole(f"{ROLE_1} may not be assumed: AccessDenied"))
    async with served(application()) as port:
        answer = await ask(port, "/v2/credentials/task-id-1", source=A)
    assert answer.status == 400
    assert json.loads(answer.body)["code"] == "UnknownRole"
    assert "AccessDenied" in json.loads(answer.body)["message"]


async def test_a_bug_in_the_source_is_a_500_without_a_trace(application, provider):
    provider.fail(ROLE_1, RuntimeError("secret details"))
    async with served(application()) as port:
        answer = await ask(port, "/v2/credentials/task-id-1", source=A)
        assert answer.status == 500
        assert (
            answer.body
            == b'{"code":"InternalServerError","message":"Internal server error","HTTPErrorCode":500}'
        )
        assert (await ask(port, "/v2/credentials/task-id-2", source=B)).status == 200


async def test_expired_credentials_are_never_handed_out(application, provider, clock):
    class Stale(FakeCredentials):
        async def for_role(self, role, task):
            credentials = await super().for_role(role, task)
            clock.advance(timedelta(hours=2))
            return credentials

    provider.for_role = Stale(clock).for_role
    async with served(application()) as port:
        answer = await ask(port, "/v2/credentials/task-id-1", source=A)
    assert answer.status == 503
    assert b"fake-secret" not in answer.body


async def test_another_tasks_id_is_useless(application):
    async with served(application()) as port:
        for source in (B, "127.0.0.1", "127.0.0.99"):
            answer = await ask(port, "/v2/credentials/task-id-1", source=source)
            assert answer.status == 403
            assert json.loads(answer.body)["code"] == "WrongSource"
            assert b"fake" not in answer.body


async def test_a_task_that_has_lost_its_address_gets_nothing(application, directory):
    directory.put(a_task(1, None))
    async with served(application()) as port:
        assert (await ask(port, "/v2/credentials/task-id-1", source=A)).status == 403


async def test_the_execution_roles_credentials_are_for_the_host_only(application, directory):
    directory.put(a_task(3, "169.254.172.9"))
    async with served(application()) as port:
        from_host = await ask(port, "/v2/credentials/execution-id-3", source="127.0.0.1")
        assert from_host.status == 200
        assert json.loads(from_host.body)["RoleArn"].endswith("role/execution")
        # no task on loopback exists in reality; the interface rule is tested where interfaces exist
        refused = await ask(port, "/v2/credentials/task-id-3", source="127.0.0.1")
        assert refused.status == 403


async def test_until_all_tasks_are_known_an_unknown_id_may_come_to_be_known(application):
    ready = False
    async with served(application(is_ready=lambda: ready)) as port:
        answer = await ask(port, "/v2/credentials/nobody", source=A)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert (await ask(port, "/v2/credentials/task-id-1", source=A)).status == 200
        ready = True
        assert (await ask(port, "/v2/credentials/nobody", source=A)).status == 400


@pytest.mark.parametrize(
    ("request_options", "status"),
    [
        ({"method": "POST"}, 405),
        ({"method": "PUT"}, 405),
        ({"method": "HEAD"}, 405),
        ({"host": "example.com"}, 403),
        ({"extra": "X-Forwarded-For: 10.0.0.1\r\n"}, 403),
        ({"extra": "via: 1.1 proxy\r\n"}, 403),
        ({"target": "http://169.254.170.2/v2/credentials/task-id-1"}, 403),
        ({"target": "/v2//credentials/task-id-1"}, 404),
        ({"target": "//v2/credentials/task-id-1"}, 404),
        ({"target": "/v2/credentials"}, 404),
        ({"target": "/"}, 404),
    ],
)
async def test_requests_of_the_wrong_form_are_refused_and_audited(
    application, audit_file, request_options, status
):
    options = {"target": "/v2/credentials/task-id-1", "source": A, **request_options}
    async with served(application()) as port:
        answer = await ask(port, **options)
    assert answer.status == status
    assert b"fake" not in answer.body
    assert "Location" not in answer.headers
    [line] = audit_file.read_text().splitlines()
    assert f" {status} {A}:" in line
    assert "task-id-1" not in line


async def test_an_audit_line_names_the_task_and_never_the_id(application, audit_file, directory):
    async with served(application()) as port:
        await ask(port, "/v2/credentials/task-id-1", source=A, extra="User-Agent: sdk/1\r\n")
        await ask(port, "/v1/credentials?id=execution-id-1", source="127.0.0.1")
        await ask(port, "/v2/credentials/nobody", source=B)
    first, second, third = audit_file.read_text().splitlines()
    arn = directory.tasks()[0].arn
    assert f'"/v2/credentials" "sdk/1" {arn} GetCredentials 2 default -' in first
    assert f'"/v1/credentials" "-" {arn} GetCredentialsExecutionRole 2 default -' in second
    assert third.endswith('"/v2/credentials" "-" - ')
    assert "-id-" not in audit_file.read_text()


async def test_neither_ids_nor_secrets_are_logged(application, provider):
    with capture_logs() as logs:
        async with served(application()) as port:
            await ask(port, "/v2/credentials/task-id-1", source=A)
            await ask(port, "/v2/credentials/task-id-1", source=B)
            provider.fail(ROLE_1, CredentialsUnavailable("gone"))
            await ask(port, "/v1/credentials?id=task-id-1", source=A)
    assert len(logs) >= 3
    written = repr(logs)
    assert "task-id-1" not in written
    assert "fake" not in written.lower()


async def test_a_refusal_is_a_warning_once_a_minute_that_names_both_sides(application, directory):
    with capture_logs() as logs:
        async with served(application()) as port:
            for _ in range(3):
                await ask(port, "/v2/credentials/task-id-1", source=B)
    first, second = directory.tasks()
    [warning] = [line for line in logs if line["event"] == "caller.refused"]
    assert (warning["log_level"], warning["caller"], warning["owner"]) == (
        "warning",
        second.task_id,
        first.task_id,
    )


async def test_a_caller_far_beyond_the_legal_range_is_told_to_wait_and_others_are_not(
    application, audit_file
):
    async with served(application(pace=Pace(rate=1, burst=5))) as port:
        answers = [await ask(port, "/v2/credentials/task-id-1", source=A) for _ in range(8)]
        assert [answer.status for answer in answers].count(200) in (5, 6)
        assert answers[-1].status == 429
        assert answers[-1].headers["Retry-After"] == "1"
        assert answers[-1].body == b"You have reached maximum request limit."
        assert (await ask(port, "/v2/credentials/task-id-2", source=B)).status == 200
    assert " 429 " in audit_file.read_text()


async def test_a_hundred_requests_at_once_are_all_answered(application):
    async with served(application()) as port:
        answers = await asyncio.gather(
            *(ask(port, "/v2/credentials/task-id-1", source=A) for _ in range(100))
        )
    assert {answer.status for answer in answers} == {200}


async def test_a_request_that_never_ends_is_cut_off(application):
    async with served(application(), Limits(read_seconds=0.3)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(A, 0))
        for _ in range(20):
            try:
                writer.write(b"X: y\r\n" if _ else b"GET /v2/credentials/x HTTP/1.1\r\n")
                await writer.drain()
            except ConnectionError:
                break
            await asyncio.sleep(0.05)
        else:
            pytest.fail("the connection was still open after a second")
        try:
            got = await asyncio.wait_for(reader.read(), 2)
        except ConnectionError:
            got = b""
        writer.close()
    assert got == b""


async def test_a_slow_sender_holds_up_nobody_but_itself(application):
    async with served(application(), Limits(read_seconds=30)) as port:
        slow = [await asyncio.open_connection("127.0.0.1", port, local_addr=(A, 0)) for _ in range(8)]
        try:
            for _, writer in slow:
                writer.write(b"GET /v2/credentials/task-id-1 HTTP/1.1\r\nHost: ")
                await writer.drain()
            answer = await asyncio.wait_for(ask(port, "/v2/credentials/task-id-2", source=B), 2)
            assert answer.status == 200
            # what was begun is answered when it is complete
            reader, writer = slow[0]
            writer.write(b"169.254.170.2\r\nConnection: close\r\n\r\n")
            assert (await asyncio.wait_for(reader.read(), 2)).startswith(b"HTTP/1.1 200 ")
        finally:
            for _, writer in slow:
                writer.close()


async def test_a_connection_that_says_nothing_is_cut_off(application):
    async with served(application(), Limits(read_seconds=0.2)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(A, 0))
        assert await asyncio.wait_for(reader.read(), 2) == b""
        writer.close()


async def _write_until_cut_off(port):
    request = b"GET /v2/credentials/task-id-1 HTTP/1.1\r\nHost: 169.254.170.2\r\n\r\n"
    _, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(A, 0), limit=1)
    writer.transport.pause_reading()
    try:
        while True:
            writer.write(request * 500)
            await writer.drain()
    finally:
        writer.close()


async def test_a_caller_that_never_reads_its_answers_is_cut_off(application):
    limits = Limits(read_seconds=30, write_seconds=0.3)
    async with served(application(pace=Pace(rate=1e9, burst=1e9)), limits) as port:
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(_write_until_cut_off(port), 25)


async def test_idle_connections_of_one_caller_do_not_lock_out_others(application):
    async with served(application(), Limits(connections=10)) as port:
        idle = [await asyncio.open_connection("127.0.0.1", port, local_addr=(A, 0)) for _ in range(30)]
        try:
            refused = [await asyncio.wait_for(reader.read(3000), 2) for reader, _ in idle[10:]]
            assert all(text.startswith(b"HTTP/1.1 429 ") for text in refused)
            assert (await ask(port, "/v2/credentials/task-id-2", source=B)).status == 200
        finally:
            for _, writer in idle:
                writer.close()
        await asyncio.sleep(0.1)
        assert (await ask(port, "/v2/credentials/task-id-1", source=A)).status == 200


async def test_a_request_without_a_host_is_refused(application):
    async with served(application()) as port:
        answer = await ask(port, "/v2/credentials/task-id-1", source=A, host=None)
    assert answer.status in {400, 403}
    assert b"fake" not in answer.body


async def test_garbage_is_a_400_and_hurts_nobody(application):
    async with served(application()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(A, 0))
        writer.write(b"\x00\xff\x00 nonsense\r\n\r\n")
        assert b" 400 " in (await asyncio.wait_for(reader.read(), 2)).splitlines()[0]
        writer.close()
        assert (await ask(port, "/v2/credentials/task-id-1", source=A)).status == 200
