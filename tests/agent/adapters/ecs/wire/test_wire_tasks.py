import json
from datetime import timedelta
from ipaddress import IPv4Interface

import pytest
from hypothesis import HealthCheck as Check
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.adapters.ecs.wire.tasks import (
    InvalidTask,
    TaskPlace,
    desired_stop,
    read_task,
    task_arn,
    without_secrets,
)
from agent.model.ids import CredentialsId, RoleArn, TaskArn
from agent.model.observation import PAUSE_NAME
from agent.model.spec import (
    Condition,
    ContainerSpec,
    Dependency,
    DockerOverlay,
    HealthCheck,
    LoginSource,
    MountPoint,
    PortMapping,
    PullBehavior,
    RegistryAuthentication,
    TaskRole,
    Volume,
)
from tests.agent.adapters.ecs.wire.recorded import (
    ARN,
    NOON,
    PLACE,
    a_container,
    a_raw_task,
    a_role,
    an_eni,
    recorded,
)
from tests.agent.adapters.ecs.wire.test_wire_fields import JSON
from tests.agent.adapters.ecs.wire.test_wire_messages import mutated

RICH = a_raw_task(
    a_container(
        containerArn="arn:container",
        command=["run"],
        entryPoint=["/bin/sh", "-c"],
        environment={"B": "2", "A": "1", "NONE": None},
        overrides='{"command":["other","thing"]}',
        dockerConfig={
            "version": "1.19",
            "config": '{"User":"1000","healthcheck":{"Test":["CMD-SHELL","true"],"Interval":10000000000,"Timeout":1,"Retries":2,"StartPeriod":7000000000}}',
            "hostConfig": '{"CapAdd":["SYS_PTRACE"],"CapDrop":[]}',
        },
        healthCheckType="docker",
        portMappings=[
            {"containerPort": 80, "hostPort": 0, "protocol": "TCP"},
            {"containerPort": 53, "protocol": "udp"},
        ],
        mountPoints=[{"sourceVolume": "v", "containerPath": "/srv", "readOnly": True}],
        dependsOn=[{"containerName": "init", "condition": "SUCCESS"}],
        startTimeout=60,
        stopTimeout=30,
        links=[],
        volumesFrom=None,
        restartPolicy={"enabled": False},
        registryAuthentication={
            "type": "ecr",
            "ecrAuthData": {"registryId": "111122223333", "region": "us-west-2", "useExecutionRole": True},
        },
        somethingNew={"x": 1},
    ),
    a_container(
        "init",
        essential=None,
        memory=None,
        overrides="",
        registryAuthentication={
            "type": "asm",
            "asmAuthData": {"credentialsParameter": "arn:secret", "region": "r"},
        },
    ),
    cpu=0.5,
    memory=512,
    group="service:shop",
    overrides="whatever",
    volumes=[{"name": "v", "host": {"sourcePath": "/srv"}}, {"name": "w", "type": "host", "host": None}],
    roleCredentials=a_role(),
    executionRoleCredentials=a_role(credentialsId="cred-2", sessionToken=None),
    pidMode="",
    enableFaultInjection=False,
    trustedExecutionConfiguration={"isolationMode": "SHARED"},
    attachments=[{"attachmentType": "somethingElse"}],
)


def refused(raw, **changes):
    with pytest.raises(InvalidTask) as found:
        read_task({**raw, **changes}, PLACE)
    return found.value


