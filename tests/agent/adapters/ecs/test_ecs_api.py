"""Calls against a server that verifies every signature."""

import asyncio
import gzip
import json
from datetime import timedelta

import pytest

from agent.adapters.ecs.api import ApiRefused, ApiUnreachable, standard_pause, submit_pause
from agent.adapters.ecs.keys import Keys
from agent.model.errors import BackendUnavailable, CredentialsUnavailable, ReportRejected
from tests.agent.adapters.ecs.ecs_server import (
    KEYS,
    NEWER,
    SECRET,
    TOKEN,
    USER_AGENT,
    refusing,
    saying,
    staged,
)

ARN = "arn:aws:ecs:us-west-2:111122223333:container-instance/fk-cluster/38132122dde54023aba545490dce0b39"
RECORDED_HEADERS = {
    "User-Agent", "Content-Length", "Amz-Sdk-Invocation-Id", "Amz-Sdk-Request", "Content-Type", "X-Amz-Date",
    "X-Amz-Target", "Accept-Encoding", "Authorization", "X-Amz-Security-Token", "Host",
}  # fmt: skip
RECORDED_SIGNED = (
    "amz-sdk-invocation-id", "amz-sdk-request", "content-length", "content-type", "host", "x-amz-date",
    "x-amz-security-token", "x-amz-target",
)  # fmt: skip


async def test_a_call_has_the_headers_of_the_recorded_one() -> None:
    body = {"cluster": "fk-cluster", "containerInstance": ARN, "zoneId": ""}
    async with staged() as stage:
        stage.server.answers = [{"endpoint": "https://127.0.0.1:9443/acs/"}]
        assert await stage.api.call("DiscoverPollEndpoint", body) == {
            "endpoint": "https://127.0.0.1:9443/acs/"
        }
        (got,) = stage.server.got
    assert set(got.headers) == RECORDED_HEADERS
    assert got.signed == RECORDED_SIGNED
    assert got.body == body
    assert got.headers["Content-Length"] == "156"
    assert got.headers["Content-Type"] == "application/x-amz-json-1.1"
    assert got.headers["X-Amz-Target"] == "AmazonEC2ContainerServiceV20141113.DiscoverPollEndpoint"
    assert got.headers["Amz-Sdk-Request"] == "attempt=1; max=3"
    assert got.headers["Accept-Encoding"] == "gzip"
    assert got.headers["User-Agent"] == USER_AGENT


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "ThrottlingException"), (400, "LimitExceededException"), (429, "TooManyRequestsException"),
        (500, "ServerException"), (400, "ServerException"), (503, "Whatever"), (400, "RequestTimeout"),
    ],
)  # fmt: skip
async def test_what_may_pass_is_tried_again(status, code) -> None:
    async with staged() as stage:
        stage.server.answers = [
            refusing(stage.server, status, code),
            refusing(stage.server, status, code),
            {"a": 1},
        ]
        assert await stage.api.call("Op", {}) == {"a": 1}
        requests = [got.headers["Amz-Sdk-Request"] for got in stage.server.got]
        identities = {got.headers["Amz-Sdk-Invocation-Id"] for got in stage.server.got}
    assert requests == ["attempt=1; max=3", "attempt=2; max=3", "attempt=3; max=3"]
    assert len(identities) == 1


async def test_attempts_are_limited_and_the_last_answer_is_told() -> None:
    async with staged() as stage:
        stage.server.answers = [
            refusing(stage.server, 400, "ThrottlingException", f"no. {number}") for number in (1, 2, 3)
        ]
        with pytest.raises(ApiRefused, match=r"^Amazon ECS said ThrottlingException: no. 2$") as refused:
            await stage.api.call("Op", {}, attempts=2)
        assert len(stage.server.got) == 2
    assert (refused.value.code, refused.value.message, refused.value.status) == (
        "ThrottlingException",
        "no. 2",
        400,
    )


@pytest.mark.parametrize("code", ["InvalidParameterException", "ClientException", "AccessDeniedException"])
async def test_what_will_not_pass_is_not_tried_again(code) -> None:
    async with staged() as stage:
        stage.server.answers = [refusing(stage.server, 400, code)]
        with pytest.raises(ApiRefused, match=code):
            await stage.api.call("Op", {})
        assert len(stage.server.got) == 1


