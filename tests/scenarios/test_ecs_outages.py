"""Stories of a cluster that is away for minutes or a day: tasks do not care, and everything is told once."""

import asyncio
import gc
import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from random import Random
from typing import Any

import pytest
import structlog

from agent.model.errors import BackendUnavailable, CredentialsUnavailable, ReportRejected
from agent.model.ids import CredentialsId, RoleArn, TaskArn
from agent.model.spec import TaskRole
from tests.conftest import JumpingTime
from tests.scenarios.ecs_cluster import Cluster, Order
from tests.scenarios.ecs_machine import EcsMachine

HOUR = 3600.0
LIFE = ["ATTACHED", "RUNNING", "STOPPED"]
RUNS = LIFE[:2]
MOVES = {"ATTACHED": 0, "PENDING": 1, "RUNNING": 2, "STOPPED": 3}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """A day of an outage is a hundred thousand lines of a log that nobody reads."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


def exit_code(order: Order) -> Any:
    """What the cluster was told of the end of the task's only container: alone, or with the task's end."""
    told = [each for change in order.history for each in change.get("containers", ())]
    (end,) = [each for each in told if each["status"] == "STOPPED"]
    return end.get("exitCode")


def everything_was_said_once(cluster: Cluster) -> None:
    """No order of a task is broken, nothing was accepted twice, nothing waits for an answer."""
    for order in cluster.orders.values():
        ranks = [MOVES[each] for each in order.told]
        assert ranks == sorted(ranks), order.told
        assert order.said_once, order.history
    assert cluster.unanswered() == []


async def with_tasks(machine: EcsMachine, count: int) -> list[Order]:
    """So many tasks that run, and the cluster knows it."""
    orders = [machine.run_task() for _ in range(count)]
    await machine.until(lambda: all(each.said == RUNS for each in orders))
    return orders


def test_ten_minutes_without_the_cluster_are_made_up_for_afterwards(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = EcsMachine(jumping.clock)
        cluster = machine.cluster
        async with machine.agent():
            running, exiting, stopping, *others = await with_tasks(machine, 6)
            before = {each.arn: machine.containers_of(each) for each in (running, *others)}
            # Ordered in the last moment: the orders arrive, what comes of them cannot be told.
            starting, patient, late = machine.run_task(), cluster.order(wait=HOUR), cluster.order(wait=300)
            await machine.until(lambda: starting.is_ordered and not cluster.unanswered())
            cluster.stop(stopping)
            await machine.until(lambda: not cluster.unanswered())
            cluster.go_away()

            await asyncio.sleep(60)
            machine.exits(exiting, 3)
            machine.interfaces.appear(patient.eni.mac)
            machine.interfaces.appear(late.eni.mac)
            during = [cluster.order(wait=HOUR), cluster.order(wait=HOUR)]  # nobody hears of them yet
            await asyncio.sleep(540)
            assert all(machine.is_running(each) for each in (running, starting, *others))
            assert (exiting.said, stopping.said) == (RUNS, RUNS)
            assert "control channel" in machine.health.now
            assert "backend" in machine.health.now

            cluster.come_back()
            for each in during:
                machine.interfaces.appear(each.eni.mac)
            await machine.until(lambda: exiting.is_over and stopping.is_over)
            await machine.until(lambda: all(each.said == RUNS for each in (starting, patient, *during)))
            await asyncio.sleep(300)
            assert (exiting.said, exit_code(exiting)) == (LIFE, 3)
            assert (stopping.said, exit_code(stopping)) == (LIFE, 0)
            assert late.said == []  # nobody is told of an interface whose time is over
            assert {each.arn: machine.containers_of(each) for each in (running, *others)} == before
            assert machine.health.now == {}
            assert cluster.asked_for_keys == [True, False]
            everything_was_said_once(cluster)

    jumping.run(story())


def test_a_day_without_the_cluster_costs_neither_memory_nor_disk_and_loses_nothing(
    jumping: JumpingTime,
) -> None:
    async def story() -> None:
        machine = EcsMachine(jumping.clock)
        cluster, chance = machine.cluster, Random(11)
        async with machine.agent():
            orders = await with_tasks(machine, 8)
            keeper = orders[0]
            role = TaskRole(RoleArn(keeper.keys.role_arn), CredentialsId(keeper.keys.credentials_id))
            stopping = orders[1:3]
            for each in stopping:
                cluster.stop(each)
            await machine.until(lambda: not cluster.unanswered())
            cluster.go_away()

            exiting, staying = orders[3:6], [keeper, *orders[6:]]
            before = {each.arn: machine.containers_of(each) for each in staying}
            codes = {each.arn: number for number, each in enumerate(exiting, start=1)}
            for each in exiting:
                await asyncio.sleep(chance.uniform(60, 600))
                machine.exits(each, codes[each.arn])
            await asyncio.sleep(2 * HOUR)
            early = _size(machine)
            await asyncio.sleep(20 * HOUR)
            late = _size(machine)
            assert all(machine.is_running(each) for each in staying)
            assert [each.said for each in (*stopping, *exiting)] == [RUNS] * 5
            with pytest.raises(CredentialsUnavailable, match="expired at"):
                await machine.credentials.for_role(role, TaskArn(keeper.arn))

            objects, loops, saves, documents, size = (
                now - then for now, then in zip(late, early, strict=True)
            )
            assert (saves, documents, size) == (0, 0, 0)  # waiting is written down nowhere
            assert abs(loops) <= 4
            assert objects < 300
            tries = cluster.tries
            assert (
                tries["SubmitTaskStateChange"] < 5 * 24 * HOUR / 10
            )  # each that waits, and its containers' news
            assert tries["dial"] < 24 * HOUR / 60

            cluster.come_back()
            await machine.until(lambda: all(each.is_over for each in (*stopping, *exiting)))
            await machine.until(lambda: not cluster.unanswered() and cluster.is_connected)
            cluster.send_keys(keeper)
            await asyncio.sleep(1)
            held = await machine.credentials.for_role(role, TaskArn(keeper.arn))
            assert held.access_key_id == keeper.keys.access_key_id
            assert {each.arn: exit_code(each) for each in exiting} == codes
            assert {each.arn: machine.containers_of(each) for each in staying} == before
            # What is over stays known for a day, and then leaves nothing.
            for each in staying:
                cluster.stop(each)
            await machine.until(lambda: all(each.is_over for each in orders))
            await asyncio.sleep(4 * HOUR)
            assert machine.runtime.is_clean
            assert machine.checkpoints.held() == ()
            assert len(machine.documents.documents) == len(orders) + 2
            everything_was_said_once(cluster)
        await asyncio.sleep(24 * HOUR)
        async with machine.agent():
            await machine.until(lambda: set(machine.documents.documents) == {"instance", "attachments"})
            everything_was_said_once(cluster)

    jumping.run(story())


def test_an_agent_that_is_killed_again_and_again_during_an_outage_still_tells_everything_once(
    jumping: JumpingTime,
) -> None:
    async def story() -> None:
        machine = EcsMachine(jumping.clock)
        cluster = machine.cluster
        async with machine.agent():
            running, exiting, stopping = await with_tasks(machine, 3)
            before = machine.containers_of(running)
            # Its interface has appeared, and the cluster has gone before it could be told.
            appeared = cluster.order(wait=2 * HOUR)
            cluster.stop(stopping)
            await machine.until(lambda: not cluster.unanswered())
            cluster.go_away()
            machine.interfaces.appear(appeared.eni.mac)
            await asyncio.sleep(5)
        for number in range(6):
            async with machine.agent() as node:
                await machine.until(lambda: machine.is_running(running))
                if number == 2:
                    machine.exits(exiting, 9)
                await asyncio.sleep(120)
                # Whether all tasks are named cannot be known: nothing that seems nobody's may be swept away.
                assert node.known() is None
        cluster.come_back()
        async with machine.agent() as node:
            await machine.until(lambda: exiting.is_over and stopping.is_over and appeared.said == RUNS)
            await asyncio.sleep(120)
            assert node.known() is not None
        assert exit_code(exiting) == 9
        assert machine.containers_of(running) == before
        assert cluster.asked_for_keys == [True, True]
        everything_was_said_once(cluster)

    jumping.run(story())


@pytest.mark.parametrize("seed", range(6))
def test_an_api_that_fails_half_of_the_time_hears_everything_in_order_and_once(
    jumping: JumpingTime, seed: int
) -> None:
    async def story() -> None:
        machine = EcsMachine(jumping.clock, retention=timedelta(minutes=1))
        cluster, chance = machine.cluster, Random(seed)

        def judge(_: dict[str, Any]) -> None:
            if chance.random() < 0.5:
                raise BackendUnavailable("Amazon ECS said ThrottlingException: Rate exceeded")

        cluster.judge = judge
        async with machine.agent():
            orders = []
            for number in range(12):
                orders.append(machine.run_task())
                await asyncio.sleep(chance.uniform(0, 5))
                if number % 5 == 4:
                    cluster.go_away()
                    await asyncio.sleep(chance.uniform(1, 40))
                    cluster.come_back()
            await machine.until(lambda: all(each.said == RUNS for each in orders))
            for each in orders:
                if chance.random() < 0.5:
                    cluster.stop(each)
                else:
                    machine.exits(each, 0)
            await machine.until(lambda: all(each.said == LIFE for each in orders), within=1200)
            await machine.until(lambda: machine.runtime.is_clean)
            everything_was_said_once(cluster)

    jumping.run(story())


def test_a_report_that_is_poison_is_dropped_and_neither_its_task_nor_the_others_wait_for_it(
    jumping: JumpingTime,
) -> None:
    async def story() -> None:
        machine = EcsMachine(jumping.clock, retention=timedelta(minutes=1))
        cluster = machine.cluster
        poisoned: list[str] = []

        def judge(body: dict[str, Any]) -> None:
            if body.get("status") == "RUNNING" and body["task"] in poisoned:
                raise ReportRejected("Amazon ECS said InvalidParameterException: no such status")

        cluster.judge = judge
        async with machine.agent():
            first = cluster.order()
            poisoned.append(first.arn)
            machine.interfaces.appear(first.eni.mac)
            second = machine.run_task()
            await machine.until(lambda: second.said == RUNS and machine.is_running(first))
            await asyncio.sleep(60)
            tries = cluster.tries["SubmitTaskStateChange"]
            await asyncio.sleep(HOUR)
            assert cluster.tries["SubmitTaskStateChange"] == tries  # it was dropped, not repeated
            for each in (first, second):
                machine.exits(each, 4)
            await machine.until(lambda: first.is_over and second.is_over)
            assert (first.said, exit_code(first)) == (["ATTACHED", "STOPPED"], 4)
            assert second.said == LIFE
            await machine.until(lambda: machine.runtime.is_clean)
            everything_was_said_once(cluster)

    jumping.run(story())


def test_an_answer_that_is_lost_is_repeated_but_never_turned_around(jumping: JumpingTime) -> None:
    """What was taken without our knowing is told again: at least once, in order, and never less than before."""

    async def story() -> None:
        machine = EcsMachine(jumping.clock, retention=timedelta(minutes=1))
        cluster, chance = machine.cluster, Random(3)
        submit = cluster.submit

        async def loses_answers(body: dict[str, Any], *, operation: str = "SubmitTaskStateChange") -> None:
            await submit(body, operation=operation)
            if chance.random() < 0.5:
                raise BackendUnavailable("no answer within 42 s")

        cluster.submit = loses_answers  # type: ignore[method-assign]
        async with machine.agent():
            orders = [machine.run_task() for _ in range(8)]
            await machine.until(lambda: all("RUNNING" in each.said for each in orders))
            for each in orders:
                cluster.stop(each)
            await machine.until(lambda: all(each.is_over for each in orders) and machine.runtime.is_clean)
        for each in orders:
            ranks = [MOVES[said] for said in each.told]
            assert ranks == sorted(ranks)
            assert set(each.said) == set(LIFE)

    jumping.run(story())


def _size(machine: EcsMachine) -> tuple[int, int, int, int, int]:
    """Objects, coroutines, writes so far, documents and their bytes."""
    gc.collect()
    texts = [json.dumps(each) for each in machine.documents.documents.values()]
    return (
        len(gc.get_objects()),
        len(asyncio.all_tasks()),
        machine.documents.saves + len(machine.checkpoints.saved),
        len(texts),
        sum(map(len, texts)),
    )
