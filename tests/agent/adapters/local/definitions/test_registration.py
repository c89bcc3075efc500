"""Every refusal by name, all at once, and what ECS would fill in."""

import copy

import pytest

from agent.adapters.local.definitions.registration import registered
from agent.adapters.local.errors import ClientFault

ONE = {"name": "app", "image": "app:1", "memory": 64}


def a_definition(container=None, **changes):
    return {
        "family": "web",
        "networkMode": "awsvpc",
        "containerDefinitions": [{**ONE, **(container or {})}],
        **changes,
    }


def pair(first=None, second=None, **changes):
    containers = [{**ONE, **(first or {})}, {**ONE, "name": "other", **(second or {})}]
    return a_definition(**{"containerDefinitions": containers, **changes})


def refusal(definition) -> str:
    with pytest.raises(ClientFault) as refused:
        registered(definition, "X86_64")
    return str(refused.value)


UNSUPPORTED = {
    "networkMode bridge": (a_definition(networkMode="bridge"), "networkMode 'bridge': not supported; supported is 'awsvpc'"),
    "networkMode host": (a_definition(networkMode="host"), "networkMode 'host'"),
    "networkMode none": (a_definition(networkMode="none"), "networkMode 'none'"),
    "networkMode missing": (a_definition(networkMode=None), "networkMode is missing (Amazon ECS would take 'bridge')"),
    "pidMode": (a_definition(pidMode="host"), "pidMode 'host': not supported"),
    "ipcMode": (a_definition(ipcMode="task"), "ipcMode 'task': not supported"),
    "proxyConfiguration": (a_definition(proxyConfiguration={"containerName": "x"}), "proxyConfiguration {containerName}"),
    "inferenceAccelerators": (a_definition(inferenceAccelerators=[{"deviceName": "d"}]), "inferenceAccelerators"),
    "ephemeralStorage": (a_definition(ephemeralStorage={"sizeInGiB": 30}), "ephemeralStorage"),
    "enableFaultInjection": (a_definition(enableFaultInjection=True), "enableFaultInjection True"),
    "trusted execution": (a_definition(trustedExecutionConfiguration={"isolationMode": "SHARED"}), "trustedExecutionConfiguration"),
    "placementConstraints": (a_definition(placementConstraints=[{"type": "memberOf"}]), "placementConstraints"),
    "Fargate only": (a_definition(requiresCompatibilities=["FARGATE"]), "requiresCompatibilities ['FARGATE']"),
    "unknown compatibility": (a_definition(requiresCompatibilities=["EC2", "MOON"]), "requiresCompatibilities 'MOON'"),
    "Windows": (a_definition(runtimePlatform={"operatingSystemFamily": "WINDOWS_SERVER_2022_CORE"}), "operatingSystemFamily"),
    "other CPU": (a_definition(runtimePlatform={"cpuArchitecture": "ARM64"}), "this machine is 'X86_64'"),
    "repositoryCredentials": (a_definition({"repositoryCredentials": {"credentialsParameter": "x"}}, executionRoleArn="role"), "they come with BERTH_CREDENTIALS_SOURCE=sts"),
    "links": (a_definition({"links": ["db"]}), "containerDefinitions[0].links ['db']: not supported"),
    "restartPolicy": (a_definition({"restartPolicy": {"enabled": True}}), "restartPolicy"),
    "environmentFiles": (a_definition({"environmentFiles": [{"type": "s3", "value": "x"}]}), "environmentFiles"),
    "volumesFrom": (a_definition({"volumesFrom": [{"sourceContainer": "x"}]}), "volumesFrom"),
    "secrets": (a_definition({"secrets": [{"name": "A", "valueFrom": "b"}]}), "secrets [{name, valueFrom}]"),
    "hostname": (a_definition({"hostname": "h"}), "hostname 'h'"),
    "disableNetworking": (a_definition({"disableNetworking": True}), "disableNetworking"),
    "dnsServers": (a_definition({"dnsServers": ["1.1.1.1"]}), "dnsServers"),
    "dnsSearchDomains": (a_definition({"dnsSearchDomains": ["x"]}), "dnsSearchDomains"),
    "extraHosts": (a_definition({"extraHosts": [{"hostname": "a", "ipAddress": "1.1.1.1"}]}), "extraHosts"),
    "GPU": (a_definition({"resourceRequirements": [{"type": "GPU", "value": "1"}]}), "resourceRequirements"),
    "FireLens": (a_definition({"firelensConfiguration": {"type": "fluentbit"}}), "firelensConfiguration"),
    "credentialSpecs": (a_definition({"credentialSpecs": ["x"]}), "credentialSpecs"),
    "versionConsistency": (a_definition({"versionConsistency": "enabled"}), "versionConsistency 'enabled'"),
    "awslogs": (
        a_definition({"logConfiguration": {"logDriver": "awslogs"}}),
        (
            "containerDefinitions[0].logConfiguration.logDriver 'awslogs': not supported, there is no CloudWatch Logs "
            "here; supported are fluentd, gelf, journald, json-file, none, splunk, syslog"
        ),
    ),
    "awsfirelens": (a_definition({"logConfiguration": {"logDriver": "awsfirelens"}}), "FireLens is not there"),
    "unknown driver": (a_definition({"logConfiguration": {"logDriver": "paper"}}), "logDriver 'paper': not supported;"),
    "secretOptions": (
        a_definition({"logConfiguration": {"logDriver": "splunk", "secretOptions": [{"name": "t", "valueFrom": "x"}]}}),
        "secretOptions",
    ),
    "port range": (a_definition({"portMappings": [{"containerPortRange": "80-90"}]}), "containerPortRange '80-90'"),
    "maxSwap": (a_definition({"linuxParameters": {"maxSwap": 1}}), "linuxParameters.maxSwap 1"),
    "swappiness": (a_definition({"linuxParameters": {"swappiness": 0}}), "linuxParameters.swappiness 0"),
    "docker volume": (a_definition(volumes=[{"name": "v", "dockerVolumeConfiguration": {"scope": "task"}}]), "dockerVolumeConfiguration"),
    "EFS": (a_definition(volumes=[{"name": "v", "efsVolumeConfiguration": {"fileSystemId": "fs-1"}}]), "volumes[0].efsVolumeConfiguration"),
    "FSx": (a_definition(volumes=[{"name": "v", "fsxWindowsFileServerVolumeConfiguration": {"fileSystemId": "x"}}]), "fsxWindows"),
    "S3 Files": (a_definition(volumes=[{"name": "v", "s3filesVolumeConfiguration": {"fileSystemArn": "x"}}]), "s3filesVolume"),
    "EBS": (a_definition(volumes=[{"name": "v", "configuredAtLaunch": True}]), "configuredAtLaunch"),
}  # fmt: skip

