"""The agent of a cluster dies in every phase and comes back: the same instance, each task once, told once."""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest

from tests.e2e.agent_process import Untrue, eventually
from tests.e2e.ecs.cluster import Cluster, EcsAgent, a_task, address, job, web
from tests.e2e.ecs.conftest import connected
from tests.e2e.inside import Containers, Network, environment_of
from tests.e2e.streams import ECHOES, PORT, Stream
from tests.fakes.ecs.control_plane import ControlPlane
from tests.fakes.ecs.faults import server_error
from tests.fakes.ecs.links import EniLinks
from tests.fakes.ecs.truth import TaskRecord

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SUBMIT = "SubmitTaskStateChange"
LEAVES = "trap 'exit 5' TERM; while :; do sleep 0.05; done"


def restart(agent: EcsAgent, cluster: Cluster) -> None:
    """Start it again; it registers as the instance that it was, and asks for all credentials again."""
    control = cluster.control
    instance = control.instance
    assert instance is not None
    before = instance.registrations
    connected(agent, cluster)
    found = control.wait_for_registration(before + 1)
    assert found.arn == instance.arn
    assert control.calls("RegisterContainerInstance")[-1].body["containerInstanceArn"] == instance.arn
    shake = control.wait_connected()
    assert (shake.query["containerInstanceArn"], shake.query["sendCredentials"]) == (instance.arn, "true")


def killed_and_back(agent: EcsAgent, cluster: Cluster) -> None:
    """``kill -9``, and a new process."""
    agent.kill()
    restart(agent, cluster)


def is_there_once(containers: Containers, task: TaskRecord) -> None:
    """One sandbox, and one container of each name; all of it runs."""
    assert task.plan is not None
    found = containers.of(task.arn)
    assert len(found) == 1 + len(task.plan.containers), [each["Name"] for each in found]
    assert containers.pause_of(task.arn)["State"]["Running"]
    assert all(each["State"]["Running"] for each in found)


def news(task: TaskRecord) -> list[str]:
    """What was told of the task. An agent that is killed may not know that it was heard, and say the same again."""
    return list(dict.fromkeys(json.dumps(body, sort_keys=True) for _, body in task.history))


def attached_reports(control: ControlPlane, task: TaskRecord) -> int:
    """How often ATTACHED was told of the task, and accepted."""
    return sum(
        1
        for call in control.calls(SUBMIT)
        if call.body["task"] == task.arn and "attachments" in call.body and call.status == 200
    )


def wait_told(agent: EcsAgent, task: TaskRecord) -> None:
    """Until it is on record that ATTACHED was accepted; killed before that, an agent can only tell it again."""
    (mac,) = [eni.mac for eni in task.enis]
    eventually("on record", lambda: [e for e in agent.said("attachment.told") if e["mac_address"] == mac])


def was_told_in_order(control: ControlPlane, task: TaskRecord) -> None:
    """Statuses only rise, and each is told once (containers' news may repeat the task's)."""
    told = [each["status"] for each in task.reports]
    order = ["PENDING", "RUNNING", "STOPPED"]
    assert all(order.index(one) <= order.index(next_) for one, next_ in pairwise(told)), told
    assert told.count("STOPPED") <= 1
    assert attached_reports(control, task) == 1


# -- starting ----------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["before the kill", "while it is dead", "after the restart"])
def test_an_announced_interface_is_told_once_whenever_its_device_comes(
    agent: EcsAgent, cluster: Cluster, enis: EniLinks, containers: Containers, device: str
) -> None:
    control = cluster.control
    task = control.new_task(a_task(web()), enis.plan())
    control.wait_acked(control.attach(task.arn))
    if device == "before the kill":
        enis.appear(task.enis[0])
        control.wait_attached(task.arn)
        wait_told(agent, task)
    agent.kill()
    if device == "while it is dead":
        enis.appear(task.enis[0])
    restart(agent, cluster)
    if device == "after the restart":
        enis.appear(task.enis[0])
    control.wait_attached(task.arn)
    control.send_payload(task)
    control.wait_status(task.arn, "RUNNING")

    is_there_once(containers, task)
    wait_told(agent, task)
    killed_and_back(agent, cluster)
    control.heartbeat()
    assert attached_reports(control, task) == 1


