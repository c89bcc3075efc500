"""Telemetry over the real channel with real signatures, judged by the stand-in control plane."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import aiohttp

from agent.adapters.clock import SystemClock
from agent.adapters.ecs import tcs
from agent.adapters.ecs.channel import Channel
from agent.adapters.ecs.channel_times import TELEMETRY_TIMES
from agent.adapters.ecs.keys import Keys
from agent.adapters.ecs.signing import Signer
from agent.adapters.ecs.wire.telemetry import Instance, telemetry_url
from agent.endpoints.health import HealthBoard
from agent.model.ids import ContainerId, TaskArn
from agent.model.spec import HealthCheck
from agent.model.state import Attachment
from agent.model.status import ContainerStatus, Health, SandboxStatus
from agent.model.usage import LinkUsage, Usage
from agent.ports.usage import UsageSubject
from tests.builders import a_container, a_task
from tests.contracts.ecs_client import Client
from tests.fakes.directory import FakeDirectory
from tests.fakes.ecs.control_plane import ControlPlane
from tests.fakes.ecs.tasks import Eni, one_container


class GivenKeys:
    def __init__(self, control: ControlPlane) -> None:
        given = control.instance_keys
        self._keys = Keys(given.access_key_id, given.secret_access_key, given.token or "")

    async def current(self) -> Keys:
        return self._keys

    def invalidate(self) -> None:
        raise AssertionError("these keys are good")


class Counting:
    """Every look finds a little more."""

    def __init__(self) -> None:
        self.count = 0

    async def read(self, subjects: Sequence[UsageSubject]) -> tuple[Usage | None, ...]:
        self.count += 1
        link = LinkUsage(*[self.count] * 8)
        return tuple(
            Usage(self.count, self.count, 5 << 20, 0, self.count, link if each.link else None)
            for each in subjects
        )


async def well() -> bool:
    return True


async def test_a_session_in_which_every_frame_is_signed_shaped_and_acknowledged(monkeypatch):
    monkeypatch.setattr(tcs, "PUBLISH_PERIOD", 0.3)
    monkeypatch.setattr(tcs, "SAMPLE_PERIOD", 0.02)
    clock = SystemClock()
    with ControlPlane(tls=False) as control:
        client = Client(control)
        await client.register()
        instance = Instance("berth-test", client.arn)
        directory = FakeDirectory()
        signer = Signer(GivenKeys(control), "us-west-2", clock)
        telemetry = tcs.Telemetry(
            directory=directory,
            probe=Counting(),
            signer=signer,
            instance=lambda: instance,
            clock=clock,
            is_runtime_well=well,
            cores=2,
            settings=tcs.TelemetrySettings(),
        )

        async def url() -> str:
            return telemetry_url(
                f"{control.url}/tcs/",
                instance,
                agent_version="1.2.3",
                agent_hash="0a1b2c3d",
                docker_version="20.10.24+dfsg1",
            )

        async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
            channel = Channel(
                "tcs",
                url=url,
                signer=signer,
                http=http,
                converse=telemetry.converse,
                on_inactive=lambda: None,
                times=TELEMETRY_TIMES,
                clock=clock,
                health=HealthBoard(clock),
            )
            running = [group.create_task(channel.run()), group.create_task(telemetry.sample())]
            try:
                await control.eventually(lambda: control.messages("tcs", "PublishMetricsRequest"))
                directory.put(a_running_task(control))
                telemetry.note_heartbeat()
                for kind in ("PublishInstanceStatusRequest", "PublishHealthRequest"):
                    await control.eventually(lambda kind=kind: control.messages("tcs", kind))
                await control.eventually(lambda: with_tasks(control))
                await control.eventually(lambda: len(acknowledgements(control)) >= 4)
                last_heard = channel.status().last_message_at
            finally:
                for each in running:
                    each.cancel()
        assert control.problems() == []
        first = control.messages("tcs", "PublishMetricsRequest")[0]
        assert first.body["metadata"]["idle"]
        names = [
            each["containerName"] for each in with_tasks(control)[0]["taskMetrics"][0]["containerMetrics"]
        ]
        assert names == ["app", "~internal~ecs~pause"]
        assert not any(each.is_binary for each in control.messages("tcs"))
        assert last_heard is not None
        assert clock.now() - last_heard < timedelta(seconds=10)


def a_running_task(control: ControlPlane):
    arn = control.new_task(one_container("example/app:1"), Eni("0a:77:00:01:00:00", "10.77.1.0")).arn
    task = a_task(replace(a_container("app"), health_check=HealthCheck(("CMD", "true"))))
    now = SystemClock().now()
    [app] = task.containers
    app = replace(
        app,
        status=ContainerStatus.RUNNING,
        container_id=ContainerId("app"),
        pid=2,
        started_at=now,
        health=Health.HEALTHY,
        health_since=now,
    )
    sandbox = replace(
        task.sandbox,
        status=SandboxStatus.CONNECTED,
        container_id=ContainerId("pause"),
        pid=1,
        attachment=Attachment("169.254.172.2"),
    )
    return replace(task, spec=replace(task.spec, arn=TaskArn(arn)), sandbox=sandbox, containers=(app,))


def with_tasks(control: ControlPlane):
    told = [each.body for each in control.messages("tcs", "PublishMetricsRequest")]
    return [each for each in told if each.get("taskMetrics")]


def acknowledgements(control: ControlPlane):
    sent = control.messages("tcs", direction="out")
    return [each for each in sent if each.type.startswith("Ack")]