def test_a_task_with_everything_becomes_a_spec_with_everything():
    asked = []
    place = TaskPlace(
        "prod", PullBehavior.ALWAYS, lambda mac: (asked.append(mac), NOON + timedelta(hours=1))[1]
    )
    read = read_task(RICH, place)
    spec = read.spec
    assert asked == ["0a:00:00:00:00:01"]
    assert (spec.arn, spec.cluster, spec.family, spec.revision) == (TaskArn(ARN), "prod", "shop", "7")
    assert (spec.cpu, spec.memory, spec.group, spec.launch_type) == (512, 512, "service:shop", "EC2")
    assert spec.pull_behavior is PullBehavior.ALWAYS
    assert spec.network.expires_at == NOON + timedelta(hours=1)
    assert spec.network.ipv4_addresses[0] == IPv4Interface("10.0.1.5/24")
    assert spec.volumes == (Volume("v", "/srv"), Volume("w"))
    assert spec.task_role == TaskRole(RoleArn("arn:aws:iam::111122223333:role/r"), CredentialsId("cred-1"))
    assert spec.execution_role == TaskRole(
        RoleArn("arn:aws:iam::111122223333:role/r"), CredentialsId("cred-2")
    )
    assert not read.stop
    assert read.task_credentials is not None
    assert read.task_credentials.secret_access_key == "fake-secret-key"
    assert read.execution_credentials is not None
    assert read.execution_credentials.session_token == ""
    assert spec.containers == (
        ContainerSpec(
            name="app",
            image="shop/app:1",
            essential=True,
            cpu=10,
            memory=16,
            command=("other", "thing"),
            entry_point=("/bin/sh", "-c"),
            environment=(("B", "2"), ("A", "1")),
            depends_on=(Dependency("init", Condition.SUCCESS),),
            start_timeout=60,
            stop_timeout=30,
            health_check=HealthCheck(
                ("CMD-SHELL", "true"), interval=10, timeout=1, retries=2, start_period=7
            ),
            port_mappings=(PortMapping(80, 80), PortMapping(53, 53, "udp")),
            mount_points=(MountPoint("v", "/srv", read_only=True),),
            arn="arn:container",
            registry=RegistryAuthentication(
                LoginSource.ECR, region="us-west-2", account="111122223333", uses_execution_role=True
            ),
            overlay=DockerOverlay(
                '{"User":"1000","healthcheck":{"Test":["CMD-SHELL","true"],"Interval":10000000000,"Timeout":1,"Retries":2,"StartPeriod":7000000000}}',
                '{"CapAdd":["SYS_PTRACE"],"CapDrop":[]}',
            ),
        ),
        ContainerSpec(
            name="init",
            image="shop/app:1",
            essential=False,
            cpu=10,
            registry=RegistryAuthentication(
                LoginSource.SECRETS_MANAGER, region="r", uses_execution_role=True, secret="arn:secret"
            ),
        ),
    )


def test_what_is_kept_on_a_disk_has_no_secrets_and_gives_the_same_task():
    kept = without_secrets(RICH)
    assert "fake-secret" not in json.dumps(kept)
    assert "EXAMPLEKEYID" not in json.dumps(kept)
    assert RICH["roleCredentials"]["secretAccessKey"] == "fake-secret-key"
    read = read_task(json.loads(json.dumps(kept)), PLACE)
    assert read.spec == read_task(RICH, PLACE).spec
    assert (read.task_credentials, read.execution_credentials) == (None, None)
    assert without_secrets(
        {"roleCredentials": "fake-secret", "executionRoleCredentials": {"credentialsId": {}}}
    ) == {"executionRoleCredentials": {}}


def test_a_task_that_shall_stop_is_read_and_known_for_it_even_if_it_cannot_be_run():
    running, stopping, *bridges = [payload["tasks"][0] for payload in recorded("PayloadMessage")]
    assert not read_task(running, PLACE).stop
    assert read_task(stopping, PLACE).stop
    assert read_task(stopping, PLACE).spec.network == read_task(running, PLACE).spec.network
    for bridge in bridges:
        problem = refused(bridge)
        assert problem.arn == bridge["arn"] == task_arn(bridge)
        assert "network mode bridge" in problem.detail
    assert [desired_stop(each) for each in bridges] == [False, True]
    assert (desired_stop({}), desired_stop({"desiredStatus": ["STOPPED"]})) == (False, False)
    assert (task_arn({}), task_arn({"arn": 7}), task_arn({"arn": "arn:aws:ecs:r:a:task/.."})) == (
        None,
        None,
        None,
    )