@pytest.mark.parametrize("rung", ["acknowledged", "CONNECTED", "PULLED", "CREATED", "app RUNNING"])
def test_a_launch_that_is_cut_off_is_finished_once(
    agent: EcsAgent, cluster: Cluster, containers: Containers, rung: str
) -> None:
    control = cluster.control
    second = web("app", depends_on={"first": "START"})
    task = cluster.announce(a_task(job(LEAVES, name="first"), second))
    control.wait_attached(task.arn)
    wait_told(agent, task)
    payload = control.send_payload(task)
    if rung == "acknowledged":
        control.wait_acked(payload)
    else:
        _wait_for_rung(agent, task.arn, rung)
    killed_and_back(agent, cluster)

    control.wait_acked(payload)
    control.wait_status(task.arn, "RUNNING")
    control.wait_for(lambda: len(task.containers) == 2, what="both containers reported")
    is_there_once(containers, task)
    was_told_in_order(control, task)


# -- running -----------------------------------------------------------------------------------


def test_running_tasks_and_their_connections_do_not_notice_kills(
    agent: EcsAgent, cluster: Cluster, enis: EniLinks, containers: Containers
) -> None:
    tasks = cluster.run_all([a_task(job(ECHOES))] * 3)
    arns = [task.arn for task in tasks]
    identities = containers.identities(arns)
    assert len(identities) == 6
    streams = [Stream(address(task)) for task in tasks]
    reports = [news(task) for task in tasks]
    try:
        for stream in streams:
            stream.start(partial(enis.connect, stream.address, PORT, 5))
        for number in range(4):
            time.sleep(0.15 * number)
            killed_and_back(agent, cluster)
        eventually(
            "the agent knows that all of it runs",
            lambda: all((agent.inner(arn) or {}).get("status") == "RUNNING" for arn in arns),
        )
        echoes = [stream.echoes for stream in streams]
        time.sleep(0.5)
        assert all(stream.echoes > before for stream, before in zip(streams, echoes, strict=True))
    finally:
        for stream in streams:
            stream.stop()
    assert [stream.problem for stream in streams] == [""] * 3
    assert containers.identities(arns) == identities
    assert [news(task) for task in tasks] == reports


def test_an_agent_that_is_told_to_end_ends_well_and_its_tasks_run_on(
    agent: EcsAgent, cluster: Cluster, enis: EniLinks, containers: Containers
) -> None:
    tasks = cluster.run_all([a_task(job(ECHOES))] * 2)
    arns = [task.arn for task in tasks]
    identities = containers.identities(arns)
    stream = Stream(address(tasks[0]))
    stream.start(partial(enis.connect, stream.address, PORT, 5))
    try:
        assert agent.stop() == 0
        before = stream.echoes
        eventually("the connection lives without an agent", lambda: stream.echoes > before + 3)
        restart(agent, cluster)
    finally:
        stream.stop()
    assert stream.problem == ""
    assert containers.identities(arns) == identities
    assert [task.status for task in tasks] == ["RUNNING"] * 2


def test_credentials_are_not_there_after_a_restart_until_they_are_sent_again(
    agent: EcsAgent, cluster: Cluster, containers: Containers
) -> None:
    control = cluster.control
    task = cluster.run(a_task(web()))
    pid = containers.pid(cluster.runtime_id(task))
    path = environment_of(pid)["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"]

    def asked() -> tuple[int, str | None, dict[str, str]]:
        return _fetch(Network(pid), f"http://169.254.170.2{path}")

    status, _, first = asked()
    assert (status, first["AccessKeyId"]) == (200, task.credentials["TaskApplication"].access_key_id)
    control.acs.side.hold()
    try:
        killed_and_back(agent, cluster)
        status, retry_after, refusal = asked()
        assert status == 503, refusal
        assert retry_after is not None
        assert int(retry_after) > 0
        assert refusal["code"] == "CredentialsUninitialized"
    finally:
        control.acs.side.release()
    (shake,) = control.handshakes("acs")[-1:]
    eventually("the credentials are there again", lambda: asked()[0] == 200, seconds=10)
    assert asked()[2]["AccessKeyId"] == first["AccessKeyId"]

    # From the second connection of a process on nothing is asked for.
    control.acs.side.close(1000, "the test closes")
    control.wait_for(lambda: control.handshakes("acs")[-1] is not shake, what="another handshake")
    assert control.wait_connected().query["sendCredentials"] == "false"
    assert asked()[0] == 200


# -- ending ------------------------------------------------------------------------------------


def _ordered(agent: EcsAgent, control: ControlPlane, task: TaskRecord) -> None:
    control.wait_acked(control.stop_task(task.arn))


