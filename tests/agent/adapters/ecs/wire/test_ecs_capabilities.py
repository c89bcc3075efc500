from dataclasses import replace

import pytest

from agent.adapters.ecs.wire.capabilities import (
    RULES,
    Abilities,
    Attribute,
    api_version,
    capabilities,
    plugin_version,
)

A = "com.amazonaws.ecs.capability."
B = "ecs.capability."

SPEC = (
    f"{B}private-registry-authentication.secretsmanager",
    f"{B}secrets.ssm.environment-variables", f"{B}secrets.ssm.bootstrap.log-driver",
    f"{B}secrets.asm.environment-variables", f"{B}secrets.asm.bootstrap.log-driver",
    f"{B}ecr-endpoint", f"{B}container-ordering", f"{B}full-sync", f"{B}env-files.s3",
    f"{B}network.container-port-range", f"{B}container-restart-policy",
    f"{A}privileged-container",
    *(f"{A}docker-remote-api.1.{v}" for v in (17, 18, 19, 20, 21, 22, 23, 24, 25, 28, 29, 30, 32)),
    *(f"{A}logging-driver.{d}" for d in (
        "json-file", "syslog", "journald", "none", "gelf", "fluentd", "awslogs", "splunk", "logentries", "sumologic")),
    f"{A}selinux", f"{A}apparmor",
    f"{A}task-iam-role", f"{A}task-iam-role-network-host",
    f"{B}task-cpu-mem-limit", f"{B}increased-task-cpu-limit",
    f"{B}task-eni", f"{B}task-eni.ipv6", f"{B}cni-plugin-version", f"{B}task-eni-block-instance-metadata",
    f"{B}task-eni-trunking", f"{B}branch-cni-plugin-version",
    f"{A}ecr-auth", f"{B}execution-role-ecr-pull",
    f"{B}container-health-check", f"{B}execution-role-awslogs",
    f"{B}docker-plugin.local", f"{B}docker-plugin.<name>",
    f"{B}nvidia-driver-version.<v>", f"{B}gpu-driver-version",
    f"{B}pid-ipc-namespace-sharing", f"{B}aws-appmesh", f"{B}task-eia", f"{B}task-eia.optimized-cpu",
    f"{B}firelens.fluentd", f"{B}firelens.fluentbit", f"{B}firelens.non-root-user",
    f"{A}logging-driver.awsfirelens", f"{B}logging-driver.awsfirelens.log-driver-buffer-limit",
    f"{B}firelens.options.config.file", f"{B}firelens.options.config.s3",
    f"{B}efs", f"{B}storage.s3-files", f"{B}efsAuth", f"{B}gmsa", f"{B}gmsa-domainless",
    f"{B}execute-command", f"{B}service-connect-v1",
    f"{B}storage.ebs-task-volume-attach", f"{B}storage.ebsta-non-root-user",
    f"{B}external", f"{B}fault-injection", f"{B}ipv6-only", f"{B}imds-iam-roles",
)  # fmt: skip
"""ecs-protocol 1.4, attribute by attribute."""

ALL_DRIVERS = (
    "json-file",
    "syslog",
    "journald",
    "none",
    "gelf",
    "fluentd",
    "awslogs",
    "splunk",
    "logentries",
    "sumologic",
)
EVERYTHING = Abilities(
    (1, 17), (1, 47), cni_version="eb1fbff-0.1.0", logging_drivers=ALL_DRIVERS, has_selinux=True, has_apparmor=True,
    blocks_metadata=True,
)  # fmt: skip
NOTHING = Abilities(
    (1, 12), (1, 16), logging_drivers=(), is_privileged_allowed=False, has_task_roles=False, has_task_limits=False,
    has_health_checks=False,
)  # fmt: skip
BUILT = {
    f"{B}private-registry-authentication.secretsmanager", f"{B}ecr-endpoint", f"{B}container-ordering", f"{B}full-sync",
    f"{A}privileged-container", f"{A}selinux", f"{A}apparmor", f"{A}task-iam-role", f"{B}task-cpu-mem-limit",
    f"{B}increased-task-cpu-limit", f"{B}task-eni", f"{B}task-eni.ipv6", f"{B}cni-plugin-version",
    f"{B}task-eni-block-instance-metadata", f"{A}ecr-auth", f"{B}execution-role-ecr-pull", f"{B}container-health-check",
    *(f"{A}docker-remote-api.1.{v}" for v in (17, 18, 19, 20, 21, 22, 23, 24, 25, 28, 29, 30, 32)),
    *(f"{A}logging-driver.{d}" for d in ALL_DRIVERS),
}  # fmt: skip


def names(have):
    return {attribute.name for attribute in capabilities(have)}


def test_the_table_speaks_of_every_attribute_of_the_protocol_once() -> None:
    assert sorted(rule.name for rule in RULES) == sorted(SPEC)
    assert all(rule.why for rule in RULES)


@pytest.mark.parametrize("name", SPEC)
def test_an_attribute_is_said_only_if_it_is_built(name) -> None:
    assert (name in names(EVERYTHING)) == (name in BUILT)


