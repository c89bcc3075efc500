"""State that older agents wrote is read with every task; state that a newer one wrote is left untouched."""

import json
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import pytest

from agent import __version__, daemon
from agent.adapters.docker.settings import DockerSettings
from agent.adapters.docker.snapshot import snapshot_of
from agent.adapters.docker.translate import own_filter
from agent.adapters.ecs.change import Change
from agent.adapters.ecs.store import Store as EcsStore
from agent.adapters.files import sums
from agent.adapters.files.checkpoints import FileCheckpoints
from agent.adapters.files.documents import FileDocuments
from agent.adapters.files.pulls import FilePulls
from agent.adapters.files.state import FORMAT, STAMP, Plan, StateDirectory, read_stamp
from agent.adapters.local.schema import FILE_NAME
from agent.adapters.local.store import Store as LocalStore
from agent.daemon.state import LEASES_FORMAT, state_of
from agent.model.errors import StateTooNew
from cni_plugins.ipam import store as leases
from cni_plugins.ipam.config import Place
from cni_plugins.skeleton.errors import CniError
from tests.builders import NOON
from tests.fakes.clock import FakeClock

SAMPLES = Path(__file__).parents[2] / "golden" / "state"
LOCAL = ("local-c6ce488", "local-59c06db", "local-0c620c0", "local-format-1")
ECS = ("ecs-3072bfb", "ecs-0c620c0", "ecs-format-1")
BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Places:
    """The two directories of an agent."""

    data: Path
    run: Path

    @property
    def state(self) -> StateDirectory:
        return state_of(self.data, self.run)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "data", tmp_path / "run")


def placed(sample: str, places: Places) -> Path:
    shutil.copytree(SAMPLES / sample, places.data)
    return places.data


def everything(*places: Path) -> dict[str, tuple[int, int, str]]:
    """Every file and directory there: mode, time of change, hash."""
    found = {}
    for place in places:
        for path in (place, *place.rglob("*")):
            if path.exists():
                stat = path.stat()
                content = (
                    sha256(path.read_bytes()).hexdigest()
                    if path.is_file()
                    else ",".join(sorted(inner.name for inner in path.iterdir()))
                )
                found[str(path)] = (stat.st_mode, stat.st_mtime_ns, content)
    return found


async def tasks_of(directory: Path) -> tuple:
    checkpoints = FileCheckpoints(directory)
    loaded = await checkpoints.load_all()
    await checkpoints.aclose()
    assert loaded.set_aside == ()
    return loaded.tasks


def rows(directory: Path, query: str) -> list[tuple]:
    connection = sqlite3.connect(directory / FILE_NAME)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


@pytest.mark.parametrize("sample", LOCAL)
async def test_what_an_older_local_backend_wrote_is_read_with_every_task(sample: str, places: Places) -> None:
    data = placed(sample, places)
    places.state.refuse_newer()
    places.state.settle()
    assert read_stamp(data).format == FORMAT
    assert read_stamp(data).written_by == __version__

    tasks = await tasks_of(data)
    assert {task.spec.family for task in tasks} == {"nginx-awsvpc", "web"}
    assert await FilePulls(data).contains("nginx:latest")

    store = LocalStore(data, FakeClock(NOON))
    await store.open("default")
    live = await store.transact(lambda ledger: ledger.live_tasks())
    await store.aclose()
    assert {task.id for task in live} == {task.task_id for task in tasks}
    by_family = {task.family: task for task in live}
    assert by_family["nginx-awsvpc"].last_status == "RUNNING"
    assert by_family["web"].started_by == "deploy/1"
    assert rows(data, "SELECT started_by FROM tasks WHERE family = 'web'") == [("deploy/1",)]
    assert rows(data, "SELECT count(*) FROM tasks") == [(3,)]
    assert list(data.glob("*.broken-*")) == []


@pytest.mark.parametrize("sample", LOCAL)
async def test_a_database_that_is_lost_during_an_upgrade_is_rebuilt_from_what_lay_beside_it(
    sample: str, places: Places
) -> None:
    data = placed(sample, places)
    for path in data.glob("berth.db*"):
        path.unlink()
    places.state.settle()
    store = LocalStore(data, FakeClock(NOON))
    await store.open("default")
    live = await store.transact(lambda ledger: ledger.live_tasks())
    await store.aclose()
    assert {task.id for task in live} == {task.task_id for task in await tasks_of(data)}