WRONG = {
    "family": (a_definition(family="no spaces"), "family 'no spaces'"),
    "role": (a_definition(taskRoleArn="arn:aws:iam::1:role/x"), "taskRoleArn 'arn:aws:iam::1:role/x'"),
    "task cpu": (a_definition(cpu="lots"), "cpu 'lots': expected CPU units"),
    "task cpu too small": (a_definition(cpu="64"), "cpu '64': expected 128"),
    "task memory": (a_definition(memory="1tb"), "memory '1tb'"),
    "no containers": (a_definition(containerDefinitions=[]), "containerDefinitions: 0 containers"),
    "name": (a_definition({"name": "a b"}), "containerDefinitions[0].name 'a b'"),
    "name missing": (a_definition(containerDefinitions=[{"image": "i", "memory": 9}]), "name ''"),
    "image": (a_definition({"image": ""}), "image ''"),
    "image with spaces": (a_definition({"image": "a b"}), "image 'a b'"),
    "names twice": (pair(second={"name": "app"}), "containerDefinitions.name 'app': expected every name once"),
    "nothing essential": (a_definition({"essential": False}), "no container is essential"),
    "no memory": (a_definition({"memory": None}), "containerDefinitions[0].memory is missing"),
    "little memory": (a_definition({"memory": 4}), "memory 4: expected 6"),
    "memory over task": (a_definition({"memory": 2048}, memory="1gb"), "memory 2048: expected at most the task's memory 1024"),
    "reservation over memory": (a_definition({"memoryReservation": 128}), "memoryReservation 128: expected at most memory 64"),
    "reservations over task": (
        pair({"memory": None, "memoryReservation": 60}, {"memory": None, "memoryReservation": 60}, memory="100"),
        "together 120, expected at most the task's memory 100",
    ),
    "cpu over task": (pair({"cpu": 200}, {"cpu": 200}, cpu="256"), "containerDefinitions.cpu: together 400"),
    "negative cpu": (a_definition({"cpu": -1}), "cpu -1: expected 0"),
    "ports twice": (
        pair({"portMappings": [{"containerPort": 80}]}, {"portMappings": [{"containerPort": 80, "protocol": "tcp"}]}),
        "portMappings '80/tcp': expected every port once",
    ),
    "host port": (a_definition({"portMappings": [{"containerPort": 80, "hostPort": 8080}]}), "hostPort 8080: expected 80"),
    "port zero": (a_definition({"portMappings": [{"containerPort": 0}]}), "containerPort 0: expected 1"),
    "protocol": (a_definition({"portMappings": [{"containerPort": 1, "protocol": "icmp"}]}), "protocol 'icmp'"),
    "app protocol": (a_definition({"portMappings": [{"containerPort": 1, "appProtocol": "x"}]}), "appProtocol 'x'"),
    "port names twice": (
        a_definition({"portMappings": [{"containerPort": 1, "name": "x"}, {"containerPort": 2, "name": "x"}]}),
        "portMappings.name 'x'",
    ),
    "depends on nobody": (a_definition({"dependsOn": [{"containerName": "db", "condition": "START"}]}), "containerName 'db': expected one of app"),
    "depends on itself": (a_definition({"dependsOn": [{"containerName": "app", "condition": "START"}]}), "not itself"),
    "unknown condition": (pair({"dependsOn": [{"containerName": "other", "condition": "READY"}]}), "condition 'READY'"),
    "healthy without check": (pair({"dependsOn": [{"containerName": "other", "condition": "HEALTHY"}]}), "to have a healthCheck"),
    "success of essential": (pair({"dependsOn": [{"containerName": "other", "condition": "SUCCESS"}]}), "not to be essential"),
    "complete of essential": (pair({"dependsOn": [{"containerName": "other", "condition": "COMPLETE"}]}), "not to be essential"),
    "circle": (
        pair(
            {"dependsOn": [{"containerName": "other", "condition": "START"}]},
            {"dependsOn": [{"containerName": "app", "condition": "START"}]},
        ),
        "app -> other -> app is a circle",
    ),
    "health command": (a_definition({"healthCheck": {"command": ["true"]}}), "expected the first word to be 'CMD' or 'CMD-SHELL'"),
    "health without program": (a_definition({"healthCheck": {"command": ["CMD"]}}), "expected a program after 'CMD'"),
    "health interval": (a_definition({"healthCheck": {"command": ["CMD", "x"], "interval": 1}}), "interval 1: expected 5 to 300"),
    "health retries": (a_definition({"healthCheck": {"command": ["CMD", "x"], "retries": 11}}), "retries 11"),
    "health timeout": (a_definition({"healthCheck": {"command": ["CMD", "x"], "timeout": 1}}), "timeout 1"),
    "health start": (a_definition({"healthCheck": {"command": ["CMD", "x"], "startPeriod": 301}}), "startPeriod 301"),
    "stop timeout": (a_definition({"stopTimeout": -1}), "stopTimeout -1"),
    "start timeout": (a_definition({"startTimeout": 1}), "startTimeout 1"),
    "environment name": (a_definition({"environment": [{"name": "A=B", "value": "c"}]}), "environment[0].name 'A=B'"),
    "unknown volume": (a_definition({"mountPoints": [{"sourceVolume": "v", "containerPath": "/v"}]}), "sourceVolume 'v': expected a volume of the task (none"),
    "relative mount": (
        a_definition({"mountPoints": [{"sourceVolume": "v", "containerPath": "v"}]}, volumes=[{"name": "v"}]),
        "containerPath 'v': expected an absolute path",
    ),
    "mount twice": (
        a_definition({"mountPoints": [{"sourceVolume": "v", "containerPath": "/v"}] * 2}, volumes=[{"name": "v"}]),
        "containerPath '/v': expected every path once",
    ),
    "volume name": (a_definition(volumes=[{"name": "a/b"}]), "volumes[0].name 'a/b'"),
    "volumes twice": (a_definition(volumes=[{"name": "v"}, {"name": "v"}]), "volumes.name 'v': expected every name once"),
    "relative source": (a_definition(volumes=[{"name": "v", "host": {"sourcePath": "tmp"}}]), "sourcePath 'tmp'"),
    "ulimit name": (a_definition({"ulimits": [{"name": "x", "softLimit": 1, "hardLimit": 1}]}), "ulimits[0].name 'x'"),
    "ulimit order": (a_definition({"ulimits": [{"name": "nofile", "softLimit": 2, "hardLimit": 1}]}), "softLimit 2: expected at most hardLimit 1"),
    "ulimit twice": (a_definition({"ulimits": [{"name": "nofile", "softLimit": 1, "hardLimit": 1}] * 2}), "expected every name once"),
    "ulimit negative": (a_definition({"ulimits": [{"name": "nofile", "softLimit": -2, "hardLimit": 1}]}), "softLimit -2"),
    "capability": (a_definition({"linuxParameters": {"capabilities": {"add": ["net admin"]}}}), "capabilities.add 'net admin'"),
    "shared memory": (a_definition({"linuxParameters": {"sharedMemorySize": 0}}), "sharedMemorySize 0"),
    "tmpfs size": (a_definition({"linuxParameters": {"tmpfs": [{"containerPath": "/t", "size": 0}]}}), "tmpfs[0].size 0"),
    "tmpfs path": (a_definition({"linuxParameters": {"tmpfs": [{"containerPath": "t", "size": 1}]}}), "tmpfs[0].containerPath 't'"),
    "device": (a_definition({"linuxParameters": {"devices": [{"hostPath": "dev/x", "permissions": ["fly"]}]}}), "permissions 'fly'"),
    "sysctl": (a_definition({"systemControls": [{"namespace": "kernel.hostname", "value": "x"}]}), "systemControls[0].namespace 'kernel.hostname'"),
}  # fmt: skip


