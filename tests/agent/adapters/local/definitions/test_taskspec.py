"""A definition with everything in it arrives in the spec, nothing lost and nothing made up."""

from datetime import timedelta
from ipaddress import IPv4Interface, IPv6Interface

from agent.adapters.local.definitions.registration import registered
from agent.adapters.local.definitions.taskspec import Place, task_spec
from agent.adapters.local.identity import Identity
from agent.adapters.local.records import AttachmentRecord, ContainerRecord, DefinitionRecord, TaskRecord
from agent.adapters.local.vpc.plan import default_plan
from agent.model.spec import (
    Condition,
    Dependency,
    Device,
    HealthCheck,
    LinuxParameters,
    LogConfiguration,
    LoginSource,
    MountPoint,
    PortMapping,
    PullBehavior,
    RegistryAuthentication,
    Tmpfs,
    Ulimit,
    Volume,
)
from tests.fakes.clock import NOON

PLAN = default_plan("eu-west-1", seed="spec", ipv6_cidr="fd00:1::/56")
SUBNET = PLAN.subnets[0]

EVERYTHING = {
    "family": "all",
    "networkMode": "awsvpc",
    "taskRoleArn": "arn:aws:iam::111122223333:role/all",
    "executionRoleArn": "arn:aws:iam::111122223333:role/pull",
    "cpu": "1 vCPU",
    "memory": "2 GB",
    "volumes": [{"name": "state"}, {"name": "srv", "host": {"sourcePath": "/srv"}}],
    "containerDefinitions": [
        {"name": "init", "image": "init:1", "essential": False},
        {
            "name": "app",
            "image": "app:1",
            "cpu": 256,
            "memory": 512,
            "memoryReservation": 128,
            "entryPoint": ["/bin/sh"],
            "command": ["-c", "true"],
            "environment": [{"name": "A", "value": "1"}],
            "workingDirectory": "/work",
            "user": "1000",
            "dependsOn": [{"containerName": "init", "condition": "SUCCESS"}],
            "startTimeout": 60,
            "stopTimeout": 10,
            "healthCheck": {"command": ["CMD-SHELL", "true"], "interval": 7, "startPeriod": 3},
            "portMappings": [{"containerPort": 53, "protocol": "udp", "name": "dns"}],
            "mountPoints": [{"sourceVolume": "state", "containerPath": "/state", "readOnly": True}],
            "ulimits": [{"name": "nofile", "softLimit": 1, "hardLimit": 2}],
            "logConfiguration": {"logDriver": "json-file", "options": {"max-size": "1m"}},
            "linuxParameters": {
                "initProcessEnabled": True,
                "capabilities": {"add": ["NET_ADMIN"], "drop": ["NET_RAW"]},
                "sharedMemorySize": 64,
                "tmpfs": [{"containerPath": "/t", "size": 1, "mountOptions": ["ro"]}],
                "devices": [{"hostPath": "/dev/null", "permissions": ["read"]}],
            },
            "dockerLabels": {"b": "2", "a": "1"},
            "dockerSecurityOptions": ["no-new-privileges"],
            "systemControls": [{"namespace": "net.core.somaxconn", "value": "9"}],
            "privileged": True,
            "readonlyRootFilesystem": True,
            "interactive": True,
            "pseudoTerminal": True,
            "repositoryCredentials": {"credentialsParameter": "registry/app"},
        },
    ],
}

ATTACHMENT = AttachmentRecord(
    id="a1",
    task_id="1" * 32,
    eni_id="eni-1",
    subnet_id=SUBNET.subnet_id,
    mac_address="0e:00:00:00:00:01",
    ipv4_address=str(SUBNET.ipv4_network[9]),
    ipv6_address=str(SUBNET.ipv6_network[9]),
    created_at=NOON,
    expires_at=NOON + timedelta(minutes=5),
)