@pytest.mark.parametrize("sample", ECS)
async def test_what_an_older_ecs_backend_wrote_is_read_with_every_record(sample: str, places: Places) -> None:
    data = placed(sample, places)
    places.state.settle()
    documents = FileDocuments(data / "ecs", "records")
    store = EcsStore(documents, FakeClock(NOON), Change())
    await store.open()
    await documents.aclose()
    assert store.is_whole
    assert store.instance.container_instance.endswith("1" * 32)
    assert store.manifest_sequence == 7
    assert [task.stop for task in store.tasks()] == [False, True]
    assert [task.told.status for task in store.tasks()] == ["RUNNING", "RUNNING"]
    assert [one.mac_address for one in store.attachments()] == ["0a:00:00:00:00:01"]


def test_labels_of_containers_that_the_first_agent_made_are_understood() -> None:
    sample = json.loads((SAMPLES / "labels-4c1fb00.json").read_text())
    snapshot = snapshot_of({"Id": "c" * 64, "Config": {"Labels": sample["labels"]}}, NOON)
    assert snapshot.task_arn == sample["labels"]["com.amazonaws.ecs.task-arn"]
    assert snapshot.container_name == "app"
    asked = own_filter(DockerSettings(cluster="default", pause=None))
    for each in asked:
        name, _, value = each.partition("=")
        assert sample["labels"][name] == (value or sample["labels"][name])
    assert asked == sample["filter"]


def test_leases_of_the_first_plugins_are_understood_within_their_boot(tmp_path: Path) -> None:
    document = json.loads((SAMPLES / "leases-901feec" / "leases.json").read_text())
    (tmp_path / "leases.json").write_text(json.dumps(document))
    with leases.Store(Place(str(tmp_path), 5.0)) as store:
        assert store.load().held == {}, "of another boot"
    (tmp_path / "leases.json").write_text(json.dumps({**document, "boot": BOOT.read_text().strip()}))
    with leases.Store(Place(str(tmp_path), 5.0)) as store:
        known = store.load()
    assert known.held["169.254.172.2/22"].container_id == "c1"
    assert known.resting == {"169.254.172.3/22": 12.5}


def test_leases_that_newer_plugins_wrote_in_this_boot_are_refused_and_left_there(tmp_path: Path) -> None:
    newer = {"format": 2, "boot": BOOT.read_text().strip(), "held": []}
    (tmp_path / "leases.json").write_text(json.dumps(newer))
    (tmp_path / "lock").touch()
    before = everything(tmp_path)
    with leases.Store(Place(str(tmp_path), 5.0)) as store, pytest.raises(CniError, match="format 2"):
        store.load()
    assert everything(tmp_path) == before


def test_agent_and_plugins_agree_on_the_format_of_the_leases() -> None:
    assert leases._FORMAT == LEASES_FORMAT


# -- newer state -------------------------------------------------------------------------------


def newer_stamp(data: Path, run: Path) -> None:
    StateDirectory(data, Plan("9.9.9", newest=FORMAT + 1)).settle()


def newer_checkpoint(data: Path, run: Path) -> None:
    (data / STAMP).unlink(missing_ok=True)
    (data / "tasks").mkdir(exist_ok=True)
    (data / "tasks" / f"{'0' * 32}.json").write_text('{"version":2,"job":{}}')


def newer_checkpoint_and_a_broken_stamp(data: Path, run: Path) -> None:
    newer_checkpoint(data, run)
    (data / STAMP).write_text('{"format": 1, "written_by": "0.1')


def newer_ecs_record(data: Path, run: Path) -> None:
    (data / STAMP).unlink(missing_ok=True)
    (data / "ecs").mkdir(exist_ok=True)
    (data / "ecs" / "instance.json").write_text('{"format":2}')


def newer_database(data: Path, run: Path) -> None:
    connection = sqlite3.connect(data / FILE_NAME)
    connection.execute("PRAGMA user_version = 2")
    connection.close()


def newer_leases(data: Path, run: Path) -> None:
    (run / "ipam").mkdir(parents=True)
    (run / "ipam" / "leases.json").write_text(json.dumps({"format": 2, "boot": BOOT.read_text().strip()}))


NEWER = [
    (newer_stamp, "format.json has format 2"),
    (newer_checkpoint, "0{32}.json has format 2"),
    (newer_checkpoint_and_a_broken_stamp, "0{32}.json has format 2"),
    (newer_ecs_record, "instance.json has format 2"),
    (newer_database, "berth.db has format 2"),
    (newer_leases, "leases.json has format 2"),
]


