import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.adapters.ecs.wire.envelope import BadEnvelope, Envelope, envelope, read_envelope
from agent.adapters.ecs.wire.fields import DEEPEST, BadField, Fields, NotJson, parse

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not JSON: Expecting value at character 0"),
        ("{", "is not JSON"),
        ("[]", "no object"),
        ("null", "no object"),
        ("{}", "without a type"),
        ('{"type":""}', "without a type"),
        ('{"type":7,"message":{}}', "without a type"),
        ('{"type":"A","message":[]}', "type A whose content is no object"),
        ('{"type":"A","message":{"x":NaN}}', "NaN is no number"),
        ('{"type":"A","message":{"x":-Infinity}}', "Infinity is no number"),
        ('{"type":"A","message":{"x":1e999}}', "too large"),
        ('{"type":"A","message":{"x":' + "9" * 5000 + "}}", "is not JSON"),
        ('{"type":"A","message":{"x":' + "[" * 100 + "]" * 100 + "}}", "nested too deeply"),
        ("[" * 200_000, "nested too deeply"),
        (b"\xff{}", "not UTF-8"),
        (b'{"type":"A"}' + b" " * 100, "112 characters; expected at most 100"),
    ],
)
def test_what_is_no_message_is_refused_with_a_reason(text, why):
    with pytest.raises(BadEnvelope, match=why) as refused:
        read_envelope(text, limit=100 if isinstance(text, bytes) else 1 << 20)
    assert "9" * 100 not in str(refused.value)


def test_a_message_is_taken_apart_and_put_together():
    text = envelope("AckRequest", {"messageId": "é"})
    assert text == '{"type":"AckRequest","message":{"messageId":"\\u00e9"}}'
    for form in (text, text.encode()):
        assert read_envelope(form) == Envelope("AckRequest", {"messageId": "é"})
    assert read_envelope('{"type":"A","message":null,"more":1}') == Envelope("A", {})
    assert len(read_envelope(envelope("x" * 1000, {})).type) == 128
    assert "fake-secret" not in repr(read_envelope(envelope("A", {"x": "fake-secret-1"})))


def test_half_a_character_does_not_get_in():
    found = parse(r'{"a":["\ud800x"],"\udc00":"\ud83d\ude00"}')
    assert found == {"a": ["�x"], "�": "😀"}
    json.dumps(found, ensure_ascii=False).encode()


