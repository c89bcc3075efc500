"""Docker JSON of a backend over what the agent computes: which of its keys reach Docker, and how."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model.errors import CannotCreateContainer
from agent.model.ids import CredentialsId, RoleArn
from agent.model.spec import DockerOverlay, LogConfiguration, MountPoint, TaskRole, Volume
from tests.agent.adapters.docker.test_docker_translate import LABELS, PLAIN, TASK_ID, a_task, created

ROLE = TaskRole(RoleArn("arn:aws:iam::000000000000:role/r"), CredentialsId("cred-1"))


def laid_over(config=None, host=None, spec=PLAIN, **task):
    text = "" if config is None else config if isinstance(config, str) else json.dumps(config)
    host_text = "" if host is None else host if isinstance(host, str) else json.dumps(host)
    spec = replace(spec, overlay=DockerOverlay(text, host_text))
    return created(spec, **task)


def test_nothing_laid_over_changes_nothing():
    assert laid_over({}, {}) == created(PLAIN) == laid_over("", "")


def test_keys_of_the_backend_win_and_the_others_stay():
    spec = replace(PLAIN, user="1", working_directory="/srv", memory=64, command=("a",))
    document = laid_over(
        {"User": "1000", "Cmd": ["b"], "StopSignal": "SIGINT", "WorkingDir": None, "Novel": 1},
        {
            "Memory": 0,
            "CpuShares": 7,
            "CapAdd": [],
            "Ulimits": [{"Name": "core", "Soft": 1, "Hard": 2}],
            "Init": False,
        },
        spec,
    )
    host = document.pop("HostConfig")
    assert document == {
        "Image": "shop/web:7",
        "Env": ["AWS_REGION=eu-west-1", "AWS_DEFAULT_REGION=eu-west-1"],
        "Labels": LABELS,
        "Cmd": ["b"],
        "User": "1000",
        "WorkingDir": "/srv",
        "StopSignal": "SIGINT",
        "Novel": 1,
    }
    assert host == {
        "NetworkMode": "container:c0ffee",
        "CgroupParent": f"/ecs/{TASK_ID}",
        "CpuShares": 7,
        "Memory": 0,
        "CapAdd": [],
        "Init": False,
        "Ulimits": [{"Name": "core", "Soft": 1, "Hard": 2}],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "16m", "max-file": "4"}},
    }


def test_what_the_agent_sets_last_stays_in_whatever_case_it_is_asked_for():
    kelvin = "Networ\N{KELVIN SIGN}Mode"
    document = laid_over(
        {
            "image": "other:1",
            "hostconfig": {"NetworkMode": "host"},
            "NETWORKINGCONFIG": {"EndpointsConfig": {}},
            "exposedports": {"80/tcp": {}},
            "MacAddress": "02:00:00:00:00:01",
            "NetworkDisabled": True,
            "Hostname": "",
            "labels": {"team": "shop", "com.amazonaws.ecs.cluster": "forged"},
        },
        {
            "networkMode": "host",
            kelvin: "host",
            "cgroupparent": "/elsewhere",
            "PortBindings": {"80/tcp": [{"HostPort": "80"}]},
            "publishallports": True,
            "Dns": [],
            "Links": None,
            "restartPolicy": {"name": "no"},
            "AutoRemove": False,
            "pidmode": "",
        },
    )
    assert document == {**created(PLAIN), "Labels": {**LABELS, "team": "shop"}}


def test_the_same_key_in_two_cases_counts_once_and_the_last_one():
    document = laid_over('{"User":"1","user":"2"}', '{"init":true,"Init":false,"INIT":null}')
    assert document["User"] == "2"
    assert "user" not in document
    assert document["HostConfig"]["Init"] is False


@pytest.mark.parametrize(
    ("config", "host", "complaint"),
    [
        ({"Hostname": "x"}, {}, 'config.Hostname is "x"'),
        ({"domainname": "x.y"}, {}, 'config.Domainname is "x.y"'),
        ({}, {"Dns": ["1.2.3.4"]}, 'hostConfig.Dns is ["1.2.3.4"]'),
        ({}, {"DnsSearch": ["a"]}, "hostConfig.DnsSearch"),
        ({}, {"DnsOptions": ["a"]}, "hostConfig.DnsOptions"),
        ({}, {"ExtraHosts": ["a:1.2.3.4"]}, "hostConfig.ExtraHosts"),
        ({}, {"Links": ["a:b"]}, "hostConfig.Links"),
        ({}, {"VolumesFrom": ["a"]}, "hostConfig.VolumesFrom"),
        ({}, {"UTSMode": "host"}, "hostConfig.UTSMode"),
        ({}, {"pidmode": "host"}, 'hostConfig.PidMode is "host"'),
        ({}, {"IpcMode": "container:other"}, "hostConfig.IpcMode"),
        ({}, {"IpcMode": ["host"]}, "hostConfig.IpcMode"),
        ({}, {"RestartPolicy": {"Name": "always"}}, "hostConfig.RestartPolicy"),
        ({}, {"RestartPolicy": "always"}, "hostConfig.RestartPolicy"),
        ({}, {"AutoRemove": True}, "hostConfig.AutoRemove"),
        ({}, {"Cgroup": "container:other"}, "hostConfig.Cgroup"),
        ("[]", {}, "config is no JSON object"),
        ("{", {}, "config is not JSON"),
        ({}, "[" * 100_000, "hostConfig is not JSON"),
        ({"Env": "A=1"}, {}, "Env is wrong; expected a list of texts"),
        ({"Labels": ["a"]}, {}, "Labels is wrong; expected an object of texts"),
        ({}, {"Binds": {"a": "b"}}, "Binds is wrong; expected a list of texts"),
        ({}, {"LogConfig": []}, "LogConfig is wrong; expected an object"),
        ({}, {"LogConfig": {"Type": 7}}, "LogConfig.Type is wrong; expected a text"),
        ({}, {"LogConfig": {"Config": {"a": 1}}}, "LogConfig.Config is wrong; expected an object of texts"),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_key(config, host, complaint):
    with pytest.raises(CannotCreateContainer) as refused:
        laid_over(config, host)
    assert f"container web: {complaint}" in str(refused.value).replace("its ", "")
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("mode", ["none", "private", "shareable"])
def test_an_ipc_namespace_of_its_own_is_the_backends_choice(mode):
    assert laid_over(host={"ipcMode": mode})["HostConfig"]["IpcMode"] == mode


def test_variables_of_the_backend_take_the_place_of_the_others_but_not_of_the_agents():
    spec = replace(PLAIN, environment=(("A", "1"),))
    entries = ["B=2", "C", "D=", "B=3", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/mine"]
    assert laid_over({"Env": entries}, spec=spec, task_role=ROLE)["Env"] == [
        "B=3",
        "C",
        "D=",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/v2/credentials/cred-1",
        "AWS_REGION=eu-west-1",
        "AWS_DEFAULT_REGION=eu-west-1",
    ]
    assert laid_over({"env": ["AWS_REGION=mars"]}, spec=spec)["Env"] == ["AWS_REGION=mars"]
    assert laid_over({"Env": None}, spec=spec)["Env"][0] == "A=1"


def test_mount_points_and_binds_of_the_backend_stand_side_by_side():
    spec = replace(PLAIN, mount_points=(MountPoint("data", "/data"),))
    document = laid_over(
        host={"binds": ["/etc/ssl:/ssl:ro", "/srv:/data"]}, spec=spec, volumes=(Volume("data", "/srv"),)
    )
    assert document["HostConfig"]["Binds"] == ["/srv:/data", "/etc/ssl:/ssl:ro"]


@pytest.mark.parametrize(
    ("before", "over", "expected"),
    [
        (None, {"Type": "json-file"}, ("json-file", {"max-size": "16m", "max-file": "4"})),
        (
            None,
            {"Config": {"labels": "a"}},
            ("json-file", {"max-size": "16m", "max-file": "4", "labels": "a"}),
        ),
        (None, {"type": "json-file", "config": {"max-size": "1m"}}, ("json-file", {"max-size": "1m"})),
        (None, {"Type": "none", "Config": None}, ("none", {})),
        (
            None,
            {"Type": "awslogs", "Config": {"mode": "non-blocking"}},
            ("awslogs", {"mode": "non-blocking", "max-buffer-size": "10m"}),
        ),
        (
            LogConfiguration("syslog", (("tag", "a"), ("env", "b"))),
            {"Config": {"tag": "c"}},
            ("syslog", {"tag": "c", "env": "b"}),
        ),
        (LogConfiguration("syslog", (("tag", "a"),)), {"Type": "journald"}, ("journald", {})),
        (LogConfiguration("syslog", (("tag", "a"),)), {}, ("syslog", {"tag": "a"})),
        (None, {}, ("json-file", {"max-size": "16m", "max-file": "4"})),
    ],
)
def test_output_stays_bounded_under_an_overlay(before, over, expected):
    document = laid_over(host={"LogConfig": over}, spec=replace(PLAIN, log_configuration=before))
    config = document["HostConfig"]["LogConfig"]
    assert (config["Type"], config["Config"]) == expected


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["NetworkMode", "CgroupParent", "Binds", "LogConfig", "Dns", "Image", "HostConfig", "Env"]
)


@given(
    st.dictionaries(
        KEYS.flatmap(lambda key: st.sampled_from([key, key.lower(), key.upper()])), VALUES, max_size=4
    )
)
def test_whatever_is_laid_over_a_container_stays_in_its_task(overlay):
    try:
        document = laid_over(overlay, overlay)
    except CannotCreateContainer as error:
        assert "container web" in str(error)  # noqa: PT017
        return
    assert document["Image"] == "shop/web:7"
    assert {
        key: value for key, value in document["HostConfig"].items() if key.casefold() == "networkmode"
    } == {"NetworkMode": "container:c0ffee"}
    assert document["HostConfig"]["CgroupParent"] == f"/ecs/{TASK_ID}"
    assert [key for key in document if key.casefold() == "hostconfig"] == ["HostConfig"]
    assert a_task().arn == document["Labels"]["com.amazonaws.ecs.task-arn"]