def _half_way(agent: EcsAgent, control: ControlPlane, task: TaskRecord) -> None:
    control.stop_task(task.arn)
    _wait_for_rung(agent, task.arn, "DISCONNECTED")


def _not_accepted(agent: EcsAgent, control: ControlPlane, task: TaskRecord) -> None:
    seen = len(control.calls(SUBMIT))
    control.faults.plan(SUBMIT, server_error(), times=None)
    control.stop_task(task.arn)
    ends = ("STOPPED",)
    control.wait_for(
        lambda: any(call.body.get("status") in ends for call in control.calls(SUBMIT)[seen:]),
        what="an attempt to report STOPPED",
    )


@pytest.mark.parametrize("phase", [_ordered, _half_way, _not_accepted])
def test_a_stop_that_is_cut_off_is_finished_and_told_once(
    agent: EcsAgent,
    cluster: Cluster,
    containers: Containers,
    phase: Callable[[EcsAgent, ControlPlane, TaskRecord], None],
) -> None:
    control = cluster.control
    task = cluster.run(a_task(job("trap 'sleep 0.3; exit 5' TERM; while :; do sleep 0.05; done")))
    try:
        phase(agent, control, task)
        agent.kill()
    finally:
        control.faults.heal()
    restart(agent, cluster)

    control.wait_status(task.arn, "STOPPED")
    assert task.containers["app"].exit_code == 5
    assert not [each for each in containers.of(task.arn) if each["State"]["Running"]]
    agent.wait_forgotten(task.arn)
    assert containers.of(task.arn) == []
    was_told_in_order(control, task)


def test_what_happened_while_there_was_no_agent_is_made_up_for(
    agent: EcsAgent, cluster: Cluster, containers: Containers
) -> None:
    control = cluster.control
    leaving = cluster.run(a_task(job("sleep 0.7; exit 11")))
    stopping, staying = cluster.run_all([a_task(job(LEAVES)), a_task(web())])
    identities = containers.identities([staying.arn])
    agent.kill()
    control.stop_task(stopping.arn)
    started = cluster.announce(a_task(web()))
    eventually(
        "the container has ended",
        lambda: not containers.docker.inspect_container(cluster.runtime_id(leaving))["State"]["Running"],
    )
    restart(agent, cluster)

    control.wait_status(leaving.arn, "STOPPED")
    control.wait_status(stopping.arn, "STOPPED")
    assert leaving.containers["app"].exit_code == 11
    assert stopping.containers["app"].exit_code == 5
    control.wait_attached(started.arn)
    control.send_payload(started)
    control.wait_status(started.arn, "RUNNING")
    assert containers.identities([staying.arn]) == identities


# -- how to look -------------------------------------------------------------------------------

_SANDBOX = ["ABSENT", "PAUSED", "CONNECTED", "DISCONNECTED", "STOPPED", "REMOVED"]
_CONTAINER = ["PENDING", "PULLED", "CREATED", "RUNNING", "STOPPED", "REMOVED"]


def _wait_for_rung(agent: EcsAgent, arn: str, rung: str) -> None:
    """Return as soon as the task has got so far, or further: it may climb faster than one can look."""
    name, _, status = rung.rpartition(" ")
    until = time.monotonic() + 20
    while time.monotonic() < until:
        inner = agent.inner(arn)
        if inner is None:
            continue
        if status in _SANDBOX[:4]:
            reached = [_SANDBOX.index(inner["sandbox"]["status"]) >= _SANDBOX.index(status)]
        else:
            reached = [
                _CONTAINER.index(each["status"]) >= _CONTAINER.index(status)
                for each in inner["containers"]
                if name in ("", each["name"])
            ]
        if any(reached):
            return
        time.sleep(0.001)
    raise Untrue(f"the task never was {rung}")


_ASK = """
import http.client, json, sys
from urllib.parse import urlsplit
url = urlsplit(sys.argv[1])
connection = http.client.HTTPConnection(url.hostname, timeout=5)
connection.request("GET", url.path)
answer = connection.getresponse()
print(json.dumps([answer.status, answer.getheader("Retry-After"), json.loads(answer.read())]))
"""


def _fetch(network: Network, url: str) -> tuple[int, str | None, dict[str, str]]:
    """Status, ``Retry-After`` and document of a GET from within the task."""
    done = network.run(sys.executable, "-I", "-S", "-c", _ASK, url)
    assert done.code == 0, done
    status, retry_after, document = json.loads(done.text)
    return status, retry_after, document
