import shutil
import sqlite3
from pathlib import Path

import pytest

from agent.cli.doctor import facts as facts_module
from agent.cli.doctor import storage
from agent.cli.doctor.findings import Finding

GOLDEN = Path(__file__).resolve().parents[3] / "golden" / "checkpoints" / "v1.json"
TASK = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    monkeypatch.setattr(facts_module, "DOCKER_CALL", 0.3)


def test_room_on_both_disks_is_well(world) -> None:
    world.docker.answers["/info"] = (200, {"DockerRootDir": "/var/lib/docker"})
    verdict = storage.disk(world.facts())
    assert verdict.finding is Finding.OK
    assert "/data" in verdict.cause
    assert "/var/lib/docker" in verdict.cause


def test_the_agents_own_disk_is_looked_at_while_docker_hangs(world) -> None:
    world.docker.is_silent = True
    verdict = storage.disk(world.facts())
    assert verdict.finding is Finding.OK
    assert "Docker has not said" in verdict.cause


@pytest.mark.parametrize(
    ("change", "finding", "words"),
    [
        ({"free": 0.001}, Finding.PROBLEM, "MiB free"),
        ({"free": 0.04}, Finding.WARNING, "MiB free"),
        ({"inodes": 0.001}, Finding.PROBLEM, "inodes free"),
        ({"inodes": 0.05}, Finding.WARNING, "inodes free"),
        ({"read_only": True}, Finding.PROBLEM, "read-only"),
    ],
)
def test_a_full_or_read_only_disk_is_named(world, change, finding, words) -> None:
    for name, value in change.items():
        setattr(world, name, value)
    verdict = storage.disk(world.facts())
    assert verdict.finding is finding
    assert words in verdict.cause
    assert verdict.fix is None


def test_no_records_yet_is_well(world) -> None:
    assert storage.state(world.facts()).finding is Finding.OK


def test_readable_records_are_counted_and_damaged_ones_named(world) -> None:
    world.file("data/tasks/x.json").unlink()
    shutil.copy(GOLDEN, world.root / "data/tasks" / f"{TASK}.json")
    assert storage.state(world.facts()).cause == "1 records of tasks, all readable"
    world.file("data/tasks/bad.json", "{")
    world.file("data/tasks/broken/older.json", "{")
    verdict = storage.state(world.facts())
    assert verdict.finding is Finding.WARNING
    assert "bad.json" in verdict.cause
    assert "1 damaged records have been set aside" in verdict.cause


def test_records_of_a_newer_agent_are_a_problem_and_stay(world) -> None:
    path = world.file("data/tasks/new.json", '{"version": 999, "task": {}}')
    verdict = storage.state(world.facts())
    assert verdict.finding is Finding.PROBLEM
    assert "999" in verdict.cause
    assert path.read_text() == '{"version": 999, "task": {}}'


def test_a_database_of_a_newer_agent_is_a_problem(world) -> None:
    path = world.file("data/berth.db")
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 77")
        database.execute("CREATE TABLE t (x)")
    verdict = storage.state(world.facts())
    assert (verdict.finding, "berth.db has format 77" in verdict.cause) == (Finding.PROBLEM, True)