@pytest.mark.parametrize(
    ("document", "headers", "code", "message"),
    [
        ({"__type": "ClientException", "message": "m"}, {}, "ClientException", "m"),
        ({"__type": "com.amazonaws.ecs#ClientException", "Message": "m"}, {}, "ClientException", "m"),
        ({"code": "ClientException", "errorMessage": "m"}, {}, "ClientException", "m"),
        ({"Code": "ClientException", "Message": "m"}, {}, "ClientException", "m"),
        (
            {"message": "m"},
            {"X-Amzn-ErrorType": "ClientException:http://internal/doc"},
            "ClientException",
            "m",
        ),
        ({"__type": 7, "message": ["m"]}, {}, "UnknownError", "HTTP 400"),
        ({}, {}, "UnknownError", "HTTP 400"),
    ],
)
async def test_errors_are_understood_however_they_are_spelled(document, headers, code, message) -> None:
    async with staged() as stage:
        stage.server.answers = [saying(400, json.dumps(document).encode(), **headers)]
        with pytest.raises(ApiRefused) as refused:
            await stage.api.call("Op", {})
    assert (refused.value.code, refused.value.message) == (code, message)


async def test_a_compressed_answer_is_read() -> None:
    async with staged() as stage:
        body = gzip.compress(json.dumps({"big": "x" * 100_000}).encode())
        stage.server.answers = [saying(200, body, **{"Content-Encoding": "gzip"})]
        assert len((await stage.api.call("Op", {}))["big"]) == 100_000


class TestKeysAndClock:
    @pytest.mark.parametrize("lag", [timedelta(hours=2), timedelta(days=-400), timedelta(minutes=6)])
    async def test_a_wrong_clock_does_not_keep_the_agent_out(self, lag) -> None:
        async with staged(behind=lag) as stage:
            stage.server.answers = [{"a": 1}, {"b": 2}]
            assert await stage.api.call("Op", {}) == {"a": 1}
            assert await stage.api.call("Op", {}) == {"b": 2}
            assert [bool(got.signed) for got in stage.server.got] == [False, True, True]
            assert abs(stage.signer.skew - lag) <= timedelta(seconds=1)
            assert stage.keys.invalidated == 0

    async def test_without_the_servers_time_there_is_nothing_to_learn(self) -> None:
        async with staged(behind=timedelta(hours=2)) as stage:
            stage.server.date = "some time ago"
            with pytest.raises(ApiRefused, match="InvalidSignatureException: Signature expired"):
                await stage.api.call("Op", {}, attempts=2)

    async def test_other_refusals_teach_no_time(self) -> None:
        async with staged() as stage:
            stage.server.answers = [
                saying(400, b'{"__type": "ClientException"}', Date="Thu, 01 Jan 2026 03:00:00 GMT")
            ]
            with pytest.raises(ApiRefused):
                await stage.api.call("Op", {})
            assert stage.signer.skew == timedelta(0)

    @pytest.mark.parametrize(
        "code", ["ExpiredTokenException", "UnrecognizedClientException", "InvalidSignatureException"]
    )
    async def test_refused_keys_are_looked_up_anew_once(self, code) -> None:
        async with staged(KEYS, NEWER) as stage:
            stage.server.answers = [refusing(stage.server, 400, code), {"a": 1}]
            assert await stage.api.call("Op", {}) == {"a": 1}
            assert stage.keys.invalidated == 1
            assert stage.server.got[1].headers["X-Amz-Security-Token"] == NEWER.token

    async def test_keys_that_stay_wrong_are_not_looked_up_for_ever(self) -> None:
        async with staged(Keys("EXAMPLEKEYID9", "fake", "fake")) as stage:
            with pytest.raises(ApiRefused, match="UnrecognizedClientException"):
                await stage.api.call("Op", {}, attempts=6)
            assert stage.keys.invalidated == 1
            assert len(stage.server.got) == 2

    async def test_without_keys_nothing_is_sent(self) -> None:
        async with staged() as stage:
            stage.keys.current = _no_keys
            with pytest.raises(ApiUnreachable, match="cannot sign Op: no keys here"):
                await stage.api.call("Op", {})
            assert stage.server.got == []


async def _no_keys():
    raise CredentialsUnavailable("no keys here")


REPORT = {
    "cluster": "fk-cluster",
    "containers": [{"containerName": "app", "exitCode": 0, "runtimeId": "0580ed", "status": "STOPPED"}],
    "executionStoppedAt": 1795226364.766,
    "reason": "",
    "status": "STOPPED",
    "task": "arn:aws:ecs:us-west-2:111122223333:task/fk-cluster/9ccfd8c4c826425fb0e08e9bb11a528d",
}


