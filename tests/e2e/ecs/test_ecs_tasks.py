"""The main job in a cluster: tasks as the control plane sends them, and every message on the wire."""

import re
from typing import Any

import pytest

from tests.e2e.agent_process import eventually
from tests.e2e.ecs.cluster import Cluster, EcsAgent, a_task, address, job, web
from tests.e2e.inside import Containers, Network, open_file_limits
from tests.fakes.ecs.control_plane import ControlPlane
from tests.fakes.ecs.links import EniLinks
from tests.fakes.ecs.replay import example, same_shape
from tests.fakes.ecs.truth import TaskRecord

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

FOREVER = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


def network_of(cluster: Cluster, containers: Containers, task: TaskRecord) -> Network:
    name = next(iter(task.containers))
    return Network(containers.pid(cluster.runtime_id(task, name)))


def test_everything_about_a_task_goes_over_the_wire_in_the_recorded_order_and_shape(
    agent: EcsAgent, cluster: Cluster, control: ControlPlane, enis: EniLinks, containers: Containers
) -> None:
    task = control.new_task(a_task(job(FOREVER)), enis.plan())
    announced = control.attach(task.arn)
    control.wait_acked(announced)
    assert task.history == [], "the interface is not here yet"
    enis.appear(task.enis[0])
    control.wait_attached(task.arn)
    assert not containers.of(task.arn), "the task itself has not been sent yet"
    payload = control.send_payload(task)
    control.wait_status(task.arn, "RUNNING")
    control.wait_acked(payload)
    running = containers.docker.inspect_container(cluster.runtime_id(task))
    stop = control.stop_task(task.arn, wait=True)
    control.wait_acked(stop)

    acks = control.messages("acs", direction="in")
    of_task = [each for each in acks if each.body["messageId"] in (announced, payload, stop)]
    told = [(at, "SubmitTaskStateChange", body) for at, body in task.history]
    happened = sorted([*((each.at, each.type, each.body) for each in of_task), *told], key=lambda one: one[0])
    kinds = [kind for _, kind, _ in happened]
    assert kinds[:2] == ["AckRequest", "SubmitTaskStateChange"]
    assert sorted(kinds[2:4]) == ["AckRequest", "IAMRoleCredentialsAckRequest"]
    assert kinds[4:] == ["SubmitTaskStateChange", "AckRequest", "SubmitTaskStateChange"]
    attached, runs, stopped = (body for _, body in task.history)
    assert [each["status"] for each in attached["attachments"]] == ["ATTACHED"]
    assert runs["containers"] == [{"containerName": "app", "runtimeId": running["Id"], "status": "RUNNING"}]
    assert stopped["containers"] == [
        {"containerName": "app", "runtimeId": running["Id"], "status": "STOPPED", "exitCode": 0}
    ]
    assert "pullStartedAt" not in runs, "the image was here already"
    assert same_shape(attached, submitted(attachments=True)) == []
    assert same_shape(runs, submitted(status="RUNNING")) == []
    assert same_shape(stopped, submitted(status="STOPPED")) == []
    for each in acks:
        assert same_shape(each.body, example(each.type, direction="in").body) == []


def submitted(*, attachments: bool = False, **members: Any) -> Any:
    number = 0
    while True:
        body = example("SubmitTaskStateChange", direction="in", number=number, **members).body
        if ("attachments" in body) == attachments:
            return body
        number += 1


def test_containers_of_a_task_start_in_order_and_talk_over_localhost(
    cluster: Cluster, containers: Containers
) -> None:
    healthy = {
        "Healthcheck": {
            "Test": ["CMD", "wget", "-q", "-O-", "http://127.0.0.1/"],
            "Interval": 1_000_000_000,
            "Timeout": 1_000_000_000,
            "Retries": 3,
        }
    }
    task = cluster.run(
        a_task(
            job(
                f"wget -q -O /tmp/page http://127.0.0.1/ || exit 3; {FOREVER}",
                depends_on={"setup": "SUCCESS", "web": "HEALTHY"},
            ),
            web(config=healthy, more={"healthCheckType": "docker"}),
            job(
                "echo ready > /state/done", "setup", is_essential=False, mounts=(("state", "/state", False),)
            ),
            host_volumes={"state": None},
        )
    )
    setup = task.containers["setup"]
    assert (setup.status, setup.exit_code) == ("STOPPED", 0)
    inspected = {
        name: containers.docker.inspect_container(cluster.runtime_id(task, name))
        for name in ("setup", "web", "app")
    }
    assert inspected["setup"]["State"]["FinishedAt"] < inspected["app"]["State"]["StartedAt"]
    assert inspected["web"]["State"]["StartedAt"] < inspected["app"]["State"]["StartedAt"]
    assert inspected["web"]["State"]["Health"]["Status"] == "healthy"
    assert "berth" in containers.run(inspected["app"]["Id"], "cat /tmp/page").text