def spec(pull=PullBehavior.DEFAULT):
    document = registered(EVERYTHING, "X86_64", has_role_credentials=True)
    definition = DefinitionRecord("all", 3, document, registered_at=NOON)
    task = TaskRecord(
        id="1" * 32,
        cluster="default",
        family="all",
        revision=3,
        containers=(ContainerRecord("init", "c1"), ContainerRecord("app", "c2")),
        created_at=NOON,
        availability_zone="eu-west-1a",
        group="family:all",
        task_role_arn=EVERYTHING["taskRoleArn"],
        task_credentials_id="secret-id",
    )
    place = Place(Identity("eu-west-1", "000000000000"), PLAN, pull, mtu=1500)
    return task_spec(task, definition, ATTACHMENT, place)


def test_the_task_carries_names_sizes_roles_and_volumes():
    made = spec(PullBehavior.ONCE)
    assert made.arn == f"arn:aws:ecs:eu-west-1:000000000000:task/default/{'1' * 32}"
    assert (made.family, made.revision, made.cluster, made.group) == ("all", "3", "default", "family:all")
    assert (made.cpu, made.memory) == (1024, 2048)
    assert (made.task_role.arn, made.task_role.credentials_id) == (EVERYTHING["taskRoleArn"], "secret-id")
    assert made.execution_role is None
    assert made.volumes == (Volume("state"), Volume("srv", "/srv"))
    assert made.pull_behavior is PullBehavior.ONCE


def test_the_container_carries_everything_that_was_asked_for():
    app = spec().container("app")
    assert (app.cpu, app.memory, app.memory_reservation) == (256, 512, 128)
    assert (app.entry_point, app.command) == (("/bin/sh",), ("-c", "true"))
    assert dict(app.environment) == {"A": "1", "AWS_EXECUTION_ENV": "AWS_ECS_EC2"}
    assert (app.working_directory, app.user) == ("/work", "1000")
    assert app.depends_on == (Dependency("init", Condition.SUCCESS),)
    assert (app.start_timeout, app.stop_timeout) == (60, 10)
    assert app.health_check == HealthCheck(("CMD-SHELL", "true"), 7, 5, 3, 3)
    assert app.port_mappings == (PortMapping(53, 53, "udp", "dns"),)
    assert app.mount_points == (MountPoint("state", "/state", read_only=True),)
    assert app.ulimits == (Ulimit("nofile", 1, 2),)
    assert app.log_configuration == LogConfiguration("json-file", (("max-size", "1m"),))
    assert app.linux == LinuxParameters(
        init_process=True,
        add_capabilities=("NET_ADMIN",),
        drop_capabilities=("NET_RAW",),
        shared_memory_size=64,
        tmpfs=(Tmpfs("/t", 1, ("ro",)),),
        devices=(Device("/dev/null", "/dev/null", "r"),),
    )
    assert app.docker_labels == (("a", "1"), ("b", "2"))
    assert app.security_options == ("no-new-privileges",)
    assert app.system_controls == (("net.core.somaxconn", "9"),)
    assert app.privileged
    assert app.read_only_root
    assert app.interactive
    assert app.pseudo_terminal
    assert app.registry == RegistryAuthentication(LoginSource.SECRETS_MANAGER, secret="registry/app")


def test_what_was_not_asked_for_is_left_to_the_image():
    init = spec().container("init")
    assert init.command is None
    assert init.entry_point is None
    assert init.memory is None
    assert init.registry is None
    assert not init.essential


def test_the_interface_carries_addresses_with_prefix_and_plain_gateways():
    network = spec().network
    assert network.attachment_arn == "arn:aws:ecs:eu-west-1:000000000000:attachment/a1"
    assert network.ipv4_addresses == (IPv4Interface(f"{SUBNET.ipv4_network[9]}/20"),)
    assert network.ipv6_addresses == (IPv6Interface(f"{SUBNET.ipv6_network[9]}/64"),)
    assert network.gateways == (str(SUBNET.ipv4_network[1]), str(SUBNET.ipv6_network[1]))
    assert network.private_dns_name == "ip-10-211-0-9.eu-west-1.compute.internal"
    assert network.dns_search == ("eu-west-1.compute.internal",)
    assert network.dns_servers == ("10.211.0.2",)
    assert network.expires_at == NOON + timedelta(minutes=5)
    assert network.mtu == 1500
