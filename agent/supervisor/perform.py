"""How each step is done: one or two calls on a port. What to do is decided elsewhere."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from agent.lifecycle.images import may_use_cached, must_look_first, must_pull
from agent.lifecycle.table import stop_grace
from agent.model.errors import CannotPullImage, ContainerVanished
from agent.model.events import Learned
from agent.model.ids import ContainerId
from agent.model.observation import PulledImage
from agent.model.spec import ContainerSpec
from agent.model.state import TaskState
from agent.model.steps import Step, StepName
from agent.ports.credentials import CredentialsProvider, RegistryLogins
from agent.ports.network import NetworkProvider, SandboxRef
from agent.ports.pulls import PullRecord
from agent.ports.runtime import ContainerPlan, ContainerRuntime, PausePlan


@dataclass(frozen=True, slots=True)
class Performer:
    """The ports that steps are performed on."""

    runtime: ContainerRuntime
    network: NetworkProvider
    credentials: CredentialsProvider
    logins: RegistryLogins
    pulls: PullRecord

    async def perform(self, task: TaskState, step: Step) -> Learned:
        """Do it, and return what was learned.

        Raise ``StepError``, ``PortUnavailable``, or ``CheckpointFailed`` if the pull cannot be remembered.
        """
        return await _STEPS[step.name](self, task, step)


async def _start_pause(ports: Performer, task: TaskState, _: Step) -> Learned:
    return await ports.runtime.ensure_pause_started(PausePlan(task.spec, task.sandbox.docker_name))


async def _attach_network(ports: Performer, task: TaskState, _: Step) -> Learned:
    return await ports.network.attach(_sandbox(task), task.spec.network)


async def _detach_network(ports: Performer, task: TaskState, _: Step) -> Learned:
    await ports.network.detach(_sandbox(task), task.spec.network)
    return None


async def _stop_pause(ports: Performer, task: TaskState, _: Step) -> Learned:
    grace = stop_grace(task.policy, None)
    await ports.runtime.ensure_stopped(task.sandbox.docker_name, grace)
    await ports.credentials.forget(task.arn)
    return None


async def _remove_pause(ports: Performer, task: TaskState, _: Step) -> Learned:
    await ports.runtime.ensure_sandbox_removed(task.spec, task.sandbox.docker_name)
    return None


async def _pull_image(ports: Performer, task: TaskState, step: Step) -> Learned:
    container = _spec(task, step)
    behavior = task.spec.pull_behavior
    present: PulledImage | None = None
    was_pulled_before = False
    if must_look_first(behavior):
        present = await ports.runtime.find_image(container.image)
        was_pulled_before = await ports.pulls.contains(container.image)
    if not must_pull(behavior, is_present=present is not None, was_pulled_before=was_pulled_before):
        return replace(present or PulledImage(image_id=""), was_fetched=False)
    try:
        # A login that is refused is not asked for again: its error says so by being a failed pull.
        login = await ports.logins.login(task.spec, container)
        pulled = await ports.runtime.pull_image(container.image, login)
    except CannotPullImage:
        cached = await ports.runtime.find_image(container.image) if may_use_cached(behavior) else None
        if cached is None:
            raise
        return cached
    await ports.pulls.add(container.image)
    return pulled


async def _create_container(ports: Performer, task: TaskState, step: Step) -> Learned:
    container = task.container(step.container or "")
    plan = ContainerPlan(task.spec, _spec(task, step), container.docker_name, _pause_id(task))
    return await ports.runtime.ensure_created(plan)


async def _start_container(ports: Performer, task: TaskState, step: Step) -> Learned:
    return await ports.runtime.ensure_started(task.container(step.container or "").docker_name)


async def _stop_container(ports: Performer, task: TaskState, step: Step) -> Learned:
    grace = stop_grace(task.policy, _spec(task, step))
    return await ports.runtime.ensure_stopped(task.container(step.container or "").docker_name, grace)


async def _remove_container(ports: Performer, task: TaskState, step: Step) -> Learned:
    await ports.runtime.ensure_removed(task.container(step.container or "").docker_name)
    return None


_STEPS: dict[StepName, Callable[[Performer, TaskState, Step], Awaitable[Learned]]] = {
    StepName.START_PAUSE: _start_pause,
    StepName.ATTACH_NETWORK: _attach_network,
    StepName.DETACH_NETWORK: _detach_network,
    StepName.STOP_PAUSE: _stop_pause,
    StepName.REMOVE_PAUSE: _remove_pause,
    StepName.PULL_IMAGE: _pull_image,
    StepName.CREATE_CONTAINER: _create_container,
    StepName.START_CONTAINER: _start_container,
    StepName.STOP_CONTAINER: _stop_container,
    StepName.REMOVE_CONTAINER: _remove_container,
}


def _spec(task: TaskState, step: Step) -> ContainerSpec:
    return task.spec.container(step.container or "")


def _pause_id(task: TaskState) -> ContainerId:
    if task.sandbox.container_id is None:
        raise ContainerVanished("the task's pause container is not known")
    return task.sandbox.container_id


def _sandbox(task: TaskState) -> SandboxRef:
    return SandboxRef(_pause_id(task), task.sandbox.pid)
