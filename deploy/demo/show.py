"""``make demo``: the main job before your eyes, on the real parts. Ends with 0 if all of it was true."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import logs
from deploy.demo import agent, down, neighbour
from deploy.demo.stage import (
    BIN,
    PLACE,
    TREE,
    Untrue,
    act,
    export,
    parsed,
    quiet,
    say,
    show,
    truth,
    wait,
)

BERTH = str(BIN / "berth")
DEFINITIONS = Path(__file__).with_name("definitions")
CREDENTIALS = 'wget -q -O - "http://169.254.170.2$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"'


@dataclass(frozen=True, slots=True)
class Task:
    """A running task as its operator sees it."""

    arn: str
    address: str
    containers: dict[str, str]

    @property
    def id(self) -> str:
        """The last part of its ARN."""
        return self.arn.rsplit("/", 1)[1]


def main() -> int:
    """Show everything; take everything down unless ``KEEP`` is set. The exit code."""
    logs.configure(level="error")
    keep = bool(os.environ.get("KEEP"))  # noqa: TID251 - make passes it on
    try:
        _prepare()
        twins = _the_same_port_twice()
        pair = _two_containers()
        _credentials(twins, pair)
        _introspection(pair)
        _kill_and_restart((*twins, pair))
        if keep:
            _what_to_try_next()
            return 0
        _stop_all()
    except Untrue as untruth:
        print(f"\n[FAILED] {untruth}\n(the agent's log: {agent.LOG_FILE})", file=sys.stderr)
        if not keep:
            down.main()
        return 1
    act("Taking the stage down")
    return down.main()


def _prepare() -> None:
    act("0. An agent on this machine")
    agent.refuse_another()
    down.sweep()
    down.remember()
    agent.write_settings()
    took = agent.start()
    say(f"berth agent: ready after {took:.2f} s; control plane, VPC and endpoint included")
    show(BERTH, "status")
    export(parsed(BERTH, "env", "--json"))
    asyncio.run(neighbour.make())


def _the_same_port_twice() -> tuple[Task, Task]:
    act("1. The same task twice, both on port 80 of an address of its own")
    show(BERTH, "run", str(DEFINITIONS / "nginx-awsvpc.json"), "--count", "2", "--wait")
    first, second = (_task(arn) for arn in _running("nginx-awsvpc"))
    described = parsed(*_aws("describe-tasks", "--tasks", first.arn))["tasks"][0]
    say("aws ecs describe-tasks shows what Amazon ECS shows:")
    seen = {
        "lastStatus": described["lastStatus"],
        "attachments": described["attachments"],
        "containers": [
            {key: each[key] for key in ("name", "lastStatus", "networkInterfaces")}
            for each in described["containers"]
        ],
    }
    print(json.dumps(seen, indent=2))
    details = {each["name"] for each in described["attachments"][0]["details"]}
    wanted = {"subnetId", "networkInterfaceId", "macAddress", "privateIPv4Address"}
    truth("the attachment has subnet, interface, MAC and address", wanted <= details)
    truth("the two have different addresses", first.address != second.address)
    for task in (first, second):
        page = show(*neighbour.enter("wget", "-q", "-O", "-", f"http://{task.address}/"), lines=3)
        truth(f"another host of the VPC fetches port 80 of {task.address}", "berth" in page)
    page = show(*_inside(first, "nginx", f"wget -q -O - http://{second.address}/"), lines=3)
    truth("one task fetches port 80 of the other", "berth" in page)
    return first, second


def _two_containers() -> Task:
    act("2. Two containers in one task share an address and talk over localhost")
    show(BERTH, "run", str(DEFINITIONS / "web-and-api.json"), "--wait")
    task = _task(_running("myapp")[0])
    page = show(*_inside(task, "web", "wget -q -O - http://127.0.0.1:8080/health"))
    truth("web reaches api on 127.0.0.1:8080", page.strip())
    label = f"label=com.amazonaws.ecs.task-arn={task.arn}"
    names = show("docker", "ps", "--filter", label, "--format", "{{.Names}}").split()
    truth("docker ps lists the pause container and two more", len(names) == 3)  # noqa: PLR2004
    pause = quiet("docker", "ps", "-q", "--filter", label, "--filter", "name=internalecspause").strip()
    pid = quiet("docker", "inspect", "-f", "{{.State.Pid}}", pause).strip()
    links = [
        show(*_inside(task, "web", "ip link"), lines=9),
        quiet(*_inside(task, "api", "ip link")),
        quiet("nsenter", f"--net=/proc/{pid}/ns/net", "busybox", "ip", "link"),
    ]
    truth("all three see the same links", len(set(links)) == 1)
    truth(
        "lo, ecs-eth0 (the leg to the agent, MAC 0a:58:...) and eth0 (the ENI)",
        all(word in links[0] for word in (" lo:", " ecs-eth0", " eth0", "0a:58:")),
    )
    return task


def _credentials(twins: tuple[Task, Task], pair: Task) -> None:
    act("3. Credentials of its role for the task, and for nobody else")
    answer = json.loads(quiet(*_inside(pair, "web", CREDENTIALS)))
    say("from inside the task (values of the secret parts left out):")
    show(*_inside(pair, "web", f'{CREDENTIALS} | sed -E \'s/(Key|Token)":"[^"]*/\\1":".../g\''))
    wanted = {"RoleArn", "AccessKeyId", "SecretAccessKey", "Token", "Expiration"}
    truth("the task has its role's credentials", set(answer) == wanted)
    uri = quiet(*_inside(pair, "web", "echo $AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")).strip()
    stolen = show(
        *_inside(twins[0], "nginx", f"wget -q -O - http://169.254.170.2{uri}"),
        shown_as="(in another task) wget http://169.254.170.2$STOLEN_URI",
        fails=True,
    )
    truth("the stolen URL is refused in another task", "SecretAccessKey" not in stolen)
    for task in (*twins, pair):
        name = next(iter(task.containers))
        said = show(*_inside(task, name, "timeout 3 wget -q -O - http://169.254.169.254/"), fails=True)
        # At once, by the task's own routes. Without them the request would leave the task and time out.
        truth(f"169.254.169.254 is unreachable from {task.id[:8]}", "can't connect to remote host" in said)


def _introspection(pair: Task) -> None:
    act("4. What the agent says of itself")
    listing = show("busybox", "wget", "-q", "-O", "-", f"{agent.INTROSPECTION}/v1/tasks", lines=4)
    truth("the introspection API lists the tasks", pair.arn in listing)
    show(BERTH, "explain", pair.id)
    show(BERTH, "run", str(DEFINITIONS / "never-ready.json"))
    arn = _task_arns("never-ready")[0]
    wait("the app waits", lambda: "dependencies_met" in quiet(BERTH, "explain", arn, "--json"))
    text = show(BERTH, "explain", arn)
    truth("explain says what it waits for, and until when", "db" in text)
    show(BERTH, "stop", arn)


def _kill_and_restart(tasks: tuple[Task, ...]) -> None:
    act("5. kill -9 of the agent: nothing lost, nothing twice")
    before = _processes(tasks)
    say(f"kill -9 {agent.kill()}")
    page = show(*neighbour.enter("wget", "-q", "-O", "-", f"http://{tasks[0].address}/"), lines=1)
    truth("the tasks serve on while there is no agent", "berth" in page)
    say(f"berth agent: ready again after {agent.start():.2f} s")
    wait("every task is known again", lambda: len(_running("nginx-awsvpc") + _running("myapp")) == len(tasks))
    show(BERTH, "ps")
    truth("the same containers, process ids and start times", _processes(tasks) == before)
    answer = json.loads(quiet(*_inside(tasks[-1], "web", CREDENTIALS)))
    truth("credentials are served again", answer["SecretAccessKey"])


def _stop_all() -> None:
    act("6. Stop everything; nothing is left")
    for arn in _task_arns():
        show(BERTH, "stop", arn)
    wait("all tasks stop", lambda: not _task_arns(), seconds=90)
    wait("their containers are removed", lambda: not down.leftovers(), seconds=60)
    show(BERTH, "ps", "--all")
    show(BERTH, "leaks")
    found = down.leftovers()
    truth(f"leaks: {len(found)}", not found)


def _what_to_try_next() -> None:
    act("It is left running. Try this next")
    print(
        f"""
    cd {TREE} && export PATH=$PWD/.venv/bin:$PATH BERTH_ENV_FILE=$PWD/{PLACE.relative_to(TREE)}/agent.env
    berth ps; berth status; berth config
    berth run deploy/demo/definitions/nginx-awsvpc.json --count 3 --wait
    berth logs TASK -f; berth explain TASK; berth stop TASK
    eval "$(berth env)"; CLUSTER={agent.CLUSTER}
    aws ecs list-tasks --cluster $CLUSTER
    aws ecs describe-container-instances --cluster $CLUSTER --container-instances \\
        $(aws ecs list-container-instances --cluster $CLUSTER --query containerInstanceArns --output text)
    busybox wget -q -O - http://TASK-ADDRESS/    # this machine is a host of the VPC, too
    make demo-down                               # remove every trace
