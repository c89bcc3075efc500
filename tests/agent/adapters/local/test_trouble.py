"""The store fails, a step has a bug: what is told, and what goes on."""

import asyncio
from contextlib import aclosing

import pytest
from botocore.exceptions import ClientError

from agent.adapters.local import interfaces
from agent.adapters.local.database import DatabaseFailed
from agent.adapters.local.ledger import Ledger
from agent.adapters.local.shapes import Shapes
from agent.model.errors import BackendUnavailable
from agent.model.status import TaskStatus
from tests.agent.adapters.local.stage import report


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
    await asyncio.sleep(0.05)
    monkeypatch.undo()
    assert failures > 0
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
