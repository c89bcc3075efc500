"""Nothing secret that a cluster or an operator hands over is written down, shown, sent on or left in a process."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web as http

from tests.e2e.agent_process import BIN, eventually
from tests.e2e.ecs.cluster import JOB, Cluster, EcsAgent, a_task, job, web
from tests.e2e.ecs.conftest import MakeEcsAgent, connected
from tests.e2e.inside import Containers, Network, environment_of, parsed
from tests.fakes.ecs.control_plane import ControlPlane
from tests.fakes.ecs.faults import Fault, refused
from tests.fakes.ecs.serving import LoopbackServer
from tests.fakes.ecs.tasks import ContainerPlan, Json, task_document
from tests.fakes.ecs.truth import EXECUTION_ROLE, TaskRecord

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

PAGES = ("/v1/metadata", "/v1/tasks", "/health", "/berth/v1/tasks", "/berth/v1/config", "/berth/v1/leaks")
PROXY = "fake-secret-proxy-password"
LOGIN = "fake-secret-registry-password"
FETCHED = "fake-secret-from-secrets-manager"
MALFORMED = "fake-secret-in-a-malformed-field"
APP = "fake-secret-of-the-application"
NOWHERE = "127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_proxies_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent would take them before those of its settings."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@dataclass
class Vault:
    """AWS Secrets Manager, with one secret. ``asked``: how often."""

    url: str
    asked: int = 0


@pytest.fixture
def vault() -> Iterator[Vault]:
    """It runs."""

    async def answer(request: http.BaseRequest) -> http.StreamResponse:
        await request.read()
        running.asked += 1
        secret = json.dumps({"username": "reader", "password": FETCHED})
        document = {
            "ARN": "arn:aws:secretsmanager:us-west-2:111122223333:secret:login",
            "SecretString": secret,
        }
        return http.Response(body=json.dumps(document).encode(), content_type="application/x-amz-json-1.1")

    server = LoopbackServer("vault", answer)
    server.start()
    running = Vault(server.url)
    try:
        yield running
    finally:
        server.stop()


def settings_with_secrets(place: Path) -> dict[str, str]:
    """Everything that is logged, to files that the test knows; and secrets wherever a setting takes one."""
    login = {f"http://{NOWHERE}": {"username": "somebody", "password": LOGIN, "email": "x@example"}}
    return {
        "ECS_LOGLEVEL": "debug",
        "ECS_LOGFILE": str(place / "second.log"),
        "ECS_LOG_OUTPUT_FORMAT": "json",
        "ECS_AUDIT_LOGFILE": str(place / "audit.log"),
        "ECS_ENGINE_AUTH_TYPE": "docker",
        "ECS_ENGINE_AUTH_DATA": json.dumps(login),
        "HTTPS_PROXY": f"http://someone:{PROXY}@{NOWHERE}",
        "HTTP_PROXY": f"http://someone:{PROXY}@{NOWHERE}",
        "NO_PROXY": "127.0.0.1,localhost",
    }


def test_no_secret_of_a_cluster_is_to_be_found_anywhere(
    own_cluster: Cluster,
    make_agent: MakeEcsAgent,
    containers: Containers,
    vault: Vault,
    tmp_path: Path,
) -> None:
    control = own_cluster.control
    keys = control.instance_keys
    secrets = {
        "the instance's key": keys.secret_access_key,
        "the instance's token": keys.token or "",
        "the proxy's password": PROXY,
        "the registry's password": LOGIN,
        "the secret from Secrets Manager": FETCHED,
        "a malformed field": MALFORMED,
    }
    agent = make_agent(
        environ={"AWS_ENDPOINT_URL_SECRETS_MANAGER": vault.url}, **settings_with_secrets(tmp_path)
    )

    # A proxy that is not there: the refusal names the proxy, not its password.
    agent.settings["NO_PROXY"] = "nothing.example"
    assert agent.ends(seconds=60) == 1
    assert "cannot connect" in agent.said("agent.failed")[-1]["reason"]
    agent.settings["NO_PROXY"] = "127.0.0.1,localhost"
    connected(agent, own_cluster)

    task = own_cluster.run(
        a_task(web("app", environment={"PASSWORD": APP}), execution_role="fkExecutionRole")
    )
    network = Network(containers.pid(own_cluster.runtime_id(task)))
    path = environment_of(network.pid)["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"]
    url = f"http://169.254.170.2{path}"
    first = task.credentials["TaskApplication"]
    assert parsed(network.fetch(url))["SecretAccessKey"] == first.secret_access_key
    assert network.fetch(f"{url}x").code == 400
    secrets |= _of_roles(task, "first ")
    for role in ("TaskApplication", EXECUTION_ROLE):
        control.wait_acked(control.send_credentials(task.arn, role))
    secrets |= _of_roles(task, "refreshed ")

    plans = [_with_login_from_secrets_manager(), _with_login_from_settings()]
    for failing in own_cluster.run_all(plans, until="STOPPED"):
        assert "Cannot" in json.dumps([body for _, body in failing.history])
        secrets |= _of_roles(failing, f"{failing.arn} ")
    assert vault.asked
    _provoke(own_cluster, agent, keys.token or "", keys.secret_access_key)
    broken = _send_broken_payload(control)
    agent.berth("explain", task.arn.rpartition("/")[2])
    said = [agent.command(str(BIN / "berth"), *words) for words in (("status",), ("ps",))]

    assert all(len(value) >= 16 for value in secrets.values())
    shown = {**secrets, "the application's": APP}
    assert _found(secrets, _files(agent)) == []
    assert _found(shown, _logs(agent, tmp_path)) == []
    assert _found(shown, _answers(agent, task.arn)) == []
    assert _found(_without_the_environment(agent, shown), _processes(agent)) == []
    assert _found(shown, _sent(control)) == []
    assert _found(shown, [(str(each.args), each.stdout + each.stderr) for each in said]) == []
    # the search itself finds what is there
    assert _found({"the ARN": task.arn}, _files(agent))
    assert _found({"the ARN": broken}, _sent(control))
    assert _found({"the ARN": broken}, _logs(agent, tmp_path))

    # Nor after a restart that has read all of it again.
    agent.kill()
    connected(agent, own_cluster)
    eventually("the task is known", lambda: agent.inner(task.arn) is not None)
    assert _found(secrets, _files(agent)) == []
    assert _found(shown, _logs(agent, tmp_path)) == []
    own_cluster.expects("injected", "Signature", "violat")
    for each in list(control.truth.tasks.values()):
        if each.document is not None and not each.is_over:
            control.stop_task(each.arn, wait=True)
    for directory in (agent.data, agent.data / "ecs"):
        for file in directory.glob("*.json"):
            assert file.stat().st_mode & 0o077 == 0, file


# -- what is provoked --------------------------------------------------------------------------


def _with_login_from_secrets_manager() -> Any:
    secret = "arn:aws:secretsmanager:us-west-2:111122223333:secret:login"
    how = {"type": "asm", "asmAuthData": {"credentialsParameter": secret, "region": "us-west-2"}}
    container = ContainerPlan("app", f"{NOWHERE}/none:1", more={"registryAuthentication": how})
    return a_task(container, execution_role="fkExecutionRole")


def _with_login_from_settings() -> Any:
    return a_task(ContainerPlan("app", f"{NOWHERE}/other:1"), execution_role="fkExecutionRole")


def _provoke(cluster: Cluster, agent: EcsAgent, token: str, key: str) -> None:
    """Answers that quote what they were sent, as AWS does when a signature is wrong, and worse."""
    control = cluster.control
    quoting = f"The canonical request was x-amz-security-token:{token} and the secret {token}"
    control.faults.plan("SubmitTaskStateChange", refused("SignatureDoesNotMatch", quoting, 403))
    control.faults.plan("SubmitTaskStateChange", Fault("page", status=502, body=quoting.encode()))
    control.faults.plan("acs", refused("AccessDeniedException", quoting, 403))
    for channel in ("acs", "tcs"):
        control.faults.plan(channel, Fault("page", status=403, body=quoting.encode()))
    for side in (control.acs.side, control.tcs.side):
        side.close(1008, "the test closes")
    cluster.run(a_task(job("exit 0")), until="STOPPED")
    for channel in ("acs", "tcs"):
        control.wait_for(lambda one=channel: not control.faults.left(one), 30, f"{channel} refused")
        control.wait_connected(channel, 30)
    assert key not in quoting


def _send_broken_payload(control: ControlPlane) -> str:
    """Tasks and messages with secrets where something else is wrong; the ARN of the task."""
    arn = control.names.new_task_arn()
    document = task_document(a_task(ContainerPlan("app", JOB)), control.names, arn)
    role = {
        "credentialsId": "broken-id",
        "roleArn": control.names.role_arn("fkTaskRole"),
        "accessKeyId": MALFORMED,
        "secretAccessKey": MALFORMED,
        "sessionToken": MALFORMED,
        "expiration": MALFORMED,
    }
    document["roleCredentials"] = role
    with control.journal.lock:
        record = control.truth.new_task(arn)
        record.document = document
    whole: Json = {
        "messageId": "broken-payload",
        "clusterArn": control.names.cluster_arn,
        "containerInstanceArn": control.instance.arn if control.instance else "",
        "seqNum": control.truth.next_sequence(),
        "tasks": [document],
    }
    text = json.dumps({"type": "PayloadMessage", "message": whole})
    control.send_raw(text)
    control.send_raw(text[:-20])  # cut off
    control.send_raw(text.encode())
    control.send_raw(json.dumps({"type": "MakeCoffeeMessage", "message": {"secretAccessKey": MALFORMED}}))
    for wrong in ({"roleCredentials": role}, {"roleCredentials": [role]}, {"roleType": MALFORMED}):
        control.acs.message("IAMRoleCredentialsMessage", {"messageId": "x", "taskArn": arn, **wrong})
    control.wait_status(arn, "STOPPED")
    return arn


# -- where it is looked for --------------------------------------------------------------------


def _of_roles(task: TaskRecord, which: str) -> dict[str, str]:
    found = {}
    for role, each in task.credentials.items():
        found[f"{which}{role} key"] = each.secret_access_key
        found[f"{which}{role} token"] = each.session_token
    return found


def _found(secrets: Mapping[str, str], places: list[tuple[str, str]]) -> list[tuple[str, str]]:
    assert places
    return [(name, place) for name, value in secrets.items() for place, text in places if value in text]


def _files(agent: EcsAgent) -> list[tuple[str, str]]:
    return [
        (str(file), file.read_bytes().decode("latin-1"))
        for directory in (agent.data, agent.run_directory)
        for file in directory.rglob("*")
        if file.is_file()
    ]


def _logs(agent: EcsAgent, place: Path) -> list[tuple[str, str]]:
    files = [
        agent.log_file,
        *place.glob("second.log*"),
        *place.glob("audit.log*"),
        *agent.data.glob("*.log*"),
    ]
    assert len(files) >= 4, files
    return [(str(file), file.read_text(errors="replace")) for file in files]


def _answers(agent: EcsAgent, arn: str) -> list[tuple[str, str]]:
    pages = (*PAGES, f"/berth/v1/explain?task={arn}", f"/v1/tasks?taskarn={arn}")
    return [(page, json.dumps(agent.get(page)[1])) for page in pages]


def _sent(control: ControlPlane) -> list[tuple[str, str]]:
    """What the agent told the cluster, without the headers in which it proves who it is."""
    bodies = [(call.operation, json.dumps(call.body)) for call in control.calls()]
    return bodies + [(each.type, json.dumps(each.body)) for each in control.messages(direction="in")]


def _without_the_environment(agent: EcsAgent, secrets: dict[str, str]) -> dict[str, str]:
    """Docker hands the lines of an environment file to the process of a container as its environment.

    Whoever may read it there may ask Docker for it, too; so it tells nobody anything new.
    """
    given = "\n".join(agent.settings.values()) if agent.in_container else ""
    return {name: value for name, value in secrets.items() if value not in given}


def _processes(agent: EcsAgent) -> list[tuple[str, str]]:
    return [
        (str(file), file.read_bytes().decode("latin-1"))
        for pid in _family(agent.pid)
        for file in (Path(f"/proc/{pid}/environ"), Path(f"/proc/{pid}/cmdline"))
    ]


def _family(pid: int) -> Iterator[int]:
    yield pid
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            yield from _family(int(child))
