"""Checkpoints are read back as they were written, and broken ones are refused by name, never with a crash."""

import json
import typing
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.adapters.files import codec, sums
from agent.adapters.files.codec import VERSION, CheckpointUnreadable, decode_task, encode_task
from agent.adapters.files.records import RecordInvalid, from_json, to_json
from agent.model.state import TaskState
from tests.agent.adapters.files.tasks import a_rich_task, tasks

GOLDEN = Path(__file__).parents[3] / "golden" / "checkpoints"


def decoded(text: bytes) -> TaskState | None:
    """The task, or None if the text was refused; every other error is one of ours."""
    try:
        return decode_task(text)
    except CheckpointUnreadable:
        return None


def edited(change: typing.Callable[[dict], object]) -> bytes:
    """As an agent wrote it that knew no checksums."""
    document = json.loads(encode_task(a_rich_task()))
    del document["sum"]
    change(document["task"])
    return json.dumps(document).encode()


def test_a_task_with_every_field_set_comes_back_equal():
    task = a_rich_task()
    assert decode_task(encode_task(task)) == task


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(tasks())
def test_any_task_comes_back_equal(task):
    assert decode_task(encode_task(task)) == task


def test_every_field_of_every_record_is_written():
    written = json.loads(encode_task(a_rich_task()))["task"]

    def compare(value: object, shown: object, path: str) -> None:
        if is_dataclass(value):
            assert isinstance(shown, dict), path
            assert set(shown) == {field.name for field in fields(value)}, path
            for field in fields(value):
                compare(getattr(value, field.name), shown[field.name], f"{path}.{field.name}")
        elif isinstance(value, tuple):
            for index, (inner, inner_shown) in enumerate(zip(value, shown, strict=True)):
                compare(inner, inner_shown, f"{path}[{index}]")

    compare(a_rich_task(), written, "task")


def test_the_text_is_one_line_of_ascii_with_the_version_first():
    text = encode_task(a_rich_task())
    assert text.startswith(b'{"version":1,"task":{')
    assert text.endswith(b"}\n")
    assert text.count(b"\n") == 1
    assert text.isascii()


def test_statuses_and_goals_are_written_by_name():
    written = json.loads(encode_task(a_rich_task()))["task"]
    assert written["goal"] == "STOP"
    assert written["sandbox"]["status"] == "CONNECTED"
    assert written["containers"][0]["status"] == "RUNNING"
    assert written["policy"]["stop_grace"] == 12.5


def test_the_golden_file_of_version_1_is_still_read():
    assert decode_task((GOLDEN / "v1.json").read_bytes()) == a_rich_task()


def test_a_new_optional_field_is_absent_from_an_old_record_and_takes_its_default():
    task = decode_task(edited(lambda task: task["policy"].pop("retention")))
    assert task.policy.retention.total_seconds() == 3 * 3600