def test_docker_does_without_what_is_empty_and_fills_in_its_own():
    container = a_container(
        command=[],
        entryPoint=None,
        overrides='{"command":null}',
        dockerConfig={"config": '{"Healthcheck":{"Test":["CMD","x"]}}', "hostConfig": "null"},
    )
    (spec,) = read_task(a_raw_task(container), PLACE).spec.containers
    assert (spec.command, spec.entry_point) == (None, None)
    assert spec.health_check == HealthCheck(("CMD", "x"), interval=30, timeout=30, retries=3, start_period=0)
    assert spec.overlay.host_config == ""


@pytest.mark.parametrize("test", [["NONE"], [], None])
def test_a_health_check_that_is_switched_off_or_the_images_own_is_not_ours(test):
    config = json.dumps({"Healthcheck": {"Test": test}})
    raw = a_raw_task(a_container(dockerConfig={"config": config}, healthCheckType="DOCKER"))
    assert read_task(raw, PLACE).spec.containers[0].health_check is None


def test_ipc_mode_none_reaches_docker_against_what_the_payload_says():
    raw = a_raw_task(
        a_container(dockerConfig={"hostConfig": '{"ipcmode":"host","Init":true}'}), ipcMode="none"
    )
    overlay = read_task(raw, PLACE).spec.containers[0].overlay
    assert json.loads(overlay.host_config) == {"ipcmode": "host", "Init": True, "IpcMode": "none"}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"networkMode": None}, "network mode bridge"),
        ({"networkMode": "host"}, "network mode host"),
        ({"elasticNetworkInterfaces": []}, "has 0 elastic network interfaces"),
        ({"elasticNetworkInterfaces": [an_eni(), an_eni()]}, "has 2 elastic network interfaces"),
        (
            {
                "elasticNetworkInterfaces": [
                    an_eni(
                        interfaceAssociationProtocol="vlan",
                        interfaceVlanProperties={
                            "vlanId": "1",
                            "trunkInterfaceMacAddress": "0a:00:00:00:00:99",
                        },
                    )
                ]
            },
            "eni-1 is connected by vlan",
        ),
        ({"associations": [{"type": "gpu", "name": "0"}]}, "associations (GPUs"),
        ({"proxyConfiguration": {"type": "APPMESH"}}, "a proxy (App Mesh)"),
        ({"pidMode": "host"}, "pidMode host"),
        ({"ipcMode": "task"}, "ipcMode task"),
        ({"enableFaultInjection": True}, "fault injection"),
        ({"trustedExecutionConfiguration": {"isolationMode": "EXCLUSIVE"}}, "isolationMode EXCLUSIVE"),
        ({"attachments": [{"attachmentType": "serviceconnectdetail"}]}, "Service Connect"),
        ({"attachments": [{"attachmentType": "AmazonEBS"}]}, "volumes of EBS"),
        ({"attachments": [{"attachmentType": "s3files"}]}, "volumes of S3 Files"),
        (
            {"volumes": [{"name": "v", "type": "docker", "dockerVolumeConfiguration": {}}]},
            "volume v is of type docker",
        ),
        ({"volumes": [{"name": "v", "type": "efs"}]}, "volume v is of type efs"),
        ({"volumes": [{"name": "v", "type": "tape"}]}, 'unrecognized volume type: "tape"'),
        ({"volumes": [{"type": "host"}]}, "invalid Volume; must include a name"),
        ({"volumes": [{"name": "v"}, {"name": "v"}]}, 'volumes[1].name: "v" is wrong'),
        ({"volumes": [{"name": "v", "host": {"sourcePath": "../x"}}]}, "volumes[0].host.sourcePath"),
        ({"volumes": [{"name": "v", "host": {"sourcePath": "/a:/etc"}}]}, "volumes[0].host.sourcePath"),
        ({"desiredStatus": "PENDING"}, 'desiredStatus: "PENDING" is wrong; expected RUNNING or STOPPED'),
        ({"desiredStatus": None}, "desiredStatus: is not set"),
        ({"cpu": -1}, "cpu: -1 is wrong; expected a number from 0"),
        ({"cpu": float("nan")}, "cpu: NaN is wrong"),
        ({"memory": "512"}, 'memory: "512" is wrong'),
        ({"family": "a/b"}, 'family: "a/b" is wrong'),
        ({"containers": None}, "containers: is not set; expected at least one container"),
        ({"containers": {"app": {}}}, "containers: it is wrong; expected a list of objects"),
        ({"roleCredentials": {}}, "roleCredentials.credentialsId: is not set"),
        ({"roleCredentials": a_role(accessKeyId=None)}, "roleCredentials.accessKeyId: is not set"),
        ({"roleCredentials": "fake-secret"}, "roleCredentials: it is wrong; expected an object"),
        (
            {"executionRoleCredentials": a_role(expiration="2030")},
            'executionRoleCredentials.expiration: "2030"',
        ),
    ],
)
def test_a_task_that_cannot_be_run_as_ordered_is_refused_by_name(changes, named):
    problem = refused(a_raw_task(), **changes)
    assert named in problem.detail
    assert problem.reason == f"UnrecogniedTaskError: Error loading task - {problem.detail}"
    assert problem.arn == ARN
    assert "fake-secret" not in str(problem)


