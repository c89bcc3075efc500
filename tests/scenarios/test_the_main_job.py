"""Stories of the whole agent on fakes and jumping time: starting, stopping, failing, restarting."""

import asyncio
from datetime import timedelta

import pytest

from agent.lifecycle.explain import explain
from agent.lifecycle.names import docker_name, pause_name
from agent.model.errors import CannotStartContainer, CheckpointFailed, RuntimeUnavailable
from agent.model.spec import Condition, PullBehavior
from agent.model.state import Policy
from agent.model.status import Health, TaskStatus
from tests.builders import a_container, a_network, a_spec
from tests.conftest import JumpingTime
from tests.fakes.runtime import FakeImage
from tests.scenarios.machine import FakeMachine

RUNNING, STOPPED, PENDING = TaskStatus.RUNNING, TaskStatus.STOPPED, TaskStatus.PENDING


def test_a_task_is_started_reported_stopped_and_leaves_nothing(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        spec = a_spec(a_container("web"), a_container("api"))
        async with machine.agent():
            arn = machine.run_task(spec)
            await machine.until_told(arn, RUNNING, within=60)
            assert machine.is_running(spec)
            attachments = machine.backend.latest(arn).attachments
            assert [each.attachment_arn for each in attachments] == [spec.network.attachment_arn]
            assert machine.node.by_address(machine.state(arn).sandbox.attachment.local_ipv4) is not None
            machine.backend.ask_to_stop(arn)
            await machine.until_told(arn, STOPPED, within=60)
            assert not machine.runtime.running
            assert machine.credentials.forgotten == [arn]
            await machine.until(lambda: machine.node.by_arn(arn) is None, within=4 * 3600)
            assert machine.runtime.is_clean
            assert not machine.network.joined
            assert machine.checkpoints.held() == ()
            assert machine.backend.statuses(arn) in ((PENDING, RUNNING, STOPPED), (RUNNING, STOPPED))

    jumping.run(story())


def test_each_order_is_obeyed_once_however_often_it_comes(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        machine.backend.copies = 10
        machine.backend.is_reordered = True
        spec = a_spec()
        async with machine.agent():
            arn = machine.run_task(spec)
            await machine.until_told(arn, RUNNING)
        async with machine.agent():
            machine.backend.announce()
            await machine.until(lambda: machine.is_running(spec))
            assert len(machine.runtime.containers) == 2
            assert machine.runtime.count("ensure_started", docker_name(spec, "app")) == 0

    jumping.run(story())


def test_a_restart_of_the_agent_is_invisible_to_tasks(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        specs = [a_spec(number=number) for number in range(1, 6)]
        async with machine.agent():
            for spec in specs:
                machine.run_task(spec)
            await machine.until(lambda: all(machine.told(spec.arn) is RUNNING for spec in specs))
        before = machine.runtime.containers
        for _ in range(5):
            async with machine.agent():
                await machine.until(lambda: all(machine.is_running(spec) for spec in specs))
                await asyncio.sleep(120)
        after = machine.runtime.containers
        assert {name: (each.pid, each.started_at) for name, each in before.items()} == {
            name: (each.pid, each.started_at) for name, each in after.items()
        }

    jumping.run(story())


def test_a_crash_after_any_save_converges(jumping: JumpingTime) -> None:
    """Cut the story after every save, recover, let it run out: the end is always the same."""

    async def story(cut_after: int) -> int:
        """The number of saves of the first life."""
        machine = FakeMachine(jumping.clock, policy=Policy(retention=timedelta(seconds=1)))
        spec = a_spec(a_container("db"), a_container("web", after={"db": Condition.START}))
        arn = machine.run_task(spec)

        async def live() -> None:
            await machine.until(lambda: machine.told(arn) is not None)
            if machine.told(arn) is not STOPPED:
                await machine.until(lambda: machine.is_running(spec) or machine.told(arn) is STOPPED)
                machine.backend.ask_to_stop(arn)
            await machine.until(lambda: machine.told(arn) is STOPPED and not machine.checkpoints.held())

        async with machine.agent(), asyncio.TaskGroup() as first_life:
            living = first_life.create_task(live())
            await machine.until(lambda: len(machine.checkpoints.saved) >= cut_after or living.done())
            living.cancel()
        saves = len(machine.checkpoints.saved)
        async with machine.agent():
            await live()
            assert machine.runtime.is_clean
            assert not machine.network.joined
        return saves

    total = jumping.run(story(cut_after=10_000))
    assert total > 15
    for cut_after in range(1, total + 1):
        jumping.run(story(cut_after))


def test_a_lost_record_is_rebuilt_from_labels(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        spec = a_spec()
        async with machine.agent():
            arn = machine.run_task(spec)
            await machine.until_told(arn, RUNNING)
        machine.checkpoints.put_raw(f"{spec.task_id}.json", b'{"version": 1, "task": {')
        machine.interfaces.disappear(spec.network.mac_address)
        before = machine.runtime.containers
        async with machine.agent():
            await machine.until(lambda: machine.is_running(spec))
        assert machine.checkpoints.broken == [f"{spec.task_id}.json"]
        assert {name: each.pid for name, each in machine.runtime.containers.items()} == {
            name: each.pid for name, each in before.items()
        }

    jumping.run(story())


def test_an_interface_that_never_appears_stops_the_task_with_that_reason(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        network = a_network(1, expires_at=jumping.clock.now() + timedelta(minutes=3))
        spec = a_spec(network=network)
        async with machine.agent():
            arn = machine.run_task(spec, interface=False)
            await machine.until(lambda: machine.node.by_arn(arn) is not None)
            await asyncio.sleep(60)
            waits = {wait.waits_for for wait in explain(machine.state(arn), jumping.clock.now())}
            assert "interface_present" in waits
            await machine.until_told(arn, STOPPED, within=300)
            assert "did not appear on this machine" in machine.backend.latest(arn).reason
            assert machine.backend.latest(arn).attachments == ()

    jumping.run(story())


def test_a_task_with_a_missing_image_says_so(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        machine.runtime.missing_images.add("example/app:1")
        async with machine.agent():
            arn = machine.run_task(a_spec())
            await machine.until_told(arn, STOPPED, within=60)
            told = machine.backend.latest(arn)
            assert told.reason.startswith("CannotPullContainerError: ")
            assert told.containers[0].exit_code is None

    jumping.run(story())


def test_a_present_image_forgives_a_failed_pull_by_default_and_not_when_always_pulled(
    jumping: JumpingTime,
) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        machine.runtime.add_image(FakeImage("example/app:1"))
        machine.runtime.missing_images.add("example/app:1")
        async with machine.agent():
            forgiven = machine.run_task(a_spec(number=1))
            strict = machine.run_task(a_spec(number=2, pull_behavior=PullBehavior.ALWAYS))
            await machine.until_told(forgiven, RUNNING)
            await machine.until_told(strict, STOPPED)

    jumping.run(story())


def test_a_start_that_failed_and_had_its_effect_is_stopped_before_it_is_reported(
    jumping: JumpingTime,
) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        machine.runtime.fail_next("ensure_started", CannotStartContainer("EOF"), had_effect=True)
        async with machine.agent():
            arn = machine.run_task(a_spec())
            await machine.until_told(arn, STOPPED)
            assert machine.backend.latest(arn).reason == "CannotStartContainerError: EOF"
            assert not machine.runtime.running

    jumping.run(story())


def test_a_hung_stop_is_never_reported_as_stopped(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        spec = a_spec()
        async with machine.agent():
            arn = machine.run_task(spec)
            await machine.until_told(arn, RUNNING)
            machine.runtime.hang("ensure_stopped")
            machine.backend.ask_to_stop(arn)
            await asyncio.sleep(1800)
            assert machine.told(arn) is RUNNING
            waits = explain(machine.state(arn), jumping.clock.now())
            assert any(wait.subject == "app" for wait in waits)
            machine.runtime.release("ensure_stopped")
            await machine.until_told(arn, STOPPED, within=600)

    jumping.run(story())


def test_a_runtime_that_is_down_at_start_and_in_between_only_delays(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        machine.runtime.is_unavailable = True
        async with machine.agent():
            arn = machine.run_task(a_spec())
            await asyncio.sleep(60)
            assert "runtime" in machine.health.now
            machine.runtime.is_unavailable = False
            await machine.until_told(arn, RUNNING, within=60)
            assert machine.health.now == {}
            machine.runtime.is_unavailable = True
            await asyncio.sleep(300)
            assert machine.told(arn) is RUNNING
            machine.runtime.is_unavailable = False
            await asyncio.sleep(60)
            assert machine.told(arn) is RUNNING
            assert machine.health.now == {}

    jumping.run(story())


def test_a_runtime_that_stops_answering_is_known_within_a_quarter_minute(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        async with machine.agent():
            arn = machine.run_task(a_spec())
            await machine.until_told(arn, RUNNING)
            machine.runtime.is_unavailable = True
            await machine.until(lambda: "runtime" in machine.health.now, within=15)
            await asyncio.sleep(600)
            assert machine.told(arn) is RUNNING
            machine.runtime.is_unavailable = False
            await machine.until(lambda: not machine.health.now, within=30)

    jumping.run(story())


def test_a_runtime_that_fails_in_the_middle_of_a_launch_is_asked_again(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        machine.runtime.fail_next("ensure_created", RuntimeUnavailable("connection refused"), times=3)
        async with machine.agent():
            arn = machine.run_task(a_spec())
            await machine.until_told(arn, RUNNING, within=60)

    jumping.run(story())


def test_a_backend_that_is_away_for_a_day_finds_everything_as_it_left_it(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        spec, brief = a_spec(number=1), a_spec(a_container("job"), number=2)
        machine.runtime.add_image(FakeImage("example/job:1"))
        async with machine.agent():
            arn, other = machine.run_task(spec), machine.run_task(brief)
            await machine.until(lambda: machine.told(arn) is RUNNING and machine.told(other) is RUNNING)
            machine.backend.is_unavailable = True
            machine.runtime.exit(docker_name(brief, "job"), 4)
            await asyncio.sleep(24 * 3600)
            assert machine.is_running(spec)
            assert machine.told(other) is RUNNING
            machine.backend.is_unavailable = False
            await machine.until_told(other, STOPPED, within=60)
            assert machine.backend.latest(other).containers[0].exit_code == 4

    jumping.run(story())


def test_a_task_that_is_missing_from_an_incomplete_snapshot_keeps_running(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        spec = a_spec()
        async with machine.agent():
            arn = machine.run_task(spec)
            await machine.until_told(arn, RUNNING)
            machine.backend.is_complete = False
            machine.backend.hidden.add(arn)
            machine.backend.announce()
            await asyncio.sleep(600)
            assert machine.is_running(spec)
            machine.backend.is_complete = True
            machine.backend.announce()
            await machine.until_told(arn, STOPPED)

    jumping.run(story())


def test_an_exit_whose_event_was_lost_is_noticed_by_looking(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        spec = a_spec()
        async with machine.agent():
            arn = machine.run_task(spec)
            await machine.until_told(arn, RUNNING)
            machine.runtime.hold_changes()
            machine.runtime.exit(docker_name(spec, "app"), 9)
            await machine.until_told(arn, STOPPED, within=60)
            assert machine.backend.latest(arn).containers[0].exit_code == 9

    jumping.run(story())


def test_a_container_removed_by_somebody_else_is_a_reason(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        spec = a_spec()
        async with machine.agent():
            arn = machine.run_task(spec)
            await machine.until_told(arn, RUNNING)
            machine.runtime.vanish(docker_name(spec, "app"))
            await machine.until_told(arn, STOPPED, within=90)
            assert machine.backend.latest(arn).containers[0].reason.startswith("ContainerVanishedError")

    jumping.run(story())


def test_a_pause_container_that_dies_stops_the_task_and_its_network_is_released(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        spec = a_spec()
        async with machine.agent():
            arn = machine.run_task(spec)
            await machine.until_told(arn, RUNNING)
            machine.runtime.exit(pause_name(spec), 0)
            await machine.until_told(arn, STOPPED, within=60)
            assert "pause container ended" in machine.backend.latest(arn).reason
            assert not machine.network.joined

    jumping.run(story())


def test_an_init_job_and_a_healthy_proxy_come_before_the_app(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        machine.runtime.add_image(FakeImage("example/migrate:1", exits_with=0))
        spec = a_spec(
            a_container("migrate", essential=False),
            a_container("proxy"),
            a_container("app", after={"migrate": Condition.SUCCESS, "proxy": Condition.HEALTHY}),
        )
        async with machine.agent():
            arn = machine.run_task(spec)
            await asyncio.sleep(30)
            assert docker_name(spec, "app") not in machine.runtime.running
            assert machine.told(arn) is not RUNNING
            machine.runtime.set_health(docker_name(spec, "proxy"), Health.HEALTHY)
            await machine.until_told(arn, RUNNING, within=60)

    jumping.run(story())


def test_a_dependency_that_can_never_be_met_fails_within_seconds(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        machine.runtime.add_image(FakeImage("example/migrate:1", exits_with=1))
        spec = a_spec(
            a_container("migrate", essential=False),
            a_container("app", after={"migrate": Condition.SUCCESS}),
        )
        async with machine.agent():
            arn = machine.run_task(spec)
            await machine.until_told(arn, STOPPED, within=5)
            told = {each.name: each for each in machine.backend.latest(arn).containers}
            assert told["app"].exit_code == 143
            assert "[migrate]" in told["app"].reason

    jumping.run(story())


def test_a_checkpoint_that_cannot_be_written_ends_the_agent_and_not_the_tasks(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        spec = a_spec()
        async with machine.agent():
            await machine.until_told(machine.run_task(spec), RUNNING)
        running = machine.runtime.running

        async def life_without_a_disk() -> None:
            async with machine.agent():
                machine.checkpoints.failure = "No space left on device"
                machine.backend.ask_to_stop(spec.arn)
                await asyncio.sleep(600)

        with pytest.raises(BaseExceptionGroup) as caught:
            await life_without_a_disk()
        assert caught.value.split(CheckpointFailed)[0] is not None
        assert machine.runtime.running == running

    jumping.run(story())


def test_leftovers_of_unknown_tasks_are_removed_only_after_a_complete_snapshot(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        spec = a_spec()
        async with machine.agent():
            await machine.until_told(machine.run_task(spec), RUNNING)
        machine.checkpoints.put_raw(f"{spec.task_id}.json", b"rubbish")
        machine.backend.hidden.add(spec.arn)
        machine.backend.is_complete = False
        machine.backend.announce()
        async with machine.agent():
            await asyncio.sleep(120)
            assert machine.runtime.running
            machine.backend.is_complete = True
            machine.backend.announce()
            await machine.until(lambda: machine.runtime.is_clean, within=1200)

    jumping.run(story())


def test_a_bug_in_one_step_hurts_its_own_task_only(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        machine.runtime.fail_next("ensure_started", ZeroDivisionError("a bug"))
        async with machine.agent():
            hurt = machine.run_task(a_spec(number=1))
            await machine.until_told(hurt, STOPPED)
            fine = machine.run_task(a_spec(number=2))
            await machine.until_told(fine, RUNNING)
            assert machine.backend.latest(hurt).reason.startswith("InternalError: ZeroDivisionError")

    jumping.run(story())
