import asyncio
from random import Random

import pytest
from structlog.testing import capture_logs

from agent.adapters.ecs.channel import TELEMETRY_TIMES
from agent.adapters.ecs.channel_refusals import HandshakeRefused
from agent.adapters.ecs.channel_socket import Broken, CannotDial
from agent.adapters.ecs.channel_times import BackOff, Between
from agent.model.channels import ChannelState
from agent.model.errors import BackendUnavailable, CredentialsUnavailable
from tests.agent.adapters.ecs.channel_world import URL, FakeSocket, World, closing, talking

NEVER = Between(10.0**9, 10.0**9)


def refused(text, status=400, **more):
    return HandshakeRefused(
        status, text.partition(":")[0], text, more.pop("date", ""), **({"is_inactive": False} | more)
    )


def raising(error):
    def answer(_):
        raise error

    return answer


# -- back-off ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "least", "most", "factor"),
    [(None, 0.25, 120.0, 1.5), (TELEMETRY_TIMES, 1.0, 60.0, 2.0)],
)
def test_failures_wait_longer_and_longer_up_to_the_limit_with_a_fifth_of_chance(
    jumping, times, least, most, factor
):
    world = World(jumping, raising(CannotDial("no route")), **({"times": times} if times else {}))
    world.live_for(7200)
    assert len(world.pauses) > 20
    for step, pause in enumerate(world.pauses):
        assert 0.8 * min(least * factor**step, most) <= pause <= 1.2 * min(least * factor ** (step + 1), most)
    assert len({round(pause / most, 6) for pause in world.pauses[-10:]}) == 10


def test_a_back_off_that_is_reset_begins_anew():
    back_off = BackOff(World.__init__.__kwdefaults__["times"].back_off, Random(1))
    waits = [back_off.next() for _ in range(30)]
    back_off.reset()
    assert max(waits) > 90
    assert 0.2 <= back_off.next() <= 0.45


@pytest.mark.parametrize("what", ["url", "keys"])
def test_without_endpoint_or_keys_it_backs_off_too(jumping, what):
    world = World(jumping)
    if what == "url":
        world.url_failure = BackendUnavailable("DiscoverPollEndpoint: no endpoint returned; nil")
    else:
        world.signer.failure = CredentialsUnavailable("no instance role")
    with capture_logs() as logs:
        world.live_for(600)
    failed = [line for line in logs if line["event"] == "channel.failed"]
    assert 10 < len(failed) < 25
    assert world.dialer.dials == []
    assert failed[0]["channel"] == "control"
    assert failed[0]["problem"] in ("DiscoverPollEndpoint: no endpoint returned; nil", "no instance role")
    assert failed[0]["retry_in"] > 0


def test_an_endpoint_that_is_never_found_does_not_hold_the_channel(jumping):
    world = World(jumping)
    world.parts["url"] = asyncio.Event().wait
    with capture_logs() as logs:
        world.live_for(400)
    assert [line["event"] for line in logs] == ["channel.failed"] * 2 + ["channel.failed"] * (len(logs) - 2)
    assert "could not be had in 150 s" in logs[0]["problem"]


@pytest.mark.parametrize("url", ["", "ftp://x/ws", "control.example/ws?a=b", "wss://"])
def test_an_endpoint_that_is_no_url_is_named(jumping, url):
    async def give():
        return url

    world = World(jumping)
    with capture_logs() as logs:
        world.live_for(1, url=give)
    assert f"{url!r} is no URL for a websocket" in logs[0]["problem"]
    assert world.dialer.dials == []


@pytest.mark.parametrize(
    ("given", "used"), [("https", "wss"), ("http", "ws"), ("wss", "wss"), ("WSS", "wss")]
)
def test_what_is_signed_and_dialled_is_the_websocket_url_with_its_query_untouched(jumping, given, used):
    async def give():
        return URL.replace("wss", given)

    world = World(jumping)
    world.live_for(1, url=give)
    assert world.signer.urls == world.dialer.urls == [URL.replace("wss", used)]
    assert world.conversations[0].url == URL.replace("wss", used)


