"""Plans become exactly the JSON that Docker is sent."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

import pytest

from agent.adapters.docker.settings import DockerSettings, PauseImage
from agent.adapters.docker.translate import (
    container_document,
    environment,
    labels,
    log_config,
    own_filter,
    own_volumes,
    pause_document,
    shares,
    short_hostname,
    unknown_volumes,
    volume_labels,
    volume_name,
)
from agent.model.ids import ContainerId, CredentialsId, MacAddress, RoleArn, TaskArn
from agent.model.spec import (
    ContainerSpec,
    Device,
    HealthCheck,
    LinuxParameters,
    LogConfiguration,
    MountPoint,
    NetworkInterface,
    PortMapping,
    TaskRole,
    TaskSpec,
    Tmpfs,
    Ulimit,
    Volume,
)
from agent.ports.runtime import ContainerPlan, PausePlan

TASK_ID = "0123456789abcdef0123456789abcdef"
ARN = TaskArn(f"arn:aws:ecs:us-east-1:000000000000:task/default/{TASK_ID}")
SETTINGS = DockerSettings(
    cluster="default",
    pause=PauseImage("sha256:feed", "amazon/amazon-ecs-pause:0.1.0", Path("pause.tar")),
    region="eu-west-1",
    default_log_options=(("max-size", "16m"), ("max-file", "4")),
)
LABELS = {
    "com.amazonaws.ecs.cluster": "default",
    "com.amazonaws.ecs.container-name": "web",
    "com.amazonaws.ecs.task-arn": ARN,
    "com.amazonaws.ecs.task-definition-family": "shop",
    "com.amazonaws.ecs.task-definition-version": "3",
}
NETWORK = NetworkInterface(
    attachment_arn="arn:aws:ecs:us-east-1:000000000000:attachment/1",
    eni_id="eni-1",
    subnet_id="subnet-1",
    mac_address=MacAddress("02:00:00:00:00:01"),
    ipv4_addresses=(IPv4Interface("10.0.1.5/24"), IPv4Interface("10.0.1.6/24")),
    gateways=("10.0.1.1",),
    expires_at=datetime(2030, 1, 1, tzinfo=UTC),
    private_dns_name="ip-10-0-1-5.ec2.internal",
    dns_servers=("10.0.0.2",),
    dns_search=("ec2.internal",),
)
PLAIN = ContainerSpec("web", "shop/web:7")


def a_task(*containers: ContainerSpec, **changes: object) -> TaskSpec:
    spec = TaskSpec(ARN, "default", "shop", "3", containers or (PLAIN,), NETWORK)
    return replace(spec, **changes)


def created(spec: ContainerSpec, image_environment: frozenset[str] = frozenset(), **changes: object):
    plan = ContainerPlan(a_task(spec, **changes), spec, "ecs-shop-3-web-00", ContainerId("c0ffee"))
    return container_document(plan, SETTINGS, f"/ecs/{TASK_ID}", image_environment)


def paused(network: NetworkInterface = NETWORK, *containers: ContainerSpec):
    plan = PausePlan(a_task(*containers, network=network), "ecs-shop-3-pause-00")
    return pause_document(plan, SETTINGS, f"/ecs/{TASK_ID}", "sha256:feed")


def test_a_plain_container_says_no_more_than_needed():
    assert created(PLAIN) == {
        "Image": "shop/web:7",
        "Env": ["AWS_REGION=eu-west-1", "AWS_DEFAULT_REGION=eu-west-1"],
        "Labels": LABELS,
        "HostConfig": {
            "NetworkMode": "container:c0ffee",
            "CgroupParent": f"/ecs/{TASK_ID}",
            "CpuShares": 2,
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "16m", "max-file": "4"}},
        },
    }


def test_a_container_that_sets_everything_says_everything():
    spec = ContainerSpec(
        "web",
        "shop/web:7",
        cpu=512,
        memory=128,
        memory_reservation=64,
        command=("serve", "--port", "80"),
        entry_point=("/bin/shop",),
        environment=(("A", "1"), ("B", "x=y"), ("A", "2")),
        working_directory="/srv",
        user="1000:1000",
        health_check=HealthCheck(
            ("CMD-SHELL", "wget -q localhost"), interval=10, timeout=2, retries=4, start_period=7
        ),
        port_mappings=(PortMapping(80, 80),),
        mount_points=(MountPoint("data", "/data"), MountPoint("etc", "/etc/shop", read_only=True)),
        ulimits=(Ulimit("nofile", 1024, 2048),),
        log_configuration=LogConfiguration("journald", (("tag", "shop"),)),
        linux=LinuxParameters(
            init_process=True,
            add_capabilities=("NET_ADMIN",),
            drop_capabilities=("NET_RAW",),
            shared_memory_size=32,
            tmpfs=(Tmpfs("/run", 16, ("rw", "noexec")),),
            devices=(Device("/dev/fuse", "/dev/fuse", "rw"),),
        ),
        docker_labels=(("team", "shop"), ("com.amazonaws.ecs.cluster", "forged")),
        security_options=("no-new-privileges",),
        system_controls=(("net.core.somaxconn", "512"),),
        privileged=True,
        read_only_root=True,
        interactive=True,
        pseudo_terminal=True,
    )
    task = a_task(spec, volumes=(Volume("data"), Volume("etc", "/host/etc")))
    assert created(spec, volumes=task.volumes) == {
        "Image": "shop/web:7",
        "Env": ["A=2", "B=x=y", "AWS_REGION=eu-west-1", "AWS_DEFAULT_REGION=eu-west-1"],
        "Labels": {**LABELS, "team": "shop"},
        "Cmd": ["serve", "--port", "80"],
        "Entrypoint": ["/bin/shop"],
        "WorkingDir": "/srv",
        "User": "1000:1000",
        "Tty": True,
        "OpenStdin": True,
        "Healthcheck": {
            "Test": ["CMD-SHELL", "wget -q localhost"],
            "Interval": 10_000_000_000,
            "Timeout": 2_000_000_000,
            "Retries": 4,
            "StartPeriod": 7_000_000_000,
        },
        "HostConfig": {
            "NetworkMode": "container:c0ffee",
            "CgroupParent": f"/ecs/{TASK_ID}",
            "CpuShares": 512,
            "Memory": 134_217_728,
            "MemoryReservation": 67_108_864,
            "Binds": [f"{volume_name(task, 'data')}:/data", "/host/etc:/etc/shop:ro"],
            "Ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 2048}],
            "Privileged": True,
            "ReadonlyRootfs": True,
            "SecurityOpt": ["no-new-privileges"],
            "Sysctls": {"net.core.somaxconn": "512"},
            "LogConfig": {"Type": "journald", "Config": {"tag": "shop"}},
            "Init": True,
            "CapAdd": ["NET_ADMIN"],
            "CapDrop": ["NET_RAW"],
            "ShmSize": 33_554_432,
            "Tmpfs": {"/run": "size=16m,rw,noexec"},
            "Devices": [
                {"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse", "CgroupPermissions": "rw"}
            ],
        },
    }


def test_every_document_is_plain_json():
    assert json.loads(json.dumps(created(PLAIN))) == created(PLAIN)
    assert json.loads(json.dumps(paused())) == paused()


def test_ports_are_never_published_by_a_container_that_joins_a_sandbox():
    document = created(replace(PLAIN, port_mappings=(PortMapping(80, 80),)))
    assert "ExposedPorts" not in document
    assert "PortBindings" not in document["HostConfig"]


def test_the_pause_container_carries_the_names_of_the_sandbox():
    web = replace(PLAIN, port_mappings=(PortMapping(80, 80), PortMapping(53, 53, "udp")))
    assert paused(NETWORK, web) == {
        "Image": "sha256:feed",
        "Hostname": "ip-10-0-1-5.ec2.internal",
        "Labels": {**LABELS, "com.amazonaws.ecs.container-name": "~internal~ecs~pause"},
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "HostConfig": {
            "NetworkMode": "none",
            "ExtraHosts": ["ip-10-0-1-5.ec2.internal:10.0.1.5", "ip-10-0-1-5.ec2.internal:10.0.1.6"],
            "Dns": ["10.0.0.2"],
            "DnsSearch": ["ec2.internal"],
            "Memory": 33_554_432,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "ReadonlyRootfs": True,
            "LogConfig": {"Type": "none", "Config": {}},
            "CgroupParent": f"/ecs/{TASK_ID}",
        },
    }


def test_an_interface_with_ipv6_gets_it_switched_on():
    with_ipv6 = replace(NETWORK, ipv6_addresses=(IPv6Interface("fd00::5/64"),))
    host = paused(with_ipv6)["HostConfig"]
    assert host["Sysctls"] == {"net.ipv6.conf.all.disable_ipv6": "0"}
    assert host["ExtraHosts"] == ["ip-10-0-1-5.ec2.internal:10.0.1.5", "ip-10-0-1-5.ec2.internal:10.0.1.6"]
    only_ipv6 = replace(with_ipv6, ipv4_addresses=())
    assert paused(only_ipv6)["HostConfig"]["ExtraHosts"] == ["ip-10-0-1-5.ec2.internal:fd00::5"]


def test_a_host_name_that_the_kernel_would_refuse_is_cut_to_its_first_label():
    longest = "a" * 60 + ".com"
    assert short_hostname(longest) == longest
    assert short_hostname(longest + "m") == "a" * 60
    assert short_hostname("b" * 70 + ".com") == "b" * 63
    document = paused(replace(NETWORK, private_dns_name=longest + "m"))
    assert document["Hostname"] == "a" * 60
    assert f"{longest}m:10.0.1.5" in document["HostConfig"]["ExtraHosts"]


def test_an_interface_without_a_name_leaves_the_host_name_to_docker():
    document = paused(replace(NETWORK, private_dns_name="", dns_servers=(), dns_search=()))
    assert "Hostname" not in document
    assert not {"ExtraHosts", "Dns", "DnsSearch", "Sysctls"} & document["HostConfig"].keys()


@pytest.mark.parametrize(
    ("own", "image", "region", "expected"),
    [
        ((), frozenset(), "eu-west-1", ["AWS_REGION=eu-west-1", "AWS_DEFAULT_REGION=eu-west-1"]),
        ((), frozenset(), "", []),
        ((), frozenset({"AWS_REGION"}), "eu-west-1", []),
        ((), frozenset({"AWS_DEFAULT_REGION"}), "eu-west-1", []),
        ((("AWS_REGION", "mars"),), frozenset(), "eu-west-1", ["AWS_REGION=mars"]),
        ((("AWS_DEFAULT_REGION", "mars"),), frozenset(), "eu-west-1", ["AWS_DEFAULT_REGION=mars"]),
    ],
)
def test_the_region_is_added_only_where_nobody_has_set_one(own, image, region, expected):
    spec = replace(PLAIN, environment=own)
    assert environment(a_task(spec), spec, region, image) == expected


def test_a_task_role_decides_the_credentials_address_even_against_the_spec():
    spec = replace(PLAIN, environment=(("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/mine"), ("A", "1")))
    role = TaskRole(RoleArn("arn:aws:iam::000000000000:role/r"), CredentialsId("cred-1"))
    assert environment(a_task(spec, task_role=role), spec, "", frozenset()) == [
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/v2/credentials/cred-1",
        "A=1",
    ]
    execution_only = a_task(spec, execution_role=role)
    assert environment(execution_only, spec, "", frozenset())[0].endswith("=/mine")


@pytest.mark.parametrize(("cpu", "expected"), [(0, 2), (1, 2), (2, 2), (1024, 1024), (10**9, 262_144)])
def test_shares_stay_within_the_kernels_bounds(cpu, expected):
    assert shares(cpu) == expected


@pytest.mark.parametrize(("memory", "expected"), [(1, 4 << 20), (4, 4 << 20), (5, 5 << 20)])
def test_memory_is_at_least_four_mebibytes(memory, expected):
    assert created(replace(PLAIN, memory=memory))["HostConfig"]["Memory"] == expected


def test_output_is_bounded_unless_the_spec_bounds_it():
    def options(driver: str, **given: str):
        wanted = LogConfiguration(driver, tuple((k.replace("_", "-"), v) for k, v in given.items()))
        return log_config(wanted, SETTINGS)["Config"]

    assert options("json-file") == {"max-size": "16m", "max-file": "4"}
    assert options("json-file", labels="a") == {"max-size": "16m", "max-file": "4", "labels": "a"}
    assert options("json-file", max_size="1m") == {"max-size": "1m"}
    assert options("awslogs", mode="non-blocking") == {"mode": "non-blocking", "max-buffer-size": "10m"}
    assert options("awslogs", mode="non-blocking", max_buffer_size="1m")["max-buffer-size"] == "1m"
    assert options("awslogs") == {}


def test_the_agents_own_marks_are_on_everything_and_in_the_filter():
    marked = replace(SETTINGS, labels=(("berth.node", "n1"),))
    assert labels(a_task(), "web", marked)["berth.node"] == "n1"
    assert volume_labels(ARN, marked) == {
        "berth.node": "n1",
        "com.amazonaws.ecs.task-arn": ARN,
        "com.amazonaws.ecs.cluster": "default",
    }
    assert own_filter(marked) == [
        "com.amazonaws.ecs.task-arn",
        "com.amazonaws.ecs.cluster=default",
        "berth.node=n1",
    ]


def test_a_volume_of_a_task_with_long_names_has_a_name_that_a_directory_can_have():
    task = replace(a_task(), family="f" * 255)
    one, other = volume_name(task, "v" * 255), volume_name(task, "v" * 254)
    assert one.startswith("ecs-fff")
    assert len(one) == len(other) == 255
    assert one != other


def test_a_volume_has_the_same_name_whenever_it_is_asked_for_and_each_task_its_own():
    name = volume_name(a_task(), "my data!")
    assert name == volume_name(a_task(), "my data!")
    assert name.startswith("ecs-shop-3-mydata-")
    assert len(name.rpartition("-")[2]) == 20
    assert name != volume_name(a_task(arn=TaskArn(ARN[:-1] + "0")), "my data!")
    assert name != volume_name(a_task(), "my data")


def test_only_empty_volumes_that_are_mounted_are_the_containers_to_make():
    spec = replace(
        PLAIN, mount_points=(MountPoint("a", "/a"), MountPoint("a", "/b"), MountPoint("host", "/c"))
    )
    task = a_task(spec, volumes=(Volume("a"), Volume("unused"), Volume("host", "/srv")))
    assert own_volumes(task, spec) == ("a",)
    assert unknown_volumes(task, spec) == ()
    assert unknown_volumes(a_task(spec, volumes=(Volume("a"),)), spec) == (("host", "/c"),)
