import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from agent.adapters.ecs.channel_refusals import LONGEST_TEXT, HandshakeRefused, read_refusal, shown
from agent.adapters.ecs.channel_socket import Broken, CannotDial, Closed, Frame
from tests.agent.adapters.ecs.channel_world import HEADERS, SIGNATURE, TOKEN, FakeSocket, World
from tests.conftest import JumpingTime

SECRETS = tuple(HEADERS.values())
NAMES = (
    "ServerException",
    "BadRequestException",
    "InvalidClusterException",
    "InvalidInstanceException",
    "AccessDeniedException",
    "InactiveInstanceException",
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "shape",
    [
        lambda name: {"type": name, "message": {"message": "why"}},
        lambda name: {"type": name, "message": "why"},
        lambda name: {"__type": f"com.amazonaws.ecs#{name}", "Message": "why"},
    ],
)
def test_the_errors_of_the_protocol_are_read_from_the_envelope(name, shape):
    refusal = read_refusal(400, {"Date": "D"}, json.dumps(shape(name)).encode(), SECRETS)
    assert (refusal.name, str(refusal), refusal.date) == (name, f"{name}: why", "D")
    assert refusal.is_inactive is (name == "InactiveInstanceException")


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (502, b"<html>bad gateway</html>", "HTTP 502: <html>bad gateway</html>"),
        (400, b"", "HTTP 400: the answer is empty"),
        (400, b"\xff\x00{", "HTTP 400: \ufffd {"),
        (400, b"[1]", "HTTP 400: [1]"),
        (400, b'{"type": 7}', 'HTTP 400: {"type": 7}'),
        (400, b'{"type": "two words", "message": "x"}', 'HTTP 400: {"type": "two words", "message": "x"}'),
        (200, b"hello", "HTTP 200 instead of a websocket: hello"),
    ],
)
def test_any_other_body_is_shown_as_it_came(status, body, text):
    refusal = read_refusal(status, {}, body, SECRETS)
    assert (refusal.name, str(refusal), refusal.status) == ("", text, status)


def test_inactivity_is_known_also_from_a_body_that_cannot_be_decoded():
    body = b"x" * 2000 + b" InactiveInstanceException: the instance is not there"
    assert read_refusal(400, {}, body, SECRETS).is_inactive


def test_a_redirect_is_named_and_not_followed():
    refusal = read_refusal(307, {"Location": "https://user:pw@elsewhere/ws"}, b"", SECRETS)
    assert str(refusal) == "HTTP 307 redirects to https://[removed]@elsewhere/ws; redirects are not followed"


@pytest.mark.parametrize(
    "body",
    [
        f"x-amz-security-token:{TOKEN}\nhost:x",
        json.dumps({"type": "AccessDeniedException", "message": f"bad {TOKEN} and Signature={SIGNATURE}"}),
        f"The signature {SIGNATURE} does not match",
        '{"sessionToken": "another-fake-secret"}',
        "password=another-fake-secret&x=1",
        "http://user:another-fake-secret@proxy:3128 refused",
        HEADERS["Authorization"],
        "a token of somebody else: " + "anotherfakesecret" * 5,
    ],
)
def test_nothing_secret_comes_back_out_of_a_refusal(body):
    text = str(read_refusal(403, {}, body.encode(), SECRETS))
    for secret in (TOKEN, SIGNATURE, "another-fake-secret", "anotherfakesecret"):
        assert secret not in text
    assert "[removed]" in text


@given(st.binary(max_size=4096), st.integers(100, 599))
def test_every_body_gives_one_short_printable_line(body, status):
    text = str(read_refusal(status, {}, body, SECRETS))
    assert 0 < len(text) <= LONGEST_TEXT
    assert text.isprintable()
    assert "\n" not in text


@given(st.text(max_size=200), st.text(max_size=200))
def test_a_secret_between_anything_is_blotted_out(before, after):
    assert TOKEN not in shown(f"{before}{TOKEN}{after}", SECRETS)


def test_a_long_text_is_cut_visibly():
    text = shown("word " * 1000)
    assert len(text) == LONGEST_TEXT
    assert text.endswith("…")


ENDS = st.one_of(
    st.builds(Closed, st.one_of(st.none(), st.integers(0, 70000)), st.text(max_size=20)),
    st.builds(Broken, st.text(max_size=20)),
    st.builds(Frame, st.text(max_size=20), st.booleans()),
)
REFUSALS = st.one_of(
    st.builds(
        lambda status, body: read_refusal(status, {"Date": "x"}, body, SECRETS),
        st.integers(100, 599),
        st.one_of(
            st.binary(max_size=100),
            st.sampled_from(NAMES).map(lambda name: json.dumps({"type": name, "message": "m"}).encode()),
        ),
    ),
    st.builds(CannotDial, st.text(max_size=20)),
    st.sampled_from([OSError(113, "no route"), TimeoutError(), KeyError("a bug")]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(REFUSALS, st.lists(ENDS, max_size=4)), max_size=8))
def test_nothing_that_a_peer_does_ends_the_channel(deeds):
    """Each deed is a refused dial, or what comes on one connection; afterwards the peer is well again."""
    jumping = JumpingTime()

    def answer(number):
        deed = deeds[number - 1] if number <= len(deeds) else []
        if isinstance(deed, Exception):
            raise deed
        socket = FakeSocket()
        for frame in deed:
            socket.coming.put_nowait(frame)
        return socket

    world = World(jumping, answer)

    async def until_well():
        async with asyncio.timeout(24 * 3600):
            while len(world.dialer.dials) <= len(deeds):
                await asyncio.sleep(10)

    try:
        with capture_logs():
            world.live(until_well)
    finally:
        jumping.loop.run_until_complete(jumping.loop.shutdown_asyncgens())
        jumping.loop.close()
    assert len(world.dialer.dials) == len(deeds) + 1
    refusals = [deed for deed in deeds if isinstance(deed, HandshakeRefused)]
    assert len(world.inactive_at) == sum(refusal.is_inactive for refusal in refusals)
