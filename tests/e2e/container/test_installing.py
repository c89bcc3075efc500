"""The command of the documents, as it stands there: tasks run, and everything that a user looks at shows them."""

import json
import time

import pytest

from agent import __version__
from agent.adapters.host.capabilities import docker_options
from tests.e2e.agent_container import IMAGE, NAME, docker, run_line
from tests.e2e.agent_process import eventually
from tests.e2e.container.installed import ENV_FILE, InstalledAgent, processes_of
from tests.e2e.container.rigs import Rig, has_credentials, undisturbed
from tests.e2e.inside import Containers, command

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

OF_THE_DOCUMENTS = (
    "run -d --name ecs-agent --privileged --net=host --pid=host --env-file /etc/ecs/ecs.config "
    "-v /var/run/docker.sock:/var/run/docker.sock -v /var/lib/ecs:/var/lib/ecs -v /var/log/ecs:/var/log/ecs "
    "-v /run/netns:/run/netns:shared -v /sys/fs/cgroup:/sys/fs/cgroup berth/agent"
)


def test_the_command_of_the_documents_is_the_one_that_is_tested() -> None:
    assert " ".join(run_line(ENV_FILE)) == OF_THE_DOCUMENTS


def test_tasks_run_and_are_shown_where_people_look(rig: Rig, containers: Containers) -> None:
    rig.agent.start()
    rig.wait_joined(1)
    task, other = rig.run(2)

    shown = json.loads(command("curl", "--silent", "--max-time", "5", "127.0.0.1:51678/v1/tasks").text)
    assert {each["Arn"]: each["KnownStatus"] for each in shown["Tasks"]} == {
        task.arn: "RUNNING",
        other.arn: "RUNNING",
    }
    assert has_credentials(containers, task)
    inside = rig.agent.inside("berth", "status")
    assert inside.returncode == 0, inside
    assert __version__ in rig.agent.inside("berth", "version").stdout
    rig.stop_tasks()
    eventually("the tasks are forgotten", lambda: not rig.agent.get("/v1/tasks")[1]["Tasks"], seconds=40)
    dead = {pid: state for pid, state in processes_of(rig.agent.pid).items() if state == "Z"}
    assert dead == {}, "zombies"
    assert rig.agent.stop() == 0


def test_docker_calls_it_healthy(installed: InstalledAgent) -> None:
    # the image asks twice a minute
    installed.more = ("--health-interval=1s",)
    installed.start()
    config = json.loads(docker("image", "inspect", "--format", "{{json .Config.Healthcheck}}", IMAGE))
    assert config["Test"] == ["CMD", "berth", "healthcheck"]
    assert config["Timeout"] > 25_000_000_000

    def status() -> str:
        return docker("ps", "--filter", f"name={NAME}", "--format", "{{.Status}}")

    eventually("docker ps says healthy", lambda: "(healthy)" in status(), seconds=20)


def test_a_list_of_capabilities_is_enough_instead_of_privileged(rig: Rig, containers: Containers) -> None:
    rig.agent.rights = docker_options()
    rig.agent.start()
    rig.wait_joined(1)
    tasks = rig.run(2)
    with undisturbed(rig, containers, tasks):
        rig.agent.kill()
        docker("start", NAME)
        rig.wait_joined(2)
    third = rig.run()[0]
    assert has_credentials(containers, third)
    assert third.address not in {task.address for task in tasks}
    rig.stop_tasks()
    assert rig.agent.stop() == 0


def test_it_ends_within_the_time_that_docker_gives_it(installed: InstalledAgent) -> None:
    installed.start()
    began = time.monotonic()
    assert installed.stop() == 0
    assert time.monotonic() - began < 8, "docker stop would have killed it after ten seconds"


@pytest.mark.parametrize(
    ("forgotten", "named"),
    [
        ("/run/netns:/run/netns:shared", "add -v /run/netns:/run/netns:shared"),
        ("/var/run/docker.sock:/var/run/docker.sock", "docker.sock"),
        ("--privileged", "add --privileged or --cap-add=SYS_ADMIN"),
    ],
)
def test_what_was_forgotten_is_named_and_a_restart_policy_is_told_that_it_does_not_help(
    installed: InstalledAgent, forgotten: str, named: str
) -> None:
    installed.rights = [each for each in installed.rights if each != forgotten]
    installed.mounts = [each for each in installed.mounts if each != forgotten]

    assert installed.ends() == 5
    assert named in installed.words()
    assert "Traceback" not in installed.words()