@pytest.mark.parametrize("sample", ["local-format-1", "local-0c620c0", "ecs-format-1"])
@pytest.mark.parametrize(("make", "sentence"), NEWER)
def test_newer_state_is_refused_by_name_and_stays_as_it_is(
    make, sentence: str, sample: str, places: Places
) -> None:
    data = placed(sample, places)
    make(data, places.run)
    before = everything(data, places.run)
    with pytest.raises(StateTooNew, match=sentence) as refused:
        places.state.refuse_newer()
    assert refused.value.is_final
    assert "understands formats up to 1" in str(refused.value)
    assert "Start the newer agent again, or stop the tasks and move" in str(refused.value)
    with pytest.raises(StateTooNew):
        places.state.settle()
    assert everything(data, places.run) == before


def test_where_a_stamp_speaks_for_all_a_high_number_in_one_record_is_damage(places: Places) -> None:
    data = placed("local-format-1", places)
    (data / "tasks" / f"{'0' * 32}.json").write_text('{"version":2,"task":{}}')
    places.state.settle()
    assert read_stamp(data).format == FORMAT


def test_an_agent_process_that_meets_newer_state_ends_with_5_and_has_touched_nothing(
    tmp_path: Path, places: Places
) -> None:
    (tmp_path / "ecs.config").touch()
    data = placed("local-0c620c0", places)
    newer_stamp(data, places.run)
    before = everything(data, places.run)
    environ = {
        "BERTH_ENV_FILE": str(tmp_path / "ecs.config"),
        "ECS_DATADIR": str(data),
        "BERTH_RUN_DIRECTORY": str(places.run),
        "BERTH_PAUSE_PATH": str(tmp_path / "pause"),
        "BERTH_LOG_CONSOLE": "json",
    }
    command = [sys.executable, "-m", "agent", "agent"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == daemon.TERMINAL == 5
    assert "format.json has format 2" in done.stderr
    assert everything(data, places.run) == before
    assert not places.run.exists()


# -- additive fields ---------------------------------------------------------------------------


async def test_the_records_of_one_format_go_to_an_older_agent_and_back_with_all_their_fields(
    places: Places,
) -> None:
    data = placed("local-format-1", places)
    for path in (data / "tasks").glob("*.json"):
        document = json.loads(path.read_bytes())
        document["task"]["hologram"] = {"colour": "blue"}
        document["task"]["spec"]["containers"][0]["hologram"] = 3
        document["task"]["sandbox"]["hologram"] = 1.5
        document["sum"] = sums.sum_of(sums.text_of(document["task"]))
        path.write_text(json.dumps(document))
    checkpoints = FileCheckpoints(data)
    loaded = await checkpoints.load_all()
    assert loaded.set_aside == ()
    for task in loaded.tasks:
        await checkpoints.save(replace(task, next_step=task.next_step + 5))
    await checkpoints.aclose()
    for path in (data / "tasks").glob("*.json"):
        task = json.loads(path.read_bytes())["task"]
        assert task["hologram"] == {"colour": "blue"}
        assert task["spec"]["containers"][0]["hologram"] == 3
        assert task["sandbox"]["hologram"] == 1.5
        assert task["next_step"] == 6


async def test_the_records_of_a_cluster_go_to_an_older_agent_and_back_with_all_their_fields(
    places: Places,
) -> None:
    data = placed("ecs-0c620c0", places)
    for path in (data / "ecs").glob("*.json"):
        document = {**json.loads(path.read_bytes()), "hologram": 1}
        for each in document.get("attachments", []):
            each["hologram"] = 1
        path.write_text(json.dumps(document))
    documents = FileDocuments(data / "ecs", "records")
    store = EcsStore(documents, FakeClock(NOON), Change())
    await store.open()
    assert store.is_whole
    await store.update_instance(lambda known: replace(known, manifest_sequence=8))
    for task in store.tasks():
        await store.update_task(task.arn, lambda known: replace(known, refusal="no"))
    (attachment,) = store.attachments()
    await store.update_attachment(attachment.mac_address, lambda known: replace(known, is_told=False))
    await documents.aclose()
    for path in (data / "ecs").glob("*.json"):
        document = json.loads(path.read_bytes())
        holders = document.get("attachments", [document])
        assert [each["hologram"] for each in holders] == [1] * len(holders)