def test_a_record_of_an_agent_without_a_queue_is_read_as_that_of_a_task_without_a_share():
    task = decode_task(edited(lambda task: task.pop("granted_at")))
    assert task.granted_at is None
    assert task == a_rich_task()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda task: task["sandbox"].update(pid="4711"),
            "task.sandbox.pid is '4711', expected a whole number",
        ),
        (lambda task: task["sandbox"].update(pid=True), "task.sandbox.pid is True, expected a whole number"),
        (lambda task: task["sandbox"].update(pid=1.0), "task.sandbox.pid is 1.0, expected a whole number"),
        (
            lambda task: task["containers"][1].update(status="RUNNINF"),
            "task.containers[1].status is 'RUNNINF', expected one of PENDING, PULLED, CREATED, RUNNING, STOPPED, REMOVED",
        ),
        (lambda task: task.update(goal=1), "task.goal is 1, expected one of RUN, STOP, REMOVE"),
        (
            lambda task: task.update(now="2026-01-01T12:00:00"),
            "task.now is '2026-01-01T12:00:00', expected a time",
        ),
        (lambda task: task.update(now="yesterday"), "task.now is 'yesterday', expected a time"),
        (
            lambda task: task.update(now="0001-01-01T00:00:00+14:00"),
            "task.now is '0001-01-01T00:00:00+14:00'",
        ),
        (
            lambda task: task["policy"].update(retention=float("nan")),
            "task.policy.retention is nan, expected a number",
        ),
        (
            lambda task: task["policy"].update(retention=1e300),
            "task.policy.retention is 1e+300, expected a number",
        ),
        (
            lambda task: task["spec"]["network"].update(ipv4_addresses=["10.0.1.555/24"]),
            "task.spec.network.ipv4_addresses[0] is '10.0.1.555/24', expected an IPv4 address with prefix",
        ),
        (lambda task: task["spec"].update(volumes=None), "task.spec.volumes is None, expected a list"),
        (
            lambda task: task["spec"]["containers"][0].update(environment=[["A"]]),
            "task.spec.containers[0].environment[0] is list of 1, expected a list of 2",
        ),
        (
            lambda task: task["spec"]["containers"][0].update(privileged=0),
            "task.spec.containers[0].privileged is 0, expected true or false",
        ),
        (lambda task: task.update(spec=[]), "task.spec is list of 0, expected an object (TaskSpec)"),
        (lambda task: task["spec"].pop("arn"), "task.spec.arn is missing"),
        (lambda task: task.update(gaol="RUN"), "task.'gaol' is not a field of TaskState"),
        (
            lambda task: task["containers"].pop(),
            "task.containers names ['web', 'db'], expected the containers of the spec",
        ),
        (
            lambda task: task["accepted"].update(task_arn="arn:other"),
            "task.accepted.task_arn is 'arn:other', expected the task's own",
        ),
    ],
)
def test_a_wrong_field_is_named_with_its_value_and_what_was_expected(change, message):
    with pytest.raises(CheckpointUnreadable) as caught:
        decode_task(edited(change))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not JSON"),
        (b"\x00\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"9" * 5000, "not JSON"),
        (b"[]", "the record is a list, expected an object"),
        (b"{}", "version is None, expected a whole number from 1"),
        (b'{"version":"1"}', "version is '1', expected a whole number"),
        (b'{"version":true}', "version is True"),
        (b'{"version":0}', "version is 0"),
        (b'{"version":1}', "task is None, expected an object"),
        (b'{"version":2,"task":{}}', "version is 2, this agent knows 1 to 1: a newer agent wrote it"),
    ],
)
def test_a_text_that_is_no_checkpoint_is_refused_with_the_reason(text, message):
    with pytest.raises(CheckpointUnreadable) as caught:
        decode_task(text)
    assert message in str(caught.value)


def test_a_text_cut_off_anywhere_is_refused():
    text = encode_task(a_rich_task()).rstrip()
    for length in range(0, len(text), 97):
        with pytest.raises(CheckpointUnreadable):
            decode_task(text[:length])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_flipped_bit_is_refused_or_yields_a_whole_task_but_never_crashes(data):
    text = bytearray(encode_task(a_rich_task()))
    position = data.draw(st.integers(0, len(text) - 1))
    text[position] ^= 1 << data.draw(st.integers(0, 7))
    task = decoded(bytes(text))
    assert task is None or decode_task(encode_task(task)) == task


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_flipped_bit_never_changes_what_a_task_was(data):
    text = bytearray(encode_task(a_rich_task()))
    position = data.draw(st.integers(text.index(b'"task"') + 8, text.index(b',"sum"') - 1))
    text[position] ^= 1 << data.draw(st.integers(0, 7))
    assert decoded(bytes(text)) in {None, a_rich_task()}


