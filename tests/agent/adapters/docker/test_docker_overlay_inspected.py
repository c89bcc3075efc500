"""What a backend lays over a container, seen in what the real Docker then says about it."""

import json
from dataclasses import replace

import pytest

from agent.model.errors import CannotCreateContainer
from agent.model.spec import DockerOverlay, MountPoint, Volume
from tests.agent.adapters.docker.test_docker_runtime import Sandbox, a_shell
from tests.contracts.runtime import plan_of

pytestmark = pytest.mark.integration


def a_layered_shell(stage, command, config=None, host=None, **changes):
    overlay = DockerOverlay(json.dumps(config or {}), json.dumps(host or {}))
    return replace(a_shell(stage, command), overlay=overlay, **changes)


async def test_everything_that_is_laid_over_arrives(docker_stage, docker_client, tmp_path):
    (tmp_path / "note").write_text("host says hello\n")
    tmp_path.chmod(0o755)
    config = {
        "User": "1000:1000",
        "WorkingDir": "/bin",
        "StopSignal": "SIGINT",
        "Labels": {"team": "shop", "com.amazonaws.ecs.cluster": "forged"},
        "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000, "Retries": 2},
    }
    host = {
        "Memory": 48 << 20,
        "Ulimits": [{"Name": "nofile", "Soft": 123, "Hard": 456}],
        "CapAdd": ["NET_ADMIN"],
        "CapDrop": ["NET_RAW"],
        "Tmpfs": {"/scratch": "size=1m,mode=1777"},
        "Init": True,
        "ReadonlyRootfs": True,
        "ShmSize": 8 << 20,
        "Sysctls": {"net.core.somaxconn": "99"},
        "Binds": [f"{tmp_path}:/notes:ro"],
        "LogConfig": {"Config": {"labels": "team"}},
    }
    spec = a_layered_shell(
        docker_stage,
        "cat /notes/note /proc/sys/net/core/somaxconn /proc/self/limits; echo x > /scratch/x && echo y > /y",
        config,
        host,
        mount_points=(MountPoint("data", "/data"),),
    )
    sandbox = await Sandbox.of(docker_stage, spec, volumes=(Volume("data"),))
    ended, output = await sandbox.finish()
    assert ended.exit_code == 1
    # Docker reads the two streams side by side: which line of which comes first is chance
    errors = [line for line in output.splitlines() if "can't create /y: Read-only file system" in line]
    assert len(errors) == 1
    said = [line for line in output.splitlines() if line not in errors]
    assert said[:2] == ["host says hello", "99"]
    assert any(line.split()[:5] == ["Max", "open", "files", "123", "456"] for line in output.splitlines())
    seen = docker_client.inspect_container(ended.docker_name)
    assert {key: seen["Config"][key] for key in config if key != "Labels"} == {
        key: value for key, value in config.items() if key != "Labels"
    }
    assert seen["Config"]["Labels"]["team"] == "shop"
    assert seen["Config"]["Labels"]["com.amazonaws.ecs.cluster"] == docker_stage.settings.cluster
    told = seen["HostConfig"]
    assert {key: told[key] for key in host if key not in ("Binds", "LogConfig", "Ulimits")} == {
        key: value for key, value in host.items() if key not in ("Binds", "LogConfig", "Ulimits")
    }
    assert [(each["Name"], each["Soft"], each["Hard"]) for each in told["Ulimits"]] == [("nofile", 123, 456)]
    assert {each["Destination"] for each in seen["Mounts"]} == {"/data", "/notes"}
    assert told["LogConfig"] == {
        "Type": "json-file",
        "Config": {"labels": "team", "max-size": "16m", "max-file": "4"},
    }


async def test_nothing_that_is_laid_over_leads_out_of_the_task(docker_stage, docker_client):
    """Docker itself refuses the ports and the address, and takes ``networkMode`` for ``NetworkMode``."""
    config = {
        "image": "127.0.0.1:9/berth-test/missing:1",
        "hostconfig": {"NetworkMode": "host"},
        "ExposedPorts": {"80/tcp": {}},
        "MacAddress": "02:00:00:00:00:01",
        "NetworkDisabled": True,
    }
    host = {
        "networkMode": "host",
        "cgroupParent": "/elsewhere",
        "PortBindings": {"80/tcp": [{"HostPort": "0"}]},
        "PublishAllPorts": True,
    }
    sandbox = await Sandbox.of(docker_stage, a_layered_shell(docker_stage, "hostname", config, host))
    ended, output = await sandbox.finish()
    assert output == "ip-10-0-1-5.ec2.internal\n"
    seen = docker_client.inspect_container(ended.docker_name)
    assert seen["HostConfig"]["NetworkMode"] == f"container:{sandbox.pause.container_id}"
    assert "/elsewhere" not in seen["HostConfig"]["CgroupParent"]
    assert seen["Config"]["Image"] == docker_stage.waiting


async def test_a_name_of_its_own_and_two_things_at_one_place_are_refused(docker_stage):
    named = a_layered_shell(docker_stage, "true", {"Hostname": "mine"})
    twice = a_layered_shell(
        docker_stage,
        "true",
        host={"Binds": ["/tmp:/data"]},
        name="twice",
        mount_points=(MountPoint("data", "/data"),),
    )
    sandbox = await Sandbox.of(docker_stage, named, twice, volumes=(Volume("data"),))
    with pytest.raises(CannotCreateContainer, match=r"config\.Hostname is \"mine\""):
        await docker_stage.runtime.ensure_created(plan_of(sandbox.task, sandbox.pause))
    with pytest.raises(CannotCreateContainer, match="Duplicate mount point: /data"):
        await docker_stage.runtime.ensure_created(plan_of(sandbox.task, sandbox.pause, "twice"))
    badly = replace(sandbox.task.containers[0], overlay=DockerOverlay('{"User":5}'))
    wrong = replace(sandbox.task, containers=(badly,))
    with pytest.raises(CannotCreateContainer, match="cannot unmarshal number"):
        await docker_stage.runtime.ensure_created(plan_of(wrong, sandbox.pause))