def test_nesting_has_a_limit_that_real_messages_are_far_from():
    assert parse("[" * DEEPEST + "]" * DEEPEST)
    with pytest.raises(NotJson, match=f"at most {DEEPEST} levels"):
        parse("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1))


@given(JSON)
def test_json_goes_through_unchanged(value):
    text = json.dumps({"type": "A", "message": {"x": value}})
    assert read_envelope(text).message == json.loads(text)["message"]


@given(st.text() | st.binary())
def test_anything_at_all_is_a_message_or_a_bad_one(text):
    try:
        assert read_envelope(text).type
    except BadEnvelope as error:
        assert str(error)  # noqa: PT017


FIELDS = Fields(
    {
        "text": "t",
        "empty": "",
        "null": None,
        "number": 7,
        "float": 512.0,
        "half": 0.5,
        "flag": True,
        "list": ["a", "b"],
        "mixed": ["a", 1],
        "object": {"a": "1", "b": None, "c": "3"},
        "objects": [{"x": 1}, {"x": 2}],
        "embedded": '{"A":1}',
        "time": "2030-01-01T13:00:00.123456789+01:00",
    },
    "tasks[0]",
)


def test_fields_are_read_with_their_types():
    assert (FIELDS.text("text"), FIELDS.text("null"), FIELDS.text("missing", "d")) == ("t", "", "d")
    assert (FIELDS.whole("number"), FIELDS.whole("float"), FIELDS.whole("null")) == (7, 512, None)
    assert (FIELDS.number("half", most=1), FIELDS.number("null", most=1)) == (0.5, None)
    assert (FIELDS.flag("flag"), FIELDS.flag("null"), FIELDS.flag("missing", default=True)) == (
        True,
        False,
        True,
    )
    assert FIELDS.texts("list") == ("a", "b")
    assert FIELDS.text_map("object") == {"a": "1", "c": "3"}
    assert [(each.path, each.whole("x")) for each in FIELDS.objects("objects")] == [
        ("tasks[0].objects[0]", 1),
        ("tasks[0].objects[1]", 2),
    ]
    embedded = FIELDS.embedded("embedded")
    assert embedded is not None
    assert embedded.document == {"A": 1}
    assert (FIELDS.embedded("null"), FIELDS.embedded("empty"), FIELDS.object("null")) == (None, None, None)
    assert FIELDS.moment("time") == datetime(2030, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
    assert [name for name in FIELDS.document if not FIELDS.is_set(name)] == ["empty", "null"]


@pytest.mark.parametrize(
    ("read", "complaint"),
    [
        (lambda f: f.text("number"), "tasks[0].number: 7 is wrong; expected a text"),
        (lambda f: f.needed_text("empty"), "tasks[0].empty: is not set; expected a text that is not empty"),
        (
            lambda f: f.whole("flag"),
            "tasks[0].flag: true is wrong; expected a whole number from 0 to 2147483647",
        ),
        (
            lambda f: f.whole("half"),
            "tasks[0].half: 0.5 is wrong; expected a whole number from 0 to 2147483647",
        ),
        (
            lambda f: f.whole("number", most=6),
            "tasks[0].number: 7 is wrong; expected a whole number from 0 to 6",
        ),
        (lambda f: f.number("number", most=6), "tasks[0].number: 7 is wrong; expected a number from 0 to 6"),
        (lambda f: f.flag("text"), 'tasks[0].text: "t" is wrong; expected true or false'),
        (lambda f: f.texts("mixed"), "tasks[0].mixed: it is wrong; expected a list of texts"),
        (lambda f: f.object("list"), "tasks[0].list: it is wrong; expected an object"),
        (lambda f: f.objects("object"), "tasks[0].object: it is wrong; expected a list of objects"),
        (lambda f: f.embedded("list"), "tasks[0].list: it is wrong; expected a text"),
        (
            lambda f: f.moment("text"),
            'tasks[0].text: "t" is wrong; expected a time like 2030-01-31T06:00:00Z',
        ),
        (lambda f: f.flag("objects"), "tasks[0].objects: a list is wrong; expected true or false"),
        (lambda f: f.flag("object"), "tasks[0].object: an object is wrong; expected true or false"),
    ],
)
def test_a_complaint_says_where_what_and_what_was_expected(read, complaint):
    with pytest.raises(BadField) as refused:
        read(FIELDS)
    assert str(refused.value) == complaint


def test_values_that_may_be_secret_are_not_shown_and_long_ones_are_cut():
    secret = "fake-secret-" * 10
    for text in (f'["{secret}"]', f'{{"{secret}"', secret):
        with pytest.raises(BadField) as refused:
            Fields({"config": text}).embedded("config")
        assert "fake-secret" not in str(refused.value)
    with pytest.raises(BadField) as refused:
        Fields({"environment": {"A": {"x": secret}}}).text_map("environment")
    assert str(refused.value) == "environment.A: it is wrong; expected a text"
    with pytest.raises(BadField) as refused:
        Fields({"flag": "x" * 1000}).flag("flag")
    assert len(str(refused.value)) < 130


@pytest.mark.parametrize(
    "time",
    [
        "2030-01-01",
        "2030-01-01T12:00:00",
        "20300101T120000Z",
        "0001-01-01T00:00:00+23:00",
        "2030-13-01T00:00:00Z",
    ],
)
def test_a_time_that_can_be_read_in_two_ways_or_none_is_refused(time):
    with pytest.raises(BadField, match="expected a time"):
        Fields({"expiration": time}).moment("expiration")
