"""The whole client against the stand-in control plane, over TLS: it checks signatures, headers and fields itself."""

from contextlib import asynccontextmanager

import aiohttp
import pytest

from agent.adapters.clock import SystemClock
from agent.adapters.ecs.api import EcsApi
from agent.adapters.ecs.endpoint import endpoint_url, tls_context, user_agent
from agent.adapters.ecs.keys import InstanceKeys
from agent.adapters.ecs.poll import PollEndpoints
from agent.adapters.ecs.registering import register
from agent.adapters.ecs.signing import Signer
from agent.adapters.ecs.wire.capabilities import Abilities, capabilities
from agent.adapters.ecs.wire.registration import InstanceFacts
from tests.fakes.ecs.control_plane import ControlPlane


@pytest.fixture
def control():
    with ControlPlane() as plane:
        yield plane


@asynccontextmanager
async def client(control, monkeypatch, tmp_path):
    for name, value in control.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    region, clock = control.names.region, SystemClock()
    signer = Signer(InstanceKeys(clock, region=region), region, clock)
    connector = aiohttp.TCPConnector(ssl=tls_context(verify=False))
    async with aiohttp.ClientSession(connector=connector) as http:
        yield EcsApi(
            endpoint=endpoint_url(control.host, region), region=region, signer=signer, http=http,
            user_agent=user_agent("0.1.0", "0123abcd", "LINUX"), pause=lambda _: 0.0,
        )  # fmt: skip


async def joined(control, api):
    facts = InstanceFacts(
        cluster=control.names.cluster,
        client_token="12cbbbe7-dbbf-4cba-974b-60a9bd79c5d4",
        cpu_units=2048,
        total_memory=24105,
    )
    return await register(api, facts, capabilities(Abilities((1, 24), (1, 41), cni_version="eb1fbff-0.1.0")))


async def test_joining_a_cluster_and_finding_its_channels(control, monkeypatch, tmp_path) -> None:
    async with client(control, monkeypatch, tmp_path) as api:
        registered = await joined(control, api)
        assert registered.arn == control.instance.arn
        found = await PollEndpoints(api, control.names.cluster, SystemClock()).get(registered.arn)
        assert found.control.startswith(control.url)
        assert found.for_telemetry().startswith(control.url)
    assert control.problems() == []


async def test_a_control_plane_an_hour_ahead_is_joined(control, monkeypatch, tmp_path) -> None:
    control.skew_s = 3600
    async with client(control, monkeypatch, tmp_path) as api:
        assert (await joined(control, api)).arn


async def test_keys_that_have_expired_are_replaced_from_the_chain(control, monkeypatch, tmp_path) -> None:
    async with client(control, monkeypatch, tmp_path) as api:
        await joined(control, api)
        control.rotate_keys(expire_old=True)
        for name, value in control.environment().items():
            monkeypatch.setenv(name, value)
        assert (await joined(control, api)).arn
