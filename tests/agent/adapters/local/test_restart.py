"""What outlives the agent: tasks, definitions, addresses; and what happens when the database does not."""

import contextlib
import json
import sqlite3
from datetime import timedelta

import pytest

from agent.adapters.clock import SystemClock
from agent.adapters.local.database import DatabaseFailed
from agent.adapters.local.ledger import Ledger
from agent.adapters.local.schema import FILE_NAME, SCHEMA_VERSION
from agent.adapters.local.vpc.plan import default_plan
from agent.model.errors import CannotStart, StateTooNew
from agent.model.status import TaskStatus
from tests.agent.adapters.local.stage import REGION, MemoryVpc, in_subnet, running
from tests.fakes.clock import FakeClock


class MovableClock:
    """The system's time, and as much later as a test says: signatures of real clients stay valid."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)
        self._system = SystemClock()

    def now(self):
        return self._system.now() + self.ahead


@contextlib.asynccontextmanager
async def started(data_dir, clock=None, vpc=None, **options):
    async with running(data_dir, clock or SystemClock(), vpc=vpc, **options) as stage:
        yield stage


async def test_tasks_definitions_machine_and_keys_outlive_a_restart(tmp_path):
    vpc = MemoryVpc()
    async with started(tmp_path, vpc=vpc) as stage:
        await stage.register()
        task = await stage.run_one(clientToken="once")
        spec = (await stage.wanted(task["taskArn"])).spec
        await stage.eventually(task["taskArn"], "PENDING")
        keys = stage.backend.keys
    async with started(tmp_path, vpc=vpc) as stage:
        assert stage.backend.keys == keys
        assert (await stage.wanted(task["taskArn"])).spec == spec
        again = await stage.run(clientToken="once")
        assert [one["taskArn"] for one in again["tasks"]] == [task["taskArn"]]
        assert (await stage.describe(task["taskArn"]))["containerInstanceArn"] == task["containerInstanceArn"]


async def test_interfaces_of_live_tasks_are_made_again_and_those_of_no_task_removed(tmp_path):
    async with started(tmp_path) as stage:
        await stage.register()
        task = await stage.run_one()
        await stage.eventually(task["taskArn"], "PENDING")
        (plan,) = stage.vpc.made.values()
    rebooted = MemoryVpc()
    rebooted.made["eni-0123456789abcdef0"] = plan
    async with started(tmp_path, vpc=rebooted) as stage:
        assert rebooted.is_ensured
        assert rebooted.instance.ipv4_address == "10.211.0.4"
        assert "eni-0123456789abcdef0" not in rebooted.made
        await stage.report(task["taskArn"], TaskStatus.RUNNING)
        await stage.eventually(task["taskArn"], "RUNNING")
        while plan.eni_id not in rebooted.made:
            await stage.describe(task["taskArn"])
        assert rebooted.made[plan.eni_id] == plan


async def test_an_interface_whose_removal_was_interrupted_is_removed_after_the_restart(tmp_path):
    vpc = MemoryVpc()
    async with started(tmp_path, vpc=vpc) as stage:
        await stage.register()
        task = await stage.run_one()
        await stage.eventually(task["taskArn"], "PENDING")
        vpc.gate.clear()
        await stage.report(task["taskArn"], TaskStatus.STOPPED, exit_code=0)
    vpc.gate.set()
    async with started(tmp_path, vpc=vpc) as stage:
        await stage.eventually(task["taskArn"], "STOPPED")
        assert vpc.made == {}


async def test_a_released_address_rests_for_thirty_seconds(tmp_path):
    clock = MovableClock()
    plan_of_one = in_subnet()
    async with started(tmp_path, clock) as stage:
        await stage.register()
        first = await stage.run_one()
        address = first["containers"][0]["networkInterfaces"][0]["privateIpv4Address"]
        subnet = plan_of_one["awsvpcConfiguration"]["subnets"][0]
        await stage.report(first["taskArn"], TaskStatus.STOPPED, exit_code=0)
        await stage.eventually(first["taskArn"], "STOPPED")

        async def resting():
            now = clock.now() - timedelta(seconds=30)
            taken = await stage.backend._store.transact(lambda ledger: ledger.addresses(subnet, now))
            return taken.resting

        assert await resting() == {address}
        clock.ahead = timedelta(seconds=31)
        assert await resting() == set()


async def test_stopped_tasks_are_shown_for_an_hour_and_their_history_longer(tmp_path):
    clock = MovableClock()
    async with started(tmp_path, clock) as stage:
        await stage.register()
        task = await stage.run_one()
        await stage.report(task["taskArn"], TaskStatus.STOPPED, exit_code=0)
        await stage.eventually(task["taskArn"], "STOPPED")
        clock.ahead = timedelta(minutes=59)
        await stage.backend._store.tidy()
        perform, task_id = stage.backend.perform, task["taskArn"].rsplit("/", 1)[1]
        assert (await perform("DescribeTasks", {"tasks": [task_id]}))["failures"] == []
        clock.ahead = timedelta(minutes=61)
        await stage.backend._store.tidy()
        assert (await perform("DescribeTasks", {"tasks": [task_id]}))["tasks"] == []
        assert len(await stage.backend.events(task_id)) > 2
        clock.ahead = timedelta(days=8)
        await stage.backend._store.tidy()
        assert await stage.backend.events(task_id) == ()


def contents_of(directory):
    """Every file with its content and its times."""
    return {
        file.relative_to(directory): (file.stat().st_mtime_ns, file.read_bytes())
        for file in directory.rglob("*")
        if file.is_file()
    }


def truncated(path):
    path.write_bytes(path.read_bytes()[:1000])


def garbage(path):
    path.write_bytes(b"this is not a database at all " * 200)


def bit_flipped(path):
    content = bytearray(path.read_bytes())
    for at in range(100, len(content), 97):
        content[at] ^= 0xFF
    path.write_bytes(content)


def from_the_future(path):
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")


def of_a_version_that_never_was(path):
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 1000000")


def somebody_elses(path):
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE stranger (x)")


def with_a_torn_record(table):
    def damage(path):
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            torn = "SET record = substr(record, 1, length(record) / 2)"
            database.execute(f"UPDATE {table} {torn}")

    return damage


DAMAGES = [
    truncated,
    garbage,
    bit_flipped,
    of_a_version_that_never_was,
    somebody_elses,
    with_a_torn_record("tasks"),
    with_a_torn_record("attachments"),
    with_a_torn_record("definitions"),
]


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_broken_database_is_set_aside_and_live_tasks_go_on(tmp_path, damage):
    vpc = MemoryVpc()
    async with started(tmp_path, vpc=vpc) as stage:
        await stage.register()
        task = await stage.run_one()
        await stage.report(task["taskArn"], TaskStatus.RUNNING)
        gone = await stage.run_one()
        spec = (await stage.wanted(task["taskArn"])).spec
        await stage.report(gone["taskArn"], TaskStatus.STOPPED, exit_code=0)
        await stage.eventually(gone["taskArn"], "STOPPED")
    damage(tmp_path / FILE_NAME)
    async with started(tmp_path, vpc=vpc) as stage:
        (aside,) = (
            one for one in tmp_path.glob(f"{FILE_NAME}.broken-*") if not one.name.endswith(("-wal", "-shm"))
        )
        assert aside.stat().st_size > 0
        assert (await stage.wanted(task["taskArn"])).spec == spec
        assert (await stage.describe(task["taskArn"]))["lastStatus"] == "RUNNING"
        assert (await stage.ecs("list_tasks"))["taskArns"] == [task["taskArn"]]
        assert list(vpc.made) == [spec.network.eni_id]
        other = await stage.run_one()
        await stage.eventually(other["taskArn"], "PENDING")
        await stage.ecs("stop_task", task=task["taskArn"])
        await stage.report(task["taskArn"], TaskStatus.STOPPED, exit_code=0)
        await stage.eventually(task["taskArn"], "STOPPED")


async def test_a_database_of_a_newer_agent_is_refused_and_left_as_it_is(tmp_path):
    async with started(tmp_path) as stage:
        await stage.register()
    from_the_future(tmp_path / FILE_NAME)
    before = contents_of(tmp_path)
    with pytest.raises(StateTooNew, match=rf"{FILE_NAME} has format {SCHEMA_VERSION + 1}"):
        async with started(tmp_path):
            pass
    assert contents_of(tmp_path) == before


async def test_what_a_newer_agent_of_the_same_format_has_added_to_records_outlives_an_older_one(tmp_path):
    async with started(tmp_path) as stage:
        await stage.register()
        task = await stage.run_one()
    tables = ("tasks", "attachments", "definitions")
    with contextlib.closing(sqlite3.connect(tmp_path / FILE_NAME)) as database, database:
        for table in tables:
            database.execute(f"UPDATE {table} SET record = json_set(record, '$.hologram', 'blue')")  # noqa: S608 - our own three
        database.execute("UPDATE tasks SET record = json_set(record, '$.containers[0].hologram', 'red')")
    async with started(tmp_path) as stage:
        await stage.report(task["taskArn"], TaskStatus.RUNNING)
        await stage.eventually(task["taskArn"], "RUNNING")
        await stage.ecs("deregister_task_definition", taskDefinition="nginx-awsvpc:1")
    assert list(tmp_path.glob("*.broken-*")) == []
    with contextlib.closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
        for table in tables:
            query = f"SELECT json_extract(record, '$.hologram') FROM {table}"  # noqa: S608
            assert database.execute(query).fetchall() == [("blue",)]
        query = "SELECT last_status, json_extract(record, '$.containers[0].hologram') FROM tasks"
        assert database.execute(query).fetchall() == [("RUNNING", "red")]


async def test_a_database_and_journal_that_are_both_broken_do_not_keep_the_agent_from_starting(tmp_path):
    async with started(tmp_path) as stage:
        await stage.register()
        await stage.run_one()
    garbage(tmp_path / FILE_NAME)
    garbage(tmp_path / "assignments.jsonl")
    async with started(tmp_path) as stage:
        assert (await stage.ecs("list_tasks"))["taskArns"] == []
        assert await stage.register()


async def test_a_torn_last_line_of_the_journal_loses_nothing_before_it(tmp_path):
    async with started(tmp_path) as stage:
        await stage.register()
        task = await stage.run_one()
    (tmp_path / FILE_NAME).unlink()
    with (tmp_path / "assignments.jsonl").open("a") as journal:
        journal.write('{"version":1,"task":{"id":')
    async with started(tmp_path) as stage:
        assert (await stage.ecs("list_tasks"))["taskArns"] == [task["taskArn"]]


async def test_two_tasks_at_one_address_in_the_journal_are_the_later_one(tmp_path):
    async with started(tmp_path) as stage:
        await stage.register()
        task = await stage.run_one()
    (tmp_path / FILE_NAME).unlink()
    journal = tmp_path / "assignments.jsonl"
    (line,) = journal.read_text().splitlines()
    # as a launch leaves it that could not be committed
    ghost = json.loads(line)
    ghost["task"]["id"] = ghost["attachment"]["task_id"] = "0" * 32
    ghost["attachment"]["id"] = "ghost"
    journal.write_text(f"{json.dumps(ghost)}\n{line}\n")
    async with started(tmp_path) as stage:
        assert (await stage.ecs("list_tasks"))["taskArns"] == [task["taskArn"]]


async def test_an_empty_database_file_is_a_new_one(tmp_path):
    (tmp_path / FILE_NAME).touch()
    async with started(tmp_path) as stage:
        assert (await stage.ecs("list_tasks"))["taskArns"] == []
    assert list(tmp_path.glob("*.broken-*")) == []


async def test_a_second_broken_database_in_the_same_second_does_not_overwrite_the_first(tmp_path):
    clock = FakeClock()
    for _ in range(2):
        garbage(tmp_path / FILE_NAME)
        async with started(tmp_path, clock):
            pass
    assert len(list(tmp_path.glob(f"{FILE_NAME}.broken-*"))) == 2


async def test_a_data_directory_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "data").write_text("a file, not a directory")
    with pytest.raises(CannotStart, match="data") as refused:
        async with started(tmp_path / "data"):
            pass
    assert not refused.value.is_final


async def test_a_vpc_that_cannot_be_made_is_named(tmp_path):
    vpc = MemoryVpc()
    vpc.refusals = 1
    with pytest.raises(CannotStart, match="the kernel said no"):
        async with started(tmp_path, vpc=vpc):
            pass


async def test_closing_twice_is_closing_once_and_a_closed_store_says_so(tmp_path):
    async with started(tmp_path) as stage:
        backend = stage.backend
    await backend.aclose()
    with pytest.raises(DatabaseFailed, match="is closed"):
        await backend.events("x")


async def test_a_machine_that_joins_another_cluster_leaves_the_first_and_its_tasks_stay(tmp_path):
    async with started(tmp_path) as stage:
        await stage.register()
        task = await stage.run_one()
    async with started(tmp_path, cluster="other") as stage:
        assert (await stage.describe(task["taskArn"]))["desiredStatus"] == "RUNNING"
        assert (await stage.wanted(task["taskArn"])).stop is None
        assert (await stage.ecs("list_container_instances"))["containerInstanceArns"] == []
        assert (
            len((await stage.ecs("list_container_instances", cluster="other"))["containerInstanceArns"]) == 1
        )
        assert (await stage.run(cluster="other"))["tasks"][0]["clusterArn"].endswith("/other")


@pytest.mark.parametrize(
    "changes",
    [
        {"plan": default_plan(REGION, seed="another account"), "account": "222222222222"},
        {"plan": default_plan(REGION, seed="tests", ipv4_cidr="10.99.0.0/16")},
        {"plan": default_plan("eu-west-1", seed="tests"), "region": "eu-west-1"},
    ],
    ids=["account", "range", "region"],
)
async def test_tasks_that_were_placed_elsewhere_keep_the_agent_from_starting_until_they_are_stopped(
    tmp_path, changes
):
    async with started(tmp_path) as stage:
        await stage.register()
        task = await stage.run_one()
    with pytest.raises(
        CannotStart, match=r"tasks were placed with another .*1 of them, .*10\.211\.0\.5 in subnet-"
    ) as refused:
        async with started(tmp_path, **changes):
            pass
    assert refused.value.is_final
    async with started(tmp_path) as stage:
        await stage.ecs("stop_task", task=task["taskArn"])
        await stage.report(task["taskArn"], TaskStatus.STOPPED, exit_code=0)
    async with started(tmp_path, **changes):
        pass


async def test_files_are_readable_by_their_owner_only(tmp_path):
    async with started(tmp_path / "data") as stage:
        await stage.register()
        await stage.run_one()
        modes = {one.name: one.stat().st_mode & 0o777 for one in (tmp_path / "data").iterdir()}
    assert modes["credentials.json"] == 0o600
    assert modes[FILE_NAME] == 0o600
    assert modes["assignments.jsonl"] == 0o600
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


async def test_a_key_file_that_is_none_is_replaced(tmp_path):
    (tmp_path / "credentials.json").write_text('{"accessKeyId": 1}')
    async with started(tmp_path) as stage:
        assert stage.backend.keys.access_key_id.startswith("BERTHLOCAL")
        assert await stage.ecs("list_clusters")


async def test_a_transaction_that_fails_leaves_nothing_behind(tmp_path):
    async with started(tmp_path) as stage:
        await stage.register()

        def half(ledger: Ledger) -> None:
            ledger.add_cluster("half")
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await stage.backend._store.transact(half)
        clusters = await stage.ecs("list_clusters")
        assert [arn.rsplit("/", 1)[1] for arn in clusters["clusterArns"]] == ["default"]