def test_a_task_without_a_usable_arn_cannot_even_be_reported():
    for arn in (None, 7, "arn:aws:ecs:r:a:task/c/../..", "arn:aws:ecs:r:a:task/c/x\n"):
        problem = refused(a_raw_task(), arn=arn)
        assert problem.arn is None
        assert problem.detail.startswith("arn: ")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"name": ""}, "containers[0].name: is not set"),
        ({"name": PAUSE_NAME}, "containers[0].name"),
        ({"image": None}, "containers[0].image: is not set"),
        ({"links": ["db"]}, "container app asks for container links"),
        ({"volumesFrom": [{"sourceContainer": "db"}]}, "volumesFrom"),
        ({"environmentFiles": [{"type": "s3", "value": "arn"}]}, "environment files"),
        ({"secrets": [{"name": "A"}]}, "secrets of Secrets Manager"),
        ({"firelensConfiguration": {"type": "fluentbit"}}, "FireLens"),
        ({"managedAgents": [{"name": "ExecuteCommandAgent"}]}, "ECS Exec"),
        ({"credentialSpecs": ["credentialspec:file://x"]}, "gMSA"),
        ({"restartPolicy": {"enabled": True}}, "restartPolicy"),
        ({"logsAuthStrategy": "ExecutionRole"}, "logsAuthStrategy ExecutionRole"),
        ({"healthCheckType": "http"}, 'containers[0].healthCheckType: "http" is wrong; expected docker'),
        (
            {"overrides": '{"command":[],"cpu":1}'},
            "containers[0].overrides has 'cpu'; only command can be overridden",
        ),
        ({"overrides": "[]"}, "containers[0].overrides: it is wrong; expected the text of a JSON object"),
        ({"overrides": {"command": []}}, "containers[0].overrides: it is wrong; expected a text"),
        (
            {"dockerConfig": {"config": "[]"}},
            "containers[0].dockerConfig.config: it is wrong; expected the text",
        ),
        ({"dockerConfig": {"hostConfig": "{"}}, "containers[0].dockerConfig.hostConfig: it is wrong"),
        (
            {"dockerConfig": {"config": '{"Healthcheck":{"Test":"x"}}'}},
            "containers[0].dockerConfig.config.Healthcheck.Test",
        ),
        ({"dockerConfig": {"config": '{"Healthcheck":7}'}}, "containers[0].dockerConfig.config.Healthcheck"),
        (
            {"portMappings": [{"containerPortRange": "80-90"}]},
            "containers[0].portMappings[0].containerPortRange",
        ),
        ({"portMappings": [{}]}, "containers[0].portMappings[0].containerPort: is not set"),
        ({"portMappings": [{"containerPort": 65536}]}, "containers[0].portMappings[0].containerPort: 65536"),
        ({"portMappings": [{"containerPort": 1, "protocol": "icmp"}]}, "expected tcp or udp"),
        (
            {"mountPoints": [{"sourceVolume": "v", "containerPath": "srv"}]},
            "containers[0].mountPoints[0].containerPath",
        ),
        (
            {"dependsOn": [{"containerName": "app", "condition": "CREATE"}]},
            "containers[0].dependsOn[0].condition",
        ),
        ({"registryAuthentication": {"type": "magic"}}, "containers[0].registryAuthentication.type"),
        (
            {"registryAuthentication": {"type": "ecr"}},
            "containers[0].registryAuthentication.ecrAuthData: is not set",
        ),
        (
            {"registryAuthentication": {"type": "asm"}},
            "containers[0].registryAuthentication.asmAuthData: is not set",
        ),
        ({"command": "fake-secret"}, "containers[0].command: it is wrong; expected a list of texts"),
        ({"environment": {"A": 1}}, "containers[0].environment.A: it is wrong; expected a text"),
        ({"stopTimeout": "soon"}, 'containers[0].stopTimeout: "soon" is wrong'),
    ],
)
def test_a_container_that_cannot_be_run_as_ordered_is_refused_by_name(changes, named):
    problem = refused(a_raw_task(a_container(**changes)))
    assert named in problem.detail
    assert not problem.is_understood
    assert "fake-secret" not in str(problem)