# -- how connections end -----------------------------------------------------------------------


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1011, None])
def test_a_valid_close_reconnects_at_once(jumping, code):
    world = World(jumping, closing(code, after=50.0))
    world.live_for(500)
    assert len(world.pauses) == 9
    assert all(50.0 <= pause <= 51.0 for pause in world.pauses)
    assert len(set(world.pauses)) == 9  # a closed fleet comes back spread over that second


@pytest.mark.parametrize("code", [1002, 1003, 1005, 1007, 1008, 1009, 1010, 1012, 1013, 4000])
def test_any_other_close_backs_off(jumping, code):
    world = World(jumping, closing(code, after=6.0), settled=NEVER)
    world.live_for(600)
    waits = [pause - 6.0 for pause in world.pauses]
    assert waits[0] <= 0.45
    assert waits[-1] > 20
    assert waits[:12] == sorted(waits[:12])


@pytest.mark.parametrize("code", [1000, 1001, None])
def test_a_peer_that_accepts_and_closes_at_once_is_not_asked_thousands_of_times(jumping, code):
    world = World(jumping, closing(code))
    world.live_for(3600)
    assert len(world.dialer.dials) < 60
    assert world.pauses[0] >= 0.2


def test_a_proper_close_after_a_while_forgets_the_back_off_and_a_settled_session_too(jumping):
    def answer(number):
        if number <= 12:
            raise CannotDial("no route")
        return closing(1000 if number == 13 else 1008, after=6.0 if number == 13 else 130.0)(number)

    world = World(jumping, answer, inactivity=NEVER, read=10.0**9)
    world.live_for(900)
    pauses = world.pauses
    assert pauses[11] > 15  # after twelve failures
    assert pauses[12] <= 7.0  # closed with 1000 after 6 s: at once
    assert all(130.0 <= pause <= 130.5 for pause in pauses[13:])  # each had settled before it was broken off
    assert len(pauses) > 14


def test_a_proper_close_after_a_while_lets_the_next_failures_begin_with_short_waits(jumping):
    def answer(number):
        if number == 11:
            return closing(1000, after=10.0)(number)
        raise CannotDial("no route")

    world = World(jumping, answer)
    world.live_for(120)
    assert world.pauses[9] > 5
    assert world.pauses[11] <= 0.45


def test_the_connection_is_exchanged_when_it_is_old(jumping):
    world = World(jumping, lambda _: talking(FakeSocket()))
    world.live_for(24 * 3600)
    assert 24 * 3600 / 2101 - 1 < len(world.pauses) < 24 * 3600 / 1800
    assert all(1800 <= pause <= 2100 for pause in world.pauses)
    assert max(world.pauses) - min(world.pauses) > 100
    for socket in world.dialer.sockets[:-1]:
        assert socket.closed_with == [(1000, "ConnectionExpired: Reconnect to continue")]
    assert world.dialer.sockets[-1].closed_with == [(1000, "")]  # the agent stops


@pytest.mark.parametrize("name", ["control", "telemetry"])
def test_a_peer_that_has_gone_silent_is_noticed_within_three_minutes(jumping, name):
    """Promise 8: a half-open socket is noticed in at most 3 minutes."""
    times = {"times": TELEMETRY_TIMES} if name == "telemetry" else {}
    world = World(jumping, name=name, **times)
    with capture_logs() as logs:
        world.live_for(3600)
    silent = [line for line in logs if line["event"] == "channel.closed"]
    assert len(silent) > 20
    assert all(60 <= line["lived"] <= 120 and "nothing was heard" in line["why"] for line in silent)
    assert max(world.pauses) < 180
    assert max(line["lived"] for line in silent) - min(line["lived"] for line in silent) > 10


def test_only_an_understood_message_is_a_sign_of_life(jumping):
    async def deaf(conversation):
        async for _ in conversation.texts():
            continue

    world = World(jumping, lambda _: talking(FakeSocket(), every=10.0))
    world.live_for(600, converse=deaf)
    assert len(world.dialer.dials) >= 5
    world = World(jumping, lambda _: talking(FakeSocket(), every=50.0))
    world.live_for(1700)
    assert len(world.dialer.dials) == 1


def test_the_read_limit_ends_what_the_inactivity_would_not(jumping):
    world = World(jumping, inactivity=NEVER)
    world.live_for(1000)
    assert all(180.0 <= pause <= 180.5 for pause in world.pauses)
    assert len(world.pauses) == 5


