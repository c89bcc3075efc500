"""The main job on a real machine: tasks with addresses of their own, containers that share one, real clients."""

import json
import subprocess

import pytest

from tests.e2e.agent_process import BIN, Agent, eventually
from tests.e2e.inside import Containers, Network, open_file_limits, parsed
from tests.e2e.task_definitions import DEFINITIONS, a_definition, a_job, definition

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def test_two_copies_of_one_task_serve_the_same_port_on_addresses_of_their_own(
    agent: Agent, containers: Containers
) -> None:
    first, second = agent.started_copies(definition("nginx-awsvpc"), 2)

    assert first.address != second.address
    for task in (first, second):
        (attachment,) = task.document["attachments"]
        assert attachment["type"] == "ElasticNetworkInterface"
        assert attachment["status"] == "ATTACHED"
        assert set(task.details) >= {"subnetId", "networkInterfaceId", "macAddress", "privateIPv4Address"}
        (interface,) = task.container("nginx")["networkInterfaces"]
        assert interface == {"attachmentId": attachment["id"], "privateIpv4Address": task.address}
    pages = [
        containers.network(first).page(f"http://{second.address}/"),
        containers.network(second).page(f"http://{first.address}/"),
    ]
    assert [page.code for page in pages] == [200, 200], pages
    assert all("berth" in page.text for page in pages)


def test_two_containers_of_a_task_talk_over_localhost_and_see_the_same_links(
    agent: Agent, containers: Containers
) -> None:
    task = agent.started(definition("web-and-api"))

    asks = 'until wget -q -O - "$API_URL/health"; do sleep 0.1; done'
    assert parsed(containers.run(task.runtime_id("web"), asks))["status"] == "ok"
    found = containers.of(task.arn)
    assert len(found) == 3, [each["Name"] for each in found]
    assert containers.pause_of(task.arn)["Config"]["Image"]
    (listing,) = {Network(each["State"]["Pid"]).run("busybox", "ip", "-o", "link").text for each in found}
    names = {line.split(": ")[1].split("@")[0] for line in listing.splitlines()}
    assert names == {"lo", "ecs-eth0", "eth0"}
    assert task.details["macAddress"] in listing
    assert "0a:58:" in listing


def test_an_init_container_ends_well_before_the_others_start_and_they_stop_in_reverse_order(
    agent: Agent, containers: Containers
) -> None:
    task = agent.started(definition("init-and-sidecar"), seconds=40)

    migrate = task.container("migrate")
    assert (migrate["lastStatus"], migrate["exitCode"]) == ("STOPPED", 0)
    assert task.container("proxy")["healthStatus"] == "HEALTHY"
    app = containers.docker.inspect_container(task.runtime_id("app"))
    proxy = containers.docker.inspect_container(task.runtime_id("proxy"))
    assert proxy["State"]["StartedAt"] < app["State"]["StartedAt"]
    assert containers.run(app["Id"], "cat /state/done").text == "migrated\n"
    assert containers.run(app["Id"], "echo no > /state/done").code != 0
    assert open_file_limits(app["State"]["Pid"]) == ["4096", "8192"]
    assert app["HostConfig"]["CapDrop"] == ["NET_RAW"]
    assert app["HostConfig"]["Init"] is True

    agent.stop_tasks([task.arn])
    agent.stopped(task.arn)
    ended = {name: agent.inner_container(task.arn, name)["finished_at"] for name in ("proxy", "app")}
    assert ended["app"] < ended["proxy"], ended


def test_the_aws_command_line_runs_and_stops_a_task_with_the_usual_commands(agent: Agent) -> None:
    keys = agent.aws_environment()

    def aws(*words: str) -> str:
        done = agent.command(str(BIN / "aws"), "ecs", *words, **keys)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    cluster = ("--cluster", agent.cluster)
    file = DEFINITIONS / "nginx-awsvpc.json"
    registered = json.loads(aws("register-task-definition", "--cli-input-json", f"file://{file}"))
    assert registered["taskDefinition"]["family"] == "nginx-awsvpc"
    network = f"awsvpcConfiguration={{subnets=[{agent.subnet()}],securityGroups=[sg-12345678]}}"
    ran = json.loads(
        aws("run-task", *cluster, "--network-configuration", network, "--task-definition", "nginx-awsvpc")
    )
    arn = ran["tasks"][0]["taskArn"]
    aws("wait", "tasks-running", *cluster, "--tasks", arn)
    (task,) = json.loads(aws("describe-tasks", *cluster, "--tasks", arn))["tasks"]
    assert task["lastStatus"] == "RUNNING"
    assert arn in json.loads(aws("list-tasks", *cluster))["taskArns"]
    aws("stop-task", *cluster, "--task", arn, "--reason", "enough")
    aws("wait", "tasks-stopped", *cluster, "--tasks", arn)
    (task,) = json.loads(aws("describe-tasks", *cluster, "--tasks", arn))["tasks"]
    assert (task["lastStatus"], task["stoppedReason"], task["stopCode"]) == (
        "STOPPED",
        "enough",
        "UserInitiated",
    )
    assert arn not in json.loads(aws("list-tasks", *cluster))["taskArns"]


