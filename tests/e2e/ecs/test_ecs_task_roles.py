"""Credentials that the cluster delivers: to the task whose they are, renewed while it runs, never expired ones."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.e2e.agent_process import BIN, eventually
from tests.e2e.ecs.cluster import READS_CREDENTIALS, Cluster, a_task, web
from tests.e2e.inside import Containers, Network, Result, environment_of, parsed
from tests.fakes.ecs.control_plane import ControlPlane
from tests.fakes.ecs.truth import EXECUTION_ROLE, TASK_ROLE, TaskRecord

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

_SDK = """
import botocore.session, json, sys
keys = botocore.session.get_session().get_credentials().get_frozen_credentials()
print(json.dumps([keys.access_key, keys.secret_key, keys.token]))
"""

_RETRY_AFTER = """
import sys, urllib.error, urllib.request
try:
    urllib.request.urlopen(sys.argv[1], timeout=5)
except urllib.error.HTTPError as error:
    print(error.code, error.headers["Retry-After"])
"""


class Inside:
    """A running task, as a program in it sees its credentials."""

    def __init__(self, cluster: Cluster, containers: Containers, task: TaskRecord) -> None:
        self.task = task
        self.container = cluster.runtime_id(task)
        self.containers = containers
        self.network = Network(containers.pid(self.container))
        path = environment_of(self.network.pid).get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/no-role")
        self.url = f"http://169.254.170.2{path}"

    def asks(self, url: str | None = None, **headers: str) -> Result:
        return self.network.fetch(url or self.url, headers=headers)


def served(task: TaskRecord, role_type: str = TASK_ROLE) -> dict[str, str]:
    """What the endpoint must answer."""
    given = task.credentials[role_type].document()
    return {
        "RoleArn": given["roleArn"],
        "AccessKeyId": given["accessKeyId"],
        "SecretAccessKey": given["secretAccessKey"],
        "Token": given["sessionToken"],
        "Expiration": given["expiration"],
    }


def test_a_program_in_a_task_gets_the_delivered_credentials_with_tools_and_with_an_sdk(
    cluster: Cluster, containers: Containers
) -> None:
    inside = Inside(cluster, containers, cluster.run(a_task(web())))

    assert parsed(containers.run(inside.container, READS_CREDENTIALS)) == served(inside.task)
    # a real SDK with the network and the variables of the task
    variables = environment_of(inside.network.pid)
    done = subprocess.run(
        ["nsenter", f"--net=/proc/{inside.network.pid}/ns/net", str(BIN / "python"), "-c", _SDK],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env={name: value for name, value in variables.items() if name.startswith("AWS_")},
    )
    given = inside.task.credentials[TASK_ROLE]
    assert json.loads(done.stdout) == [given.access_key_id, given.secret_access_key, given.session_token]


def test_nobody_else_gets_them(cluster: Cluster, containers: Containers) -> None:
    one, other = (
        Inside(cluster, containers, task)
        for task in cluster.run_all([a_task(web()), a_task(web(), role=None)])
    )

    assert one.asks().code == 200
    refused = [other.asks(one.url), one.asks(**{"X-Forwarded-For": "10.0.0.1"})]
    assert [each.code for each in refused] == [403, 403]
    assert not any("SecretAccessKey" in each.text for each in refused)
    assert other.asks("http://169.254.170.2/v2/credentials/no-such-id").code == 400


def test_a_task_without_a_role_has_no_credentials(cluster: Cluster, containers: Containers) -> None:
    task = cluster.run(a_task(web(), role=None))

    assert "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI" not in environment_of(
        containers.pid(cluster.runtime_id(task))
    )


def test_renewed_credentials_reach_the_task_while_it_runs(
    cluster: Cluster, control: ControlPlane, containers: Containers
) -> None:
    inside = Inside(cluster, containers, cluster.run(a_task(web())))
    before, first = containers.identities([inside.task.arn]), parsed(inside.asks())
    for _ in range(3):
        control.wait_acked(control.send_credentials(inside.task.arn))
        assert parsed(inside.asks()) == served(inside.task)
    assert parsed(inside.asks()) != first
    assert containers.identities([inside.task.arn]) == before


def test_expired_credentials_are_never_given(
    cluster: Cluster, control: ControlPlane, containers: Containers
) -> None:
    inside = Inside(cluster, containers, cluster.run(a_task(web())))
    control.wait_acked(control.send_credentials(inside.task.arn, lifetime_s=3))
    short = served(inside.task)

    def answer() -> Any:
        given = inside.asks()
        # They end at a whole second; whatever is given is given before that.
        assert given.code == 503 or parsed(given) == short
        return given if given.code == 503 else None

    refused = eventually("they are over", answer, seconds=6)
    assert "SecretAccessKey" not in refused.text
    hint = inside.network.run(sys.executable, "-I", "-c", _RETRY_AFTER, inside.url)
    assert hint.text.split() == ["503", "1"], hint
    control.wait_acked(control.send_credentials(inside.task.arn))
    assert parsed(inside.asks()) == served(inside.task)


def test_credentials_end_with_their_task(
    cluster: Cluster, control: ControlPlane, containers: Containers
) -> None:
    inside, other = (
        Inside(cluster, containers, task) for task in cluster.run_all([a_task(web()), a_task(web())])
    )
    control.stop_task(inside.task.arn, wait=True)

    assert other.asks(inside.url).code in (400, 403)
    assert other.asks().code == 200


def test_credentials_of_the_execution_role_are_not_for_the_task(
    cluster: Cluster, control: ControlPlane, containers: Containers
) -> None:
    sent = cluster.run(a_task(web(), execution_role="e2eExecution"))
    inside = Inside(cluster, containers, sent)
    execution = sent.credentials[EXECUTION_ROLE]
    payload = control.messages("acs", "PayloadMessage", "out")[-1].body["messageId"]
    acked = control.wait_acked(payload).acks
    assert {
        f"IAMRoleCredentialsAckRequest:{each.credentials_id}" for each in sent.credentials.values()
    } < set(acked)

    url = f"http://169.254.170.2/v2/credentials/{execution.credentials_id}"
    refused = inside.asks(url)
    assert refused.code == 403
    assert "SecretAccessKey" not in refused.text
    assert parsed(inside.asks()) == served(sent)
    control.wait_acked(control.send_credentials(sent.arn, EXECUTION_ROLE))
    assert inside.asks(url).code == 403
    assert parsed(inside.asks()) == served(sent), "the other role's are not touched"