def test_tasks_of_one_payload_share_a_port_number_and_reach_each_other_over_the_vpc(
    cluster: Cluster, control: ControlPlane, enis: EniLinks, containers: Containers
) -> None:
    sent = len(control.messages("acs", "PayloadMessage", "out"))
    tasks = cluster.run_all([a_task(web(ports=(80,)))] * 3, in_one_payload=True)

    assert len(control.messages("acs", "PayloadMessage", "out")) == sent + 1
    assert len({address(task) for task in tasks}) == 3
    asks = [network_of(cluster, containers, task) for task in tasks]
    for number, network in enumerate(asks):
        page = network.page(f"http://{address(tasks[number - 1])}/")
        assert (page.code, "berth" in page.text) == (200, True), page
        (mac,) = [each.mac for each in tasks[number].enis]
        assert mac in network.run("busybox", "ip", "-o", "link").text
    assert enis.ping(address(tasks[0]))
    with enis.connect(address(tasks[1]), 80) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200")


def test_the_credentials_of_the_machine_are_out_of_reach_of_tasks(
    cluster: Cluster, containers: Containers
) -> None:
    network = network_of(cluster, containers, cluster.run(a_task(web())))

    for host in ("169.254.169.254", "[fd00:ec2::254]"):
        assert network.fetch(f"http://{host}/latest/meta-data/", seconds=2).code == 0
    port = cluster.metadata.url.rpartition(":")[2]
    for host in ("169.254.170.2", "169.254.172.1", "127.0.0.1"):
        assert network.fetch(f"http://{host}:{port}/latest/meta-data/", seconds=2).code == 0


def test_docker_options_of_a_payload_lie_over_a_container(cluster: Cluster, containers: Containers) -> None:
    task = cluster.run(
        a_task(
            job(
                "exit 3",
                config={"User": "1234:1234", "Labels": {"team": "e2e"}},
                host_config={
                    "Ulimits": [{"Name": "nofile", "Soft": 512, "Hard": 1024}],
                    "Tmpfs": {"/scratch": "size=1m"},
                    "ReadonlyRootfs": True,
                    "CapDrop": ["NET_RAW"],
                },
                command_override=("-c", FOREVER),
                entry_point=("sh",),
                environment={"GREETING": "a b=c"},
            )
        )
    )
    container = cluster.runtime_id(task)
    script = "id -u; stat -f -c %T /scratch; echo $GREETING; touch /new 2>/dev/null || echo no"
    said = containers.run(container, script).text.splitlines()
    assert [said[0], said[1], said[2], said[-1]] == ["1234", "tmpfs", "a b=c", "no"]
    assert open_file_limits(containers.pid(container)) == ["512", "1024"]
    inspected = containers.docker.inspect_container(container)
    assert inspected["Config"]["Labels"]["team"] == "e2e"
    assert inspected["Config"]["Labels"]["com.amazonaws.ecs.task-arn"] == task.arn
    assert inspected["HostConfig"]["CapDrop"] == ["NET_RAW"]
    assert inspected["HostConfig"]["NetworkMode"].startswith("container:"), "the network is not the payload's"


def test_what_is_not_supported_is_refused_by_name_and_the_rest_of_the_payload_runs(
    cluster: Cluster, control: ControlPlane
) -> None:
    good, bad = (cluster.announce(a_task(web())) for _ in range(2))
    for task in (good, bad):
        control.wait_attached(task.arn)
    document = dict(control.truth.payload_of(bad, "RUNNING"), networkMode="bridge")
    cluster.refused.add(control.send_payload(good, document))

    control.wait_status(bad.arn, "STOPPED")
    assert bad.reason.startswith("UnrecogniedTaskError: Error loading task - ")
    assert "network mode bridge" in bad.reason
    control.wait_status(good.arn, "RUNNING")


def test_people_on_the_machine_see_the_task(agent: EcsAgent, cluster: Cluster, control: ControlPlane) -> None:
    task = cluster.run(a_task(job(f"echo hello from $HOSTNAME; {FOREVER}")))
    short = task.arn.rpartition("/")[2][:12]

    (shown,) = [each for each in agent.get("/v1/tasks")[1]["Tasks"] if each["Arn"] == task.arn]
    assert (shown["KnownStatus"], shown["Family"], shown["Version"]) == ("RUNNING", "fkone", "1")
    assert [each["DockerId"] for each in shown["Containers"]] == [cluster.runtime_id(task)]
    status, health = agent.get("/health")
    assert (status, health["status"]) == (200, "OK")
    assert {each["name"]: each["state"] for each in health["channels"]} == {
        "control": "connected",
        "telemetry": "connected",
    }
    told = agent.berth("status")
    instance = control.instance
    assert instance is not None
    assert instance.arn in told
    assert re.search(r"control channel: connected", told)
    assert "RUNNING" in agent.berth("explain", short)
    assert "hello from" in agent.berth("logs", short)
    assert short in agent.berth("ps", "--status", "RUNNING", "-q")
    assert "was started" in agent.berth("describe", short)
    # the kernel takes away the link of a task that is gone a moment after it
    eventually("nothing is left", lambda: agent.command("berth", "leaks").returncode == 0, seconds=5)


@pytest.mark.parametrize("words", [("env",), ("stop", "0123456789ab"), ("run", "web:1")])
def test_commands_of_the_api_say_whose_it_is(agent: EcsAgent, words: tuple[str, ...]) -> None:
    done = agent.command("berth", *words)

    assert done.returncode not in (0, 4), "it runs"
    assert "Traceback" not in done.stderr
    assert "whose control plane decides what runs" in done.stderr
    assert agent.cluster in done.stderr