def test_the_berth_command_says_everything_about_a_task_and_the_agent(agent: Agent) -> None:
    file = DEFINITIONS / "nginx-awsvpc.json"
    ran = json.loads(agent.berth("run", str(file), "--count", "2", "--wait", "--json"))
    arns = [task["taskArn"] for task in ran["tasks"]]
    task = agent.task(arns[0])

    assert task.id in agent.berth("ps")
    assert task.address in agent.berth("describe", task.id[:12])
    assert "listening on port 80" in agent.berth("logs", task.id)
    assert "RUNNING" in agent.berth("explain", task.id)
    assert str(agent.data) in agent.berth("config")
    assert "RUNNING" in agent.berth("status")
    assert agent.berth("version").startswith("berth ")
    assert "nothing is left" in agent.berth("leaks")
    assert "export AWS_ENDPOINT_URL_ECS=" in agent.berth("env")
    for arn in arns:
        assert "is stopping" in agent.berth("stop", arn)
    agent.all_stopped(arns)
    assert "STOPPED" in agent.berth("ps", "--all")
    missing = agent.command(str(BIN / "berth"), "describe", "0" * 32)
    assert (missing.returncode, task.id in missing.stderr) == (3, False)


def test_logs_that_are_followed_come_as_they_are_printed_and_end_with_the_container(agent: Agent) -> None:
    talker = a_job("talker", "n=0; while [ $n -lt 4 ]; do echo line $n; n=$((n+1)); sleep 0.3; done")
    task = agent.started(a_definition("talker", talker))

    with subprocess.Popen(
        [BIN / "berth", "logs", task.id, "--follow"],
        stdout=subprocess.PIPE,
        text=True,
        env=agent.environment(),
    ) as follower:
        said, _ = follower.communicate(timeout=20)
    assert follower.returncode == 0
    assert said.splitlines() == [f"line {number}" for number in range(4)]


def test_explain_names_what_a_waiting_task_waits_for_and_what_a_finished_one_ended_by(agent: Agent) -> None:
    app = {"name": "app", "dependsOn": [{"containerName": "db", "condition": "HEALTHY"}]}
    db = {
        "name": "db",
        "image": "berth/demo-api:latest",
        "startTimeout": 120,
        "healthCheck": {"command": ["CMD-SHELL", "exit 1"], "interval": 5, "startPeriod": 60},
    }
    (arn,) = agent.run(a_definition("never-ready", app, db))

    def waits() -> list[dict[str, object]]:
        found = json.loads(agent.berth("explain", arn, "--json"))["waits"]
        return [wait for wait in found if wait["waits_for"] == "dependencies_met"]

    (wait,) = eventually("app waits for db", waits)
    assert wait["subject"] == "app"
    assert "db" in wait["cause"]
    assert wait["until"] > wait["since"]
    assert wait["then"] == "the task is stopped with this as its reason"
    assert "db" in agent.berth("explain", arn)

    agent.stop_tasks([arn], reason="never mind")
    agent.stopped(arn)
    assert "never mind" in agent.berth("explain", arn)


def test_a_task_with_limits_of_its_own_is_held_to_them_by_its_control_group(
    agent: Agent, containers: Containers
) -> None:
    limited = definition("task-limits")
    limited["containerDefinitions"][0].pop("logConfiguration")  # there is no CloudWatch Logs here
    # Amazon's tools send numbers where files may have text
    limited["containerDefinitions"][0] |= {
        "memory": 512,
        "cpu": 100,
        "portMappings": [{"containerPort": 80}],
    }
    task = agent.started(limited)

    assert (task.document["cpu"], task.document["memory"]) == ("256", "1024")
    limits = containers.task_limits(task.id)
    assert limits == {"cpu": 0.25, "memory": 1024 * 1024 * 1024}
    inner = containers.docker.inspect_container(task.runtime_id())["HostConfig"]
    assert inner["CgroupParent"] == f"/ecs/{task.id}"
    assert inner["Memory"] == 512 * 1024 * 1024


def test_a_burst_of_twenty_tasks_runs_stops_and_leaves_nothing(agent: Agent, containers: Containers) -> None:
    warm = agent.started(a_definition("warm", {"name": "web"}))
    small = a_definition("burst", {"name": "web"})

    def burst(count: int) -> int:
        arns = agent.run(small, count=count)
        tasks = agent.all_running(arns, seconds=60)
        assert len({task.address for task in tasks}) == count
        for task in tasks:
            assert "berth" in containers.network(warm).page(f"http://{task.address}/").text
        agent.stop_tasks(arns)
        agent.all_stopped(arns, seconds=60)
        eventually("the agent forgets them", lambda: not any(agent.inner(arn) for arn in arns), seconds=60)
        assert not any(containers.of(arn) for arn in arns)
        assert not any(containers.groups_of(task.id) for task in tasks)
        return containers.descriptors(agent.pid)

    opened = burst(20)
    # connections to Docker are kept for the next burst: the second one may not need more
    assert burst(5) <= opened + 2