"""
    )


def _task(arn: str) -> Task:
    described = parsed(BERTH, "describe", arn, "--json")
    task = described["tasks"][0] if "tasks" in described else described
    details = {each["name"]: each["value"] for each in task["attachments"][0]["details"]}
    return Task(
        arn=task["taskArn"],
        address=details["privateIPv4Address"],
        containers={each["name"]: each["runtimeId"] for each in task["containers"]},
    )


def _inside(task: Task, container: str, script: str) -> tuple[str, ...]:
    return ("docker", "exec", task.containers[container][:12], "sh", "-c", script)


def _aws(*words: str) -> tuple[str, ...]:
    return (str(BIN / "aws"), "ecs", words[0], "--cluster", agent.CLUSTER, *words[1:])


def _task_arns(family: str | None = None) -> list[str]:
    chosen = () if family is None else ("--family", family)
    listed: list[str] = parsed(*_aws("list-tasks", *chosen))["taskArns"]
    return listed


def _running(family: str) -> list[str]:
    arns = _task_arns(family)
    if not arns:
        return []
    tasks: list[dict[str, Any]] = parsed(*_aws("describe-tasks", "--tasks", *arns))["tasks"]
    return sorted(task["taskArn"] for task in tasks if task["lastStatus"] == "RUNNING")


def _processes(tasks: tuple[Task, ...]) -> list[str]:
    ids = [each for task in tasks for each in task.containers.values()]
    return quiet("docker", "inspect", "-f", "{{.Id}} {{.State.Pid}} {{.State.StartedAt}}", *ids).splitlines()


if __name__ == "__main__":
    sys.exit(main())
