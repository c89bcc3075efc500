"""A backend's documents on a disk: whole or not at all, and never fatal when they are damaged."""

import json
import os

import pytest
from structlog.testing import capture_logs

from agent.adapters.files.documents import FileDocuments
from agent.model.errors import CheckpointFailed


@pytest.fixture
async def place(tmp_path):
    store = FileDocuments(tmp_path / "ecs", "documents of the cluster")
    yield tmp_path / "ecs", store
    await store.aclose()


async def test_what_was_saved_is_there_after_a_restart(place):
    directory, store = place
    await store.save("instance", {"cluster": "prod", "sequence": 7, "nested": {"ä": [1, None]}})
    again = FileDocuments(directory, "documents of the cluster")
    assert (await again.load_all()).documents == {
        "instance": {"cluster": "prod", "sequence": 7, "nested": {"ä": [1, None]}}
    }
    await again.aclose()


async def test_an_empty_place_holds_nothing(place):
    _, store = place
    found = await store.load_all()
    assert (found.documents, found.set_aside) == ({}, ())


async def test_files_are_for_their_owner_only(place):
    directory, store = place
    await store.save("instance", {})
    assert (directory / "instance.json").stat().st_mode & 0o777 == 0o600


async def test_a_forgotten_document_is_gone_and_forgetting_twice_is_fine(place):
    _, store = place
    await store.save("one", {"a": 1})
    await store.forget("one")
    await store.forget("one")
    assert (await store.load_all()).documents == {}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[1]", "list, expected a JSON object"),
        ("[" * 100_000, "not JSON"),
    ],
)
async def test_a_damaged_document_is_set_aside_and_the_others_are_read(place, content, why):
    directory, store = place
    await store.save("good", {"a": 1})
    (directory / "bad.json").write_text(content)
    with capture_logs() as lines:
        found = await store.load_all()
    assert (found.documents, found.set_aside) == ({"good": {"a": 1}}, ("bad",))
    assert (directory / "broken" / "bad.json").exists()
    (said,) = [line for line in lines if line["event"] == "checkpoint.set_aside"]
    assert why in said["problem"]


async def test_half_a_write_is_no_document(place):
    directory, store = place
    await store.save("one", {"a": 1})
    (directory / "one.json.new").write_text(json.dumps({"a": 2}))
    assert (await store.load_all()).documents == {"one": {"a": 1}}
    assert not (directory / "one.json.new").exists()


async def test_a_write_is_on_the_medium_before_it_returns(place, monkeypatch):
    _, store = place
    synced = []
    sync = os.fsync
    monkeypatch.setattr("agent.adapters.files.folder.os.fsync", lambda fd: synced.append(fd) or sync(fd))
    await store.save("one", {})
    assert len(synced) == 2, "the file and its directory"


async def test_a_full_disk_is_named_with_the_path(place, monkeypatch):
    _, store = place

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("agent.adapters.files.folder.os.open", full)
    with pytest.raises(CheckpointFailed, match=r"cannot write .*one\.json: No space left on device"):
        await store.save("one", {})


async def test_a_document_that_has_changed_since_it_was_written_is_damaged(place):
    directory, store = place
    await store.save("one", {"sequence": 7, "ä": "ß"})
    path = directory / "one.json"
    path.write_text(path.read_text().replace("7", "5", 1))
    found = await store.load_all()
    assert (found.documents, found.set_aside) == ({}, ("one",))


async def test_a_document_of_an_agent_that_knew_no_checksums_is_read(place):
    directory, store = place
    await store.save("one", {"a": 1})
    (directory / "two.json").write_text('{"a": 2}')
    assert (await store.load_all()).documents == {"one": {"a": 1}, "two": {"a": 2}}