def test_what_depends_on_nothing_is_always_said() -> None:
    assert names(NOTHING) == {
        f"{B}private-registry-authentication.secretsmanager", f"{B}ecr-endpoint", f"{B}container-ordering",
        f"{B}full-sync", f"{B}task-eni", f"{B}task-eni.ipv6", f"{B}cni-plugin-version",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        ({"is_privileged_allowed": False}, {f"{A}privileged-container"}),
        ({"has_selinux": False}, {f"{A}selinux"}),
        ({"has_apparmor": False}, {f"{A}apparmor"}),
        ({"has_task_roles": False}, {f"{A}task-iam-role"}),
        ({"has_task_limits": False}, {f"{B}task-cpu-mem-limit", f"{B}increased-task-cpu-limit"}),
        ({"has_health_checks": False}, {f"{B}container-health-check"}),
        ({"blocks_metadata": False}, {f"{B}task-eni-block-instance-metadata"}),
        ({"logging_drivers": ALL_DRIVERS[1:]}, {f"{A}logging-driver.json-file"}),
    ],
)
def test_each_ability_carries_its_attributes(change, lost) -> None:
    assert names(EVERYTHING) - names(replace(EVERYTHING, **change)) == lost


@pytest.mark.parametrize(
    ("newest", "lost"),
    [
        (
            18,
            {
                "ecr-auth",
                "execution-role-ecr-pull",
                "task-iam-role",
                "logging-driver.journald",
                "logging-driver.none",
            },
        ),
        (21, {"task-cpu-mem-limit", "logging-driver.splunk"}),
        (23, {"container-health-check"}),
        (24, {"logging-driver.logentries"}),
        (28, {"logging-driver.sumologic"}),
    ],
)
def test_an_old_docker_lacks_what_came_later(newest, lost) -> None:
    said = names(replace(EVERYTHING, docker_newest=(1, newest)))
    assert {one for one in lost if f"{A}{one}" in said or f"{B}{one}" in said} == set()
    now_said = names(replace(EVERYTHING, docker_newest=(1, newest + 1)))
    assert all(f"{A}{one}" in now_said or f"{B}{one}" in now_said for one in lost)


def versions(oldest, newest):
    said = names(replace(EVERYTHING, docker_oldest=oldest, docker_newest=newest))
    return sorted(int(name.rpartition(".")[2]) for name in said if "docker-remote-api" in name)


@pytest.mark.parametrize(
    ("oldest", "newest", "said"),
    [
        ((1, 12), (1, 41), [17, 18, 19, 20, 21, 22, 23, 24, 25, 28, 29, 30, 32]),
        ((1, 24), (1, 47), [17, 18, 19, 20, 21, 22, 23, 24, 25, 28, 29, 30, 32]),
        ((1, 44), (1, 52), [17, 18, 19, 20, 21, 22, 23, 24, 25, 28, 29, 30, 32]),
        ((1, 20), (1, 28), [20, 21, 22, 23, 24, 25, 28]),
        ((1, 12), (1, 27), [17, 18, 19, 20, 21, 22, 23, 24, 25]),
    ],
)
def test_versions_of_docker_are_listed_as_the_protocol_has_it(oldest, newest, said) -> None:
    assert versions(oldest, newest) == said


def test_a_driver_that_the_protocol_does_not_know_is_not_said() -> None:
    assert names(replace(EVERYTHING, logging_drivers=("local", "awsfirelens"))) & {
        f"{A}logging-driver.local", f"{A}logging-driver.awsfirelens"} == set()  # fmt: skip


def test_the_version_of_the_plugins_has_a_value_and_nothing_else_has() -> None:
    valued = [attribute for attribute in capabilities(EVERYTHING) if attribute.value is not None]
    assert valued == [Attribute(f"{B}cni-plugin-version", "eb1fbff-0.1.0")]
    assert valued[0].document() == {"name": f"{B}cni-plugin-version", "value": "eb1fbff-0.1.0"}
    assert capabilities(EVERYTHING)[0].document() == {"name": SPEC[0]}


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ('{"version":"0.1.0","dirty":false,"gitShortHash":"eb1fbff"}\n', "eb1fbff-0.1.0"),
        ('{"version":"","dirty":true,"gitShortHash":""}', "-"),
    ],
)
def test_the_version_is_read_from_what_the_plugin_prints(said, version) -> None:
    assert plugin_version(said) == version


@pytest.mark.parametrize("said", ["", "0.1.0", "[]", '{"version":"1"}', '{"version":1,"gitShortHash":"x"}'])
def test_anything_else_is_refused(said) -> None:
    with pytest.raises(ValueError, match="version of the CNI plugin"):
        plugin_version(said)


def test_versions_of_docker_are_compared_as_numbers() -> None:
    assert api_version("1.9") < api_version("1.17") < api_version("1.100")


@pytest.mark.parametrize("said", ["", "1", "1.x", "v1.41", "1.41.0", "1.-1", "1.4\n"])
def test_what_is_no_version_is_refused(said) -> None:
    with pytest.raises(ValueError, match="Docker API version"):
        api_version(said)
