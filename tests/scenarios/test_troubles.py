"""Stories of troubles that must hurt one task only, or none: roles, records, reports, bugs, leftovers."""

import asyncio
from dataclasses import replace

import pytest

from agent.lifecycle.names import docker_name, pause_name
from agent.model.errors import (
    CannotPullEcrImage,
    CannotPullPrivateImage,
    CannotStopContainer,
    CheckpointFailed,
    CredentialsUnavailable,
    EcrLoginUnavailable,
    PrivateLoginUnavailable,
)
from agent.model.ids import CredentialsId, RoleArn
from agent.model.report import TaskReport
from agent.model.spec import PullBehavior, TaskRole, TaskSpec
from agent.model.status import Health, TaskStatus
from agent.supervisor.task import TaskSupervisor
from tests.builders import ACCOUNT, a_spec
from tests.conftest import JumpingTime
from tests.fakes.runtime import FakeImage
from tests.scenarios.machine import FakeMachine

RUNNING, STOPPED = TaskStatus.RUNNING, TaskStatus.STOPPED
ROLE = TaskRole(RoleArn(f"arn:aws:iam::{ACCOUNT}:role/pulls"), CredentialsId("creds-pulls"))


def pulled_by_role(behavior: PullBehavior = PullBehavior.ALWAYS) -> TaskSpec:
    return replace(a_spec(pull_behavior=behavior), execution_role=ROLE)


def test_an_execution_role_that_does_not_exist_is_the_reason_and_no_bug(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        machine.logins.fail(CannotPullEcrImage("engine ecr credentials: not found: no such role"))
        async with machine.agent():
            arn = machine.run_task(pulled_by_role())
            await machine.until_told(arn, STOPPED, within=60)
            assert machine.backend.latest(arn).reason == (
                "CannotPullECRContainerError: engine ecr credentials: not found: no such role"
            )
            assert machine.logins.asked == ["example/app:1"]  # once: it can only fail again

    jumping.run(story())


def test_an_execution_role_that_does_not_exist_is_forgiven_when_the_image_is_present(
    jumping: JumpingTime,
) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        machine.runtime.add_image(FakeImage("example/app:1"))
        machine.logins.fail(CannotPullPrivateImage("the secret cannot be found"))
        async with machine.agent():
            arn = machine.run_task(pulled_by_role(PullBehavior.DEFAULT))
            await machine.until_told(arn, RUNNING, within=60)

    jumping.run(story())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (CredentialsUnavailable("no answer"), "CannotGetCredentialsError: no answer"),
        (EcrLoginUnavailable("no answer"), "CannotPullECRContainerError: no answer"),
        (PrivateLoginUnavailable("no answer"), "CannotPullContainerAuthError: no answer"),
    ],
)
def test_a_login_that_cannot_be_had_now_is_asked_for_again_and_named_as_the_cause(
    jumping: JumpingTime, error: CredentialsUnavailable, reason: str
) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        machine.logins.fail(error)
        async with machine.agent():
            arn = machine.run_task(pulled_by_role())
            await asyncio.sleep(30)
            trouble = machine.state(arn).container("app").trouble
            assert str(trouble.reason) == reason
            machine.logins.heal()
            await machine.until_told(arn, RUNNING, within=90)

    jumping.run(story())


def test_a_pull_that_cannot_be_remembered_ends_the_agent_like_any_record_that_cannot_be_written(
    jumping: JumpingTime,
) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)

        async def refuse(image: str) -> None:
            raise CheckpointFailed(f"cannot remember {image}: No space left on device")

        async def life() -> None:
            async with machine.agent():
                machine.run_task(a_spec())
                await asyncio.sleep(60)

        machine.pulls.add = refuse  # type: ignore[method-assign]
        with pytest.raises(BaseExceptionGroup) as caught:
            await life()
        assert caught.value.split(CheckpointFailed)[0] is not None

    jumping.run(story())


