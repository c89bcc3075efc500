"""The store fails, a step has a bug: what is told, and what goes on."""

import asyncio
from contextlib import aclosing

import pytest
from botocore.exceptions import ClientError
from structlog.testing import capture_logs

from agent.adapters.clock import SystemClock
from agent.adapters.local import interfaces
from agent.adapters.local.database import DatabaseFailed
from agent.adapters.local.ledger import Ledger
from agent.adapters.local.shapes import Shapes
from agent.adapters.local.vpc.errors import KernelRefused
from agent.model.errors import BackendUnavailable
from agent.model.status import TaskStatus
from tests.agent.adapters.local.stage import report, running


async def test_a_store_that_fails_is_a_server_error_to_users_and_unavailable_to_the_agent(stage, monkeypatch):
    await stage.register()
    task = await stage.run_one()
    wanted = await stage.wanted(task["taskArn"])

    def fail(work):
        raise DatabaseFailed("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(stage.backend._store._database, "_transact", fail)
        with pytest.raises(ClientError, match="the disk is full") as refused:
            await stage.run()
        assert refused.value.response["Error"]["Code"] == "ServerException"
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
        with pytest.raises(BackendUnavailable, match="the disk is full"):
            await stage.backend.report(report(wanted, TaskStatus.RUNNING))
    await stage.backend.report(report(wanted, TaskStatus.RUNNING))
    assert (await stage.describe(task["taskArn"]))["lastStatus"] == "RUNNING"


async def test_sqlites_own_errors_name_the_file_and_undo_everything(stage):
    def broken(ledger):
        ledger.add_cluster("half")
        ledger._db.execute("SELECT * FROM nowhere")

    with pytest.raises(DatabaseFailed, match=r"berth\.db failed: no such table: nowhere"):
        await stage.backend._store.transact(broken)
    assert len((await stage.ecs("list_clusters"))["clusterArns"]) == 1


async def test_interfaces_are_cared_for_again_after_the_store_was_gone(stage, monkeypatch):
    await stage.register()
    good = stage.backend._store._database._transact
    failures = 0

    def fail_thrice(work):
        nonlocal failures
        if failures < 3:
            failures += 1
            raise DatabaseFailed("gone for a moment")
        return good(work)

    stage.vpc.gate.clear()
    task = await stage.run_one()
    monkeypatch.setattr(stage.backend._store._database, "_transact", fail_thrice)
    stage.vpc.gate.set()
    async with asyncio.timeout(5):
        while not failures:
            await asyncio.sleep(0.01)
    monkeypatch.undo()
    await stage.eventually(task["taskArn"], "PENDING")


async def test_an_interface_that_was_made_and_could_not_be_noted_is_noted_later_without_haste(
    stage, monkeypatch
):
    await stage.register()
    note, tries, looks = interfaces._note_made, [], []

    def first_fails(ledger, task_id):
        tries.append(task_id)
        if len(tries) == 1:
            raise DatabaseFailed("gone for a moment")
        note(ledger, task_id)

    goals = Ledger.interface_goals
    monkeypatch.setattr(interfaces, "_note_made", first_fails)
    monkeypatch.setattr(Ledger, "interface_goals", lambda ledger: looks.append(1) or goals(ledger))
    task = await stage.run_one()
    await stage.eventually(task["taskArn"], "PENDING")
    assert len(tries) == 2
    assert len(looks) < 10


async def test_a_bug_about_one_interface_does_not_end_the_care_for_others(stage, monkeypatch):
    await stage.register()
    good, calls = stage.vpc.ensure_interface, []

    async def first_is_a_bug(eni):
        calls.append(eni.eni_id)
        if len(calls) == 1:
            raise ZeroDivisionError("a bug")
        await good(eni)

    monkeypatch.setattr(stage.vpc, "ensure_interface", first_is_a_bug)
    tasks = (await stage.run(count=2))["tasks"]
    for task in tasks:
        await stage.eventually(task["taskArn"], "PENDING")
    assert len(calls) == 3


async def test_a_task_whose_records_are_damaged_makes_the_snapshot_incomplete_and_hurts_no_other(stage):
    await stage.register()
    damaged, good = (await stage.run(count=2))["tasks"]
    for task in (damaged, good):
        await stage.eventually(task["taskArn"], "PENDING")
    task_id = damaged["taskArn"].rsplit("/", 1)[1]
    stage.backend._specs.clear()
    await stage.backend._store.transact(
        lambda ledger: ledger._db.execute("DELETE FROM attachments WHERE task_id = ?", (task_id,)).rowcount
    )
    async with aclosing(stage.backend.desired()) as snapshots:
        snapshot = await anext(snapshots)
    assert [one.arn for one in snapshot.tasks] == [good["taskArn"]]
    assert not snapshot.complete


def test_a_shape_is_reduced_to_what_is_needed_and_still_refuses_the_unknown():
    shapes = Shapes(("StopTask",))
    assert shapes.request("StopTask", {"task": 7}) == {"task": "7"}
    with pytest.raises(KeyError):
        shapes.request("RunTask", {})


def test_answers_are_checked_too():
    shapes = Shapes(("ListClusters",), with_answers=True)
    assert shapes.answer_problems("ListClusters", {"clusterArns": []}) == ""
    assert "Unknown parameter" in shapes.answer_problems("ListClusters", {"clusters": []})


async def test_an_interface_of_no_task_is_listed_and_removed_within_minutes(stage):
    await stage.register()
    task = await stage.run_one()
    await stage.eventually(task["taskArn"], "PENDING")
    ((own, plan),) = stage.vpc.made.items()
    assert await stage.backend.orphans() == ()
    stage.vpc.made["eni-0123456789abcdef0"] = plan
    assert await stage.backend.orphans() == ("eni-0123456789abcdef0",)
    await stage.backend._keeper.remove_orphans()
    assert list(stage.vpc.made) == [own]
    assert await stage.backend.orphans() == ()


async def test_an_interface_that_goes_while_one_looks_is_no_orphan(stage, monkeypatch):
    await stage.register()
    task = await stage.run_one()
    await stage.eventually(task["taskArn"], "PENDING")
    live = Ledger.live_attachments

    def released_meanwhile(ledger):
        stage.vpc.made.clear()
        return live(ledger)[:0]

    monkeypatch.setattr(Ledger, "live_attachments", released_meanwhile)
    assert await stage.backend.orphans() == ()


async def test_an_interface_that_comes_while_one_looks_is_no_orphan(stage, monkeypatch):
    await stage.register()
    stage.vpc.gate.clear()
    seen = stage.vpc.interfaces

    async def made_after_the_look():
        found = await seen()
        stage.vpc.gate.set()
        await stage.eventually((await stage.run_one())["taskArn"], "PENDING")
        return found

    monkeypatch.setattr(stage.vpc, "interfaces", made_after_the_look)
    assert await stage.backend.orphans() == ()
    assert len(stage.vpc.made) == 1


async def test_orphans_are_removed_again_and_again_and_a_failure_ends_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(interfaces, "_SWEEP_EVERY", 0.01)
    async with running(tmp_path, SystemClock()) as stage:
        stage.vpc.made["eni-0123456789abcdef0"] = None
        stage.vpc.refusals = 2
        with capture_logs() as logs:
            async with asyncio.timeout(5):
                while stage.vpc.made:
                    await asyncio.sleep(0.01)
    told = [line["event"] for line in logs]
    assert told.count("interfaces.unswept") == 2
    assert told.count("interface.orphan_removed") == 1


async def test_interfaces_that_cannot_be_listed_are_an_error_and_not_an_empty_list(stage, monkeypatch):
    async def refuse():
        raise KernelRefused("the kernel said no", 1)

    monkeypatch.setattr(stage.vpc, "interfaces", refuse)
    with pytest.raises(BackendUnavailable, match="the kernel said no"):
        await stage.backend.orphans()
