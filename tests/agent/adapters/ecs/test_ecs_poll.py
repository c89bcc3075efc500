import asyncio
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from agent.adapters.ecs.api import ApiRefused, ApiUnreachable
from agent.adapters.ecs.poll import Endpoints, PollEndpoints
from tests.fakes.clock import FakeClock

ARN = "arn:aws:ecs:us-west-2:111122223333:container-instance/fk-cluster/38132122dde54023aba545490dce0b39"
ANSWER = {
    "endpoint": "https://127.0.0.1:9443/acs/",
    "telemetryEndpoint": "https://127.0.0.1:9443/tcs/",
    "serviceConnectEndpoint": "https://127.0.0.1:9443/sc/",
    "systemLogsEndpoint": "https://127.0.0.1:9443/logs/",
}
BROKEN = ApiUnreachable("the network is gone")


class Asked:
    """An API that answers when it may, what it is told."""

    def __init__(self):
        self.asked = []
        self.answer = ANSWER
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def call(self, operation, body, *, attempts=3):
        self.asked.append((operation, body, attempts))
        await self.go_on.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def api():
    return Asked()


@pytest.fixture
def poll(api, clock):
    return PollEndpoints(api, "fk-cluster", clock)


async def test_the_question_is_the_recorded_one_and_the_answer_is_both(poll, api) -> None:
    found = await poll.get(ARN)
    assert found == Endpoints(ANSWER["endpoint"], ANSWER["telemetryEndpoint"])
    assert found.for_telemetry() == "https://127.0.0.1:9443/tcs/"
    question = {"cluster": "fk-cluster", "containerInstance": ARN, "zoneId": ""}
    assert api.asked == [("DiscoverPollEndpoint", question, 3)]


async def test_an_answer_holds_for_twelve_hours_for_one_instance(poll, api, clock) -> None:
    await poll.get(ARN)
    clock.advance(timedelta(hours=12) - timedelta(seconds=1))
    await poll.get(ARN)
    assert len(api.asked) == 1
    await poll.get(f"{ARN}2")
    clock.advance(timedelta(seconds=1))
    await poll.get(ARN)
    assert len(api.asked) == 3


@pytest.mark.parametrize("problem", [BROKEN, ApiRefused("ServerException", "m", 500)])
async def test_an_expired_answer_is_better_than_none(poll, api, clock, problem) -> None:
    found = await poll.get(ARN)
    clock.advance(timedelta(days=30))
    api.answer = problem
    with capture_logs() as logs:
        assert await poll.get(ARN) == found
        assert await poll.get(ARN) == found
    assert [line["event"] for line in logs] == ["endpoints.reused"] * 2
    assert len(api.asked) == 3
    api.answer = {**ANSWER, "endpoint": "https://new/"}
    assert (await poll.get(ARN)).control == "https://new/"


async def test_without_any_answer_the_problem_is_told(poll, api) -> None:
    api.answer = BROKEN
    with pytest.raises(ApiUnreachable, match="network is gone"):
        await poll.get(ARN)


@pytest.mark.parametrize("answer", [{}, {**ANSWER, "endpoint": None}, {**ANSWER, "endpoint": ""}])
async def test_no_endpoint_is_an_error_and_not_remembered(poll, api, answer) -> None:
    api.answer = answer
    with pytest.raises(ApiUnreachable, match=r"^no endpoint returned; nil$"):
        await poll.get(ARN)
    api.answer = ANSWER
    assert (await poll.get(ARN)).control == ANSWER["endpoint"]


async def test_no_telemetry_endpoint_is_an_error_for_telemetry_only_and_not_remembered(poll, api) -> None:
    api.answer = {"endpoint": ANSWER["endpoint"]}
    found = await poll.get(ARN)
    assert found == Endpoints(ANSWER["endpoint"])
    with pytest.raises(ApiUnreachable, match=r"^no telemetry endpoint returned; nil$"):
        found.for_telemetry()
    api.answer = ANSWER
    assert (await poll.get(ARN)).telemetry


@pytest.mark.parametrize("name", ["endpoint", "telemetryEndpoint"])
@pytest.mark.parametrize("value", [7, "wss://elsewhere/", ["https://x/"]])
async def test_an_endpoint_that_is_no_url_is_told_by_name(poll, api, name, value) -> None:
    api.answer = {**ANSWER, name: value}
    with pytest.raises(ApiUnreachable, match=f"{name} is .*expected an https URL"):
        await poll.get(ARN)


@pytest.mark.parametrize("answer", [ANSWER, BROKEN])
async def test_a_hundred_who_ask_cause_one_call(poll, api, answer) -> None:
    api.go_on.clear()
    api.answer = answer
    asking = [asyncio.ensure_future(poll.get(ARN)) for _ in range(100)]
    await asyncio.sleep(0)
    api.go_on.set()
    got = await asyncio.gather(*asking, return_exceptions=True)
    assert len(api.asked) == 1
    assert all(one is answer if isinstance(answer, Exception) else one.control for one in got)


async def test_the_others_go_on_when_the_one_who_asked_goes_away(poll, api) -> None:
    api.go_on.clear()
    first = asyncio.ensure_future(poll.get(ARN))
    await asyncio.sleep(0)
    second, third = (asyncio.ensure_future(poll.get(ARN)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    third.cancel()
    api.go_on.set()
    assert (await second).control == ANSWER["endpoint"]
    assert len(api.asked) == 2
    for cancelled in (first, third):
        with pytest.raises(asyncio.CancelledError):
            await cancelled


def test_a_call_takes_126_seconds_at_most(jumping) -> None:
    async def story():
        api = Asked()
        api.go_on.clear()
        poll = PollEndpoints(api, "fk-cluster", jumping.clock)
        with pytest.raises(ApiUnreachable, match="no answer within 126 s"):
            await poll.get(ARN)
        return asyncio.get_running_loop().time()

    assert jumping.run(story()) == pytest.approx(126)