def test_a_field_that_is_not_known_is_an_addition_only_where_a_checksum_says_that_it_was_written():
    document = json.loads(encode_task(a_rich_task()))
    document["task"]["hologram"] = 1
    with pytest.raises(CheckpointUnreadable, match="sum is"):
        decode_task(json.dumps(document).encode())
    document["sum"] = sums.sum_of(sums.text_of(document["task"]))
    assert decode_task(json.dumps(document).encode()) == a_rich_task()
    del document["sum"]
    with pytest.raises(CheckpointUnreadable, match=r"task\.'hologram' is not a field of TaskState"):
        decode_task(json.dumps(document).encode())


def test_what_was_added_goes_with_what_it_was_added_to():
    document = json.loads(encode_task(a_rich_task()))
    document["task"]["containers"][0]["hologram"] = "first"
    document["task"]["containers"][1]["hologram"] = "second"
    document["task"]["containers"][0]["trouble"]["hologram"] = "gone with its trouble"
    document["sum"] = sums.sum_of(sums.text_of(document["task"]))
    record = codec.decode_record(json.dumps(document).encode())
    task = record.task
    calm = replace(task.containers[0], trouble=None)
    turned = replace(task, containers=(calm, *task.containers[2:0:-1]))
    written = json.loads(encode_task(turned, record.added))["task"]["containers"]
    assert [each.get("hologram") for each in written] == ["first", None, None]
    assert written[0]["trouble"] is None
    same = json.loads(encode_task(task, record.added))
    assert same == document


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_value_of_another_type_anywhere_is_refused_or_harmless_but_never_crashes(data):
    document = json.loads(encode_task(a_rich_task()))
    place = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.integers(0, 4)) == 0:
            break
        place = place[key]
    place[key] = data.draw(st.sampled_from([None, True, 0, -1, 1e9, "", "x", [], {}, [[]], {"a": 1}]))
    task = decoded(json.dumps(document).encode())
    assert task is None or decode_task(encode_task(task)) == task


def test_an_old_version_goes_through_each_migration_in_turn(monkeypatch):
    old = json.loads(encode_task(a_rich_task()))
    old["task"]["aim"] = old["task"].pop("goal")
    del old["sum"]

    def aim_becomes_purpose(task: dict) -> dict:
        task["purpose"] = task.pop("aim")
        return task

    def purpose_becomes_goal(task: dict) -> dict:
        task["goal"] = task.pop("purpose")
        return task

    monkeypatch.setattr(codec, "VERSION", 3)
    monkeypatch.setattr(codec, "MIGRATIONS", {1: aim_becomes_purpose, 2: purpose_becomes_goal})
    assert decode_task(json.dumps(old).encode()) == a_rich_task()


def test_a_migration_that_does_not_find_what_it_needs_refuses_the_record(monkeypatch):
    monkeypatch.setattr(codec, "VERSION", 2)
    monkeypatch.setattr(codec, "MIGRATIONS", {1: lambda task: task["gone"]})
    with pytest.raises(CheckpointUnreadable, match="cannot turn version 1 into 2: KeyError: 'gone'"):
        decode_task(encode_task(a_rich_task()).replace(b'"version":2', b'"version":1'))


def test_there_is_a_migration_from_every_version_before_this_one():
    assert set(codec.MIGRATIONS) == set(range(1, VERSION))


def test_a_time_without_zone_is_not_written():
    @dataclass(frozen=True, slots=True)
    class Two:
        at: datetime
        name: str

    with pytest.raises(ValueError, match="has no zone"):
        to_json(Two(datetime(2026, 1, 1), "a"))  # noqa: DTZ001 -- on purpose


@dataclass(frozen=True, slots=True)
class Odd:
    name: str
    either: int | str


def test_a_type_without_a_rule_is_a_mistake_of_the_programmer():
    with pytest.raises(TypeError, match="no JSON form is known"):
        to_json(Odd("a", 1))
    with pytest.raises(TypeError, match="no JSON form is known"):
        from_json(Odd, {"name": "a", "either": 1})


def test_the_outermost_record_is_named_as_such():
    with pytest.raises(RecordInvalid, match="the record is 5, expected an object"):
        from_json(TaskState, 5)