def test_a_message_that_is_too_large_ends_the_connection_with_a_warning(jumping):
    world = World(jumping)

    async def story():
        world.socket.coming.put_nowait(Broken("a message is larger than 4194304 bytes"))
        await asyncio.sleep(5)

    with capture_logs() as logs:
        world.live(story)
    lines = [(line["event"], line["log_level"]) for line in logs]
    assert lines[:3] == [
        ("channel.connected", "info"),
        ("message.unreadable", "warning"),
        ("channel.closed", "warning"),
    ]
    assert logs[1]["problem"] == "a message is larger than 4194304 bytes"
    assert len(world.dialer.dials) == 2
    assert world.pauses[0] >= 0.2


def test_a_connection_can_be_ended_from_outside(jumping):
    world = World(jumping)

    async def story():
        await asyncio.sleep(10)
        world.channel.disconnect("the instance is inactive")
        await asyncio.sleep(1)

    with capture_logs() as logs:
        world.live(story)
    assert world.dialer.sockets[0].closed_with == [(1000, "")]
    assert len(world.dialer.dials) == 2
    assert [line["why"] for line in logs if line["event"] == "channel.closed"] == ["the instance is inactive"]


# -- refusals ----------------------------------------------------------------------------------


def test_an_inactive_instance_waits_an_hour_and_tells(jumping):
    world = World(jumping, raising(refused("InactiveInstanceException: gone", is_inactive=True)))

    async def story():
        await asyncio.sleep(3 * 3600 + 60)
        assert world.channel.status().state is ChannelState.INACTIVE
        assert world.channel.status().since == jumping.clock.START

    with capture_logs() as logs:
        world.live(story)
    assert world.dialer.dials == [0.0, 3600.0, 7200.0, 10800.0]
    assert world.inactive_at == world.dialer.dials
    assert world.health.reports == [("control channel", "InactiveInstanceException: gone")]
    assert [(line["event"], line["retry_in"]) for line in logs] == [("channel.refused", 3600.0)] * 4


@pytest.mark.parametrize("kind", ["coroutine", "crash", "hang"])
def test_whoever_is_told_of_inactivity_cannot_end_or_hold_the_channel(jumping, kind):
    world = World(jumping, raising(refused("InactiveInstanceException: gone", is_inactive=True)))
    told = []

    async def tell():
        told.append(kind)
        if kind == "crash":
            raise KeyError("a bug")
        if kind == "hang":
            await asyncio.Event().wait()

    with capture_logs() as logs:
        world.live_for(2 * 3600 + 200, on_inactive=tell)
    assert told == [kind] * 3
    assert ("channel.crashed" in {line["event"] for line in logs}) is (kind != "coroutine")


def test_an_inactive_instance_comes_back_once_the_cluster_takes_it(jumping):
    def answer(number):
        if number == 1:
            raise refused("InactiveInstanceException: gone", is_inactive=True)
        return FakeSocket()

    world = World(jumping, answer)

    async def story():
        await asyncio.sleep(3610)
        assert world.channel.status().state is ChannelState.CONNECTED
        assert world.health.problem is None

    world.live(story)


@pytest.mark.parametrize(
    ("refusal", "dates", "forgotten"),
    [
        (refused("InvalidSignatureException: Signature expired", 403, date="D"), ["D"], 1),
        (refused("ExpiredTokenException: the security token is expired", 400, date="D"), ["D"], 1),
        (refused("AccessDeniedException: not authorized to perform ecs:Poll", 403, date="D"), [], 0),
        (HandshakeRefused(403, "", "HTTP 403: nothing readable", "D", is_inactive=False), ["D"], 1),
        (refused("ServerException: token service is down", 500, date="D"), [], 0),
        (refused("InvalidClusterException: no such cluster", 400, date="D"), [], 0),
    ],
)
@pytest.mark.parametrize("is_clock_wrong", [True, False])
def test_a_refused_signature_teaches_the_time_or_drops_the_keys(
    jumping, refusal, dates, forgotten, is_clock_wrong
):
    world = World(jumping, raising(refusal))
    world.signer.is_clock_wrong = is_clock_wrong
    world.live_for(0.1)
    assert world.signer.dates == dates
    assert world.signer.forgotten == (0 if is_clock_wrong else forgotten)