def without_none(value):
    if isinstance(value, dict):
        return {key: without_none(one) for key, one in value.items() if one is not None}
    return [without_none(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("case", [*UNSUPPORTED, *WRONG])
def test_what_is_unsupported_or_wrong_is_refused_by_name(case):
    definition, sentence = (UNSUPPORTED | WRONG)[case]
    assert sentence in refusal(without_none(definition))


def test_each_case_of_the_table_is_refused_for_one_reason_only():
    several = {
        case
        for case, (definition, _) in (UNSUPPORTED | WRONG).items()
        if "problems:" in refusal(without_none(definition))
    }
    assert several == {"device"}


def test_all_problems_are_told_at_once():
    text = refusal(
        a_definition({"image": "", "secrets": [{"name": "A", "valueFrom": "b"}]}, networkMode="host")
    )
    assert "3 problems" in text
    for word in ("networkMode", "secrets", "image"):
        assert word in text


def test_what_asks_for_nothing_is_not_refused():
    definition = a_definition(
        {"links": [], "secrets": [], "restartPolicy": {"enabled": False}, "versionConsistency": "disabled"},
        volumes=[],
        placementConstraints=[],
        enableFaultInjection=False,
        runtimePlatform={"cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX"},
        requiresCompatibilities=["FARGATE", "EC2"],
    )
    assert registered(definition, "X86_64")["compatibilities"] == ["EC2"]


def test_defaults_are_filled_in_and_sizes_are_shown_in_plain_units():
    definition = a_definition(
        {
            "portMappings": [{"containerPort": 80}],
            "healthCheck": {"command": ["CMD", "x"]},
            "dependsOn": [],
            "privileged": True,
            "logConfiguration": {"logDriver": "none"},
        },
        cpu=".25 vCPU",
        memory="0.5GB",
        taskRoleArn="web",
        volumes=[{"name": "v"}],
        tags=[{"key": "a", "value": "b"}],
    )
    before = copy.deepcopy(definition)
    document = registered(definition, "X86_64")
    assert definition == before
    assert (document["cpu"], document["memory"]) == ("256", "512")
    assert "tags" not in document
    assert document["volumes"] == [{"name": "v", "host": {}}]
    (container,) = document["containerDefinitions"]
    assert container["essential"] is True
    assert container["portMappings"] == [{"containerPort": 80, "hostPort": 80, "protocol": "tcp"}]
    assert container["healthCheck"] == {"command": ["CMD", "x"], "interval": 30, "timeout": 5, "retries": 3}
    assert {one["name"] for one in document["requiresAttributes"]} >= {
        "com.amazonaws.ecs.capability.privileged-container",
        "com.amazonaws.ecs.capability.logging-driver.none",
        "com.amazonaws.ecs.capability.task-iam-role",
        "ecs.capability.container-health-check",
        "ecs.capability.task-cpu-mem-limit",
        "ecs.capability.task-eni",
    }


SECRET = "arn:aws:secretsmanager:us-east-1:111122223333:secret:registry/web-AbCdEf"


def with_secret(secret=SECRET, **changes):
    return a_definition({"repositoryCredentials": {"credentialsParameter": secret}}, **changes)


@pytest.mark.parametrize("secret", [SECRET, "registry/web"])
def test_a_login_in_secrets_manager_is_taken_where_roles_have_credentials(secret):
    document = registered(with_secret(secret, executionRoleArn="pull"), "X86_64", has_role_credentials=True)
    assert document["containerDefinitions"][0]["repositoryCredentials"] == {"credentialsParameter": secret}
    name = "ecs.capability.private-registry-authentication.secretsmanager"
    assert {"name": name} in document["requiresAttributes"]


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        (with_secret(), "repositoryCredentials: expected executionRoleArn beside it"),
        (with_secret("", executionRoleArn="pull"), "credentialsParameter '': expected the name or the ARN"),
        (
            with_secret("arn:aws:ssm:us-east-1:111122223333:parameter/x", executionRoleArn="pull"),
            "containerDefinitions[0].repositoryCredentials.credentialsParameter 'arn:aws:ssm:us-east-1:",
        ),
    ],
)
def test_a_login_in_secrets_manager_needs_a_secret_and_a_role(definition, words):
    with pytest.raises(ClientFault) as refused:
        registered(definition, "X86_64", has_role_credentials=True)
    assert words in str(refused.value)