def test_two_containers_of_one_name_are_refused():
    assert 'containers[1].name: "app" is wrong' in refused(a_raw_task(a_container(), a_container())).detail


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (
            a_raw_task(a_container(dependsOn=[{"containerName": "nobody", "condition": "START"}])),
            f"TaskDependencyError: Task dependencies cannot be resolved, taskArn: {ARN}",
        ),
        (
            a_raw_task(
                a_container("a", dependsOn=[{"containerName": "b", "condition": "START"}]),
                a_container("b", dependsOn=[{"containerName": "a", "condition": "HEALTHY"}]),
                a_container("c"),
            ),
            f"TaskDependencyError: Task dependencies cannot be resolved, taskArn: {ARN}",
        ),
        (
            a_raw_task(a_container(healthCheckType="docker", dockerConfig={"config": "{}"})),
            "DockerClientConfigError: docker health check is nil while container health check type is DOCKER",
        ),
        (
            a_raw_task(a_container(mountPoints=[{"sourceVolume": "nope", "containerPath": "/x"}])),
            "HostConfigError: Invalid volume referenced: nope",
        ),
        (
            a_raw_task(a_container(memory=64), memory=32),
            (
                f"ResourceInitializationError: resource cannot be initialized for task {ARN}: task memory spec "
                "builder: container memory limit(64) greater than task memory limit(32)"
            ),
        ),
    ],
)
def test_a_task_that_contradicts_itself_is_refused_in_the_words_of_ecs(task, reason):
    problem = refused(task)
    assert (problem.reason, problem.detail, problem.is_understood) == (reason, reason, True)


@settings(max_examples=300, suppress_health_check=[Check.too_slow])
@given(st.data())
def test_a_task_with_something_wrong_is_read_or_refused_and_nothing_else(data):
    raw = mutated(data.draw, mutated(data.draw, RICH))
    kept = without_secrets(raw)
    assert desired_stop(raw) in (True, False)
    for each in (raw, kept):
        try:
            assert read_task(each, PLACE).spec.containers
        except InvalidTask as error:
            assert "fake-secret" not in str(error)  # noqa: PT017


@given(st.dictionaries(st.sampled_from([*RICH, "attachments"]), JSON))
def test_any_json_is_a_task_or_none(raw):
    try:
        assert read_task({**a_raw_task(), **raw}, PLACE).spec.arn
    except InvalidTask as error:
        assert error.reason  # noqa: PT017