# -- what is told ------------------------------------------------------------------------------


def test_health_tells_an_outage_after_a_minute_and_its_end_after_seconds(jumping):
    def answer(number):
        if number < 20:
            raise CannotDial(f"no route {number}")
        return talking(FakeSocket())

    world = World(jumping, answer)
    seen = []

    async def watch():
        for _ in range(200):
            await asyncio.sleep(5)
            seen.append((world.now, world.health.problem))

    world.live(watch)
    first = next(at for at, problem in seen if problem)
    assert 60 <= first <= 65
    assert world.dialer.dials[0] == 0.0
    back = world.dialer.dials[19]
    well = next(at for at, problem in seen if at > back and problem is None)
    assert well <= back + 10
    for at, problem in seen:
        failed = min(sum(dial <= at for dial in world.dialer.dials), 19)
        # the newest reason is told, not the first for ever
        assert problem in (None, f"no route {failed}")


def test_health_says_nothing_at_a_rotation(jumping):
    world = World(jumping, lambda _: talking(FakeSocket()))
    world.live_for(12 * 3600)
    assert len(world.dialer.dials) > 10
    assert world.health.reports == [("control channel", None)]


def test_health_knows_connections_that_do_not_last(jumping):
    world = World(jumping, closing(1000), name="telemetry")
    world.live_for(120)
    assert world.health.reports[0][0] == "telemetry channel"
    assert "the peer closed with 1000" in world.health.reports[0][1]


def test_a_refusal_is_told_at_once_unless_it_is_the_peers_own_fault(jumping):
    for refusal, is_told in (
        (refused("InvalidClusterException: no such cluster"), True),
        (refused("ServerException: try later", 500), False),
        (refused("ServerException: try later", 400), False),
        (refused("ThrottlingException: slow down", 429), False),
    ):
        world = World(jumping, raising(refusal))
        world.live_for(5)
        assert bool(world.health.problem) is is_told


def test_the_status_tells_state_since_when_and_the_last_message(jumping):
    world = World(jumping)
    start = jumping.clock.START

    async def story():
        status = world.channel.status
        await asyncio.sleep(10)
        assert (status().state, status().since, status().problem) == (ChannelState.CONNECTED, start, None)
        assert status().last_message_at is None
        world.socket.say("hello")
        await asyncio.sleep(10)
        assert (status().last_message_at - start).total_seconds() == 10
        world.dialer.answer = raising(CannotDial("no route"))
        world.socket.end(1008, "policy")
        await asyncio.sleep(0.1)
        assert status().problem == "the peer closed with 1008: policy"
        await asyncio.sleep(100)
        assert (status().state, status().problem) == (ChannelState.DISCONNECTED, "no route")
        assert (status().since - start).total_seconds() == pytest.approx(20, abs=0.1)
        assert (status().last_message_at - start).total_seconds() == 10

    world.live(story)


def test_before_it_runs_it_says_that_it_is_not_connected(jumping):
    world = World(jumping)

    async def story():
        fresh = type(world.channel)("telemetry", **world.parts)
        assert fresh.status().problem == "not connected yet"
        assert fresh.status().name == "telemetry"
        fresh.disconnect("nothing to end")

    world.live(story)


@pytest.mark.parametrize("kind", ["unreachable", "silent", "closing"])
def test_a_day_without_the_control_plane_leaves_nothing_behind(jumping, kind):
    """Promise 8: no unbounded growth."""
    answers = {
        "unreachable": raising(CannotDial("no route")),
        "silent": lambda _: FakeSocket(),
        "closing": closing(1001, after=20.0),
    }
    world = World(jumping, answers[kind])

    def held():
        return len(asyncio.all_tasks()), len(asyncio.get_running_loop()._scheduled)

    async def day():
        await asyncio.sleep(3600)
        before = held()
        await asyncio.sleep(23 * 3600)
        after = held()
        assert after[0] <= before[0] + 2  # between two attempts, or in one
        assert after[1] <= before[1] + 110  # asyncio sweeps cancelled timers by the hundred

    with capture_logs() as logs:
        world.live(day)
    assert len(world.dialer.dials) > 500
    assert {line["event"] for line in logs} <= {"channel.failed", "channel.connected", "channel.closed"}