def test_a_report_that_meets_a_bug_is_sent_again_and_keeps_no_other_from_being_sent(
    jumping: JumpingTime,
) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        accept = machine.backend.report
        is_broken = True
        hurt, fine = a_spec(number=1), a_spec(number=2)

        async def report(told: TaskReport) -> bool:
            if is_broken and told.task_arn == hurt.arn:
                raise ZeroDivisionError("a bug")
            return await accept(told)

        machine.backend.report = report  # type: ignore[method-assign]
        async with machine.agent():
            machine.run_task(hurt)
            machine.run_task(fine)
            await machine.until_told(fine.arn, RUNNING, within=60)
            assert machine.told(hurt.arn) is None
            is_broken = False
            await machine.until_told(hurt.arn, RUNNING, within=60)

    jumping.run(story())


def test_a_stop_that_comes_while_the_loop_of_its_task_has_crashed_is_not_lost(
    jumping: JumpingTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        async with machine.agent():
            arn = machine.run_task(a_spec())
            await machine.until_told(arn, RUNNING)

            def crash(_: TaskSupervisor) -> None:
                monkeypatch.undo()
                raise ZeroDivisionError("a bug")

            monkeypatch.setattr(TaskSupervisor, "_cancel_abandoned", crash)
            machine.runtime.set_health(docker_name(machine.state(arn).spec, "app"), Health.HEALTHY)
            await asyncio.sleep(1)
            machine.backend.ask_to_stop(arn)
            await machine.until_told(arn, STOPPED, within=60)

    jumping.run(story())


def test_a_task_that_is_to_stop_before_it_ever_was_here_is_told_stopped_and_never_begun(
    jumping: JumpingTime,
) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        spec = a_spec()
        machine.run_task(spec)
        machine.backend.ask_to_stop(spec.arn)
        async with machine.agent():
            await machine.until_told(spec.arn, STOPPED, within=60)
            assert machine.runtime.count("ensure_pause_started") == 0
            assert machine.runtime.count("pull_image") == 0

    jumping.run(story())


def test_a_task_that_is_to_stop_and_whose_record_is_lost_is_stopped_and_not_forgotten(
    jumping: JumpingTime,
) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        spec = a_spec()
        async with machine.agent():
            await machine.until_told(machine.run_task(spec), RUNNING)
        machine.checkpoints.put_raw(f"{spec.task_id}.json", b"rubbish")
        machine.backend.ask_to_stop(spec.arn)
        async with machine.agent():
            await machine.until_told(spec.arn, STOPPED, within=60)
            assert not machine.runtime.running

    jumping.run(story())


def test_a_leftover_that_cannot_be_stopped_does_not_keep_the_others(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        specs = [a_spec(number=number) for number in (1, 2)]
        async with machine.agent():
            for spec in specs:
                await machine.until_told(machine.run_task(spec), RUNNING)
        for spec in specs:
            machine.checkpoints.put_raw(f"{spec.task_id}.json", b"rubbish")
            machine.backend.hidden.add(spec.arn)
        machine.backend.announce()
        machine.runtime.fail_next("ensure_stopped", CannotStopContainer("it does not end"))
        async with machine.agent():
            await asyncio.sleep(60)
            kept, gone = specs
            assert machine.runtime.running == {docker_name(kept, "app"), pause_name(kept)}
            assert docker_name(gone, "app") not in machine.runtime.containers
            await machine.until(lambda: machine.runtime.is_clean, within=1200)

    jumping.run(story())


def test_a_container_of_the_operator_with_the_labels_of_a_task_is_left_alone(jumping: JumpingTime) -> None:
    """An image that was committed from a task's container hands its labels on."""

    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        spec = a_spec()
        async with machine.agent():
            await machine.until_told(machine.run_task(spec), RUNNING)
            machine.runtime.copy(docker_name(spec, "app"), "wonderful_curie")
            machine.backend.ask_to_stop(spec.arn)
            await machine.until(lambda: machine.node.by_arn(spec.arn) is None, within=4 * 3600)
            await asyncio.sleep(1200)
            assert machine.runtime.running == {"wonderful_curie"}

    jumping.run(story())