class TestSubmitting:
    async def test_a_report_is_sent_as_it_is(self) -> None:
        async with staged() as stage:
            stage.server.answers = [{"acknowledgment": "x"}]
            await stage.api.submit(REPORT)
            (got,) = stage.server.got
        assert got.body == REPORT
        assert got.headers["X-Amz-Target"].endswith(".SubmitTaskStateChange")
        assert got.headers["Amz-Sdk-Request"] == "attempt=1; max=6"
        assert got.signed == RECORDED_SIGNED

    async def test_what_will_never_be_taken_is_rejected(self) -> None:
        async with staged() as stage:
            stage.server.answers = [refusing(stage.server, 400, "InvalidParameterException", "no such task")]
            with pytest.raises(ReportRejected, match="InvalidParameterException: no such task"):
                await stage.api.submit(REPORT)

    @pytest.mark.parametrize("code", ["ClientException", "AccessDeniedException"])
    async def test_every_other_refusal_is_for_later(self, code) -> None:
        async with staged() as stage:
            stage.server.answers = [refusing(stage.server, 400, code)]
            with pytest.raises(BackendUnavailable, match=code):
                await stage.api.submit(REPORT)

    async def test_a_network_that_is_gone_is_for_later(self) -> None:
        async with staged() as stage:
            stage.api._url = "http://127.0.0.1:1/"
            stage.api.call = _counted(stage.api.call)
            with pytest.raises(BackendUnavailable):
                await stage.api.submit(REPORT)

    async def test_another_operation_is_submitted_the_same_way(self) -> None:
        async with staged() as stage:
            await stage.api.submit({"cluster": "c"}, operation="SubmitAttachmentStateChanges")
            assert stage.server.got[0].headers["X-Amz-Target"].endswith(".SubmitAttachmentStateChanges")

    async def test_the_client_gives_up_after_a_few_seconds(self, monkeypatch) -> None:
        slept = []

        async def sleep(seconds):
            slept.append(seconds)

        async with staged() as stage:
            monkeypatch.setattr("agent.adapters.ecs.api.asyncio", _Sleeping(sleep))
            stage.server.answers = [refusing(stage.server, 400, "ThrottlingException")] * 9
            with pytest.raises(BackendUnavailable, match="ThrottlingException"):
                await stage.api.submit(REPORT)
            assert len(stage.server.got) == 6
        assert len(slept) == 5
        assert all(2**n * 0.030 <= delay <= 2**n * 0.059 for n, delay in enumerate(slept, start=1))
        assert 1.8 < sum(slept) < 3.7


class _Sleeping:
    def __init__(self, sleep):
        self.sleep = sleep


def _counted(call):
    async def counted(operation, body, *, attempts, pause):
        assert (operation, attempts) == ("SubmitTaskStateChange", 6)
        assert pause is submit_pause
        return await call(operation, body, attempts=1)

    return counted


def test_pauses_grow_and_stay_below_twenty_seconds() -> None:
    for failures in range(1, 12):
        limit = min(2 ** (failures - 1), 20)
        pauses = [standard_pause(failures) for _ in range(200)]
        assert 0 <= min(pauses) < limit / 4
        assert limit * 3 / 4 < max(pauses) <= limit


async def test_pauses_come_between_attempts_and_cures_need_none() -> None:
    asked = []

    def pause(failures):
        asked.append(failures)
        return 0.0

    async with staged(KEYS, NEWER, pause=pause) as stage:
        stage.server.answers = [
            refusing(stage.server, 500, "ServerException"), refusing(stage.server, 400, "ExpiredTokenException"),
            refusing(stage.server, 500, "ServerException"), {},
        ]  # fmt: skip
        await stage.api.call("Op", {}, attempts=4)
    assert asked == [1, 3]


async def test_a_cancelled_call_ends() -> None:
    async with staged(pause=lambda _: 60.0) as stage:
        stage.server.answers = [refusing(stage.server, 500, "ServerException")]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await stage.api.call("Op", {})


async def test_a_body_that_is_no_json_is_a_mistake_of_ours() -> None:
    async with staged() as stage:
        with pytest.raises(ValueError, match="JSON"):
            await stage.api.call("Op", {"at": float("nan")})
        assert stage.server.got == []


async def test_no_secret_is_in_an_error_although_aws_quotes_the_request() -> None:
    async with staged() as stage:

        async def quoting(request):
            said = f"The Canonical String should have been\nx-amz-security-token:{request.headers['X-Amz-Security-Token']}"
            said += f"\n{request.headers['Authorization']}" + "y" * 5000
            return stage.server.error(400, "ClientException", said)

        stage.server.answers = [quoting]
        with pytest.raises(ApiRefused) as refused:
            await stage.api.call("Op", {})
    text = str(refused.value)
    assert "x-amz-security-token:<X-Amz-Security-Token>" in text
    assert TOKEN not in text
    assert SECRET not in text
    assert "Signature=" not in text
    assert len(text) < 1100
