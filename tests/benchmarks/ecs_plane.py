"""The stand-in control plane in a process of its own, so that its work is not taken for the agent's or ours.

Both ends are here. Lines of JSON go in and out; all times are of the monotonic clock, which is the same in
every process of a machine. What has a time has the one at which the stand-in's socket had it, read from its
journal afterwards.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from tests.benchmarks.stage import DEFINITION, MOST_PER_CALL, TREE, Unmeasurable
from tests.fakes.ecs.control_plane import ControlPlane
from tests.fakes.ecs.records import NotSeen
from tests.fakes.ecs.tasks import ContainerPlan, Eni, TaskPlan

LIMIT = 120.0
"""Seconds for anything that is waited for."""


class Plane:
    """The end of the benchmark. Every method asks the other process; errors are ``Unmeasurable``."""

    def __init__(self, cluster: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.ecs_plane", cluster],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=TREE,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has gone already
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def environment(self) -> dict[str, str]:
        """The variables of an agent that should register here."""
        found: dict[str, str] = self._ask("environment")
        return found

    def certificate(self) -> Path:
        """What an agent must trust."""
        return Path(self._ask("certificate"))

    def new_tasks(self, interfaces: Iterable[Eni]) -> list[str]:
        """One task for each interface, of which the agent hears nothing yet; the ARNs."""
        arns: list[str] = self._ask("new_tasks", interfaces=[asdict(each) for each in interfaces])
        return arns

    def announce(self, arns: list[str]) -> None:
        """Tell the agent which interfaces will appear, and wait until it knows."""
        self._ask("announce", arns=arns)

    def attached(self, arns: list[str]) -> list[float]:
        """Wait for the interfaces of all these tasks; when the call that reports each came."""
        found: list[float] = self._ask("attached", arns=arns)
        return found

    def send(self, arns: list[str], status: str) -> float:
        """Send payloads that want that status; when the first of them was about to be made."""
        return float(self._ask("send", arns=arns, status=status))

    def reached(self, arns: list[str], status: str) -> list[float]:
        """Wait until all tasks are reported so; when the call that reports each came."""
        found: list[float] = self._ask("reached", arns=arns, status=status)
        return found

    def registered(self, after: float) -> float:
        """When the first registration after that time came."""
        return float(self._ask("registered", after=after))

    def heartbeat(self, after: float) -> float:
        """When the first acknowledgement of a heartbeat of the control channel after that time came."""
        return float(self._ask("heartbeat", after=after))

    def connected(self) -> None:
        """Wait until both channels are open."""
        self._ask("connected")

    def telemetry(self) -> int:
        """How many reports of metrics have come."""
        return int(self._ask("telemetry"))

    def cpu(self) -> float:
        """Seconds of CPU that the stand-in has used."""
        return float(self._ask("cpu"))

    def require_peace(self) -> None:
        """Raise ``Unmeasurable`` if the agent did anything that the protocol does not allow."""
        found = self._ask("problems")
        if found:
            raise Unmeasurable(f"the stand-in complains: {found[:3]}")

    def _ask(self, command: str, **arguments: Any) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps({"command": command, **arguments}) + "\n")
            stdin.flush()
        except BrokenPipeError:
            raise Unmeasurable("the stand-in control plane has ended") from None
        line = stdout.readline()
        if not line:
            raise Unmeasurable("the stand-in control plane has ended")
        answer = json.loads(line)
        if "problem" in answer:
            raise Unmeasurable(f"{command}: {answer['problem']}")
        return answer["result"]


class _Commands:
    """The end of the stand-in. Each public method is a command."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control

    def environment(self) -> dict[str, str]:
        return self._control.environment()

    def certificate(self) -> str:
        return str(self._control.server.certificate_file)

    def new_tasks(self, interfaces: list[dict[str, Any]]) -> list[str]:
        made = [Eni(**{**each, "dns": tuple(each["dns"]), "search": tuple(each["search"])})
                for each in interfaces]  # fmt: skip
        return [self._control.new_task(_plan(), eni).arn for eni in made]

    def announce(self, arns: list[str]) -> None:
        for message_id in [self._control.attach(arn) for arn in arns]:
            self._control.wait_acked(message_id, LIMIT)

    def attached(self, arns: list[str]) -> list[float]:
        for arn in arns:
            self._control.wait_attached(arn, LIMIT)
        return self._reports(arns, lambda body: bool(body.get("attachments")))

    def send(self, arns: list[str], status: str) -> float:
        began = time.monotonic()
        for first in range(0, len(arns), MOST_PER_CALL):
            tasks = [self._control.task(arn) for arn in arns[first : first + MOST_PER_CALL]]
            self._control.send_payload(*tasks, desired_status=status)
        return began

    def reached(self, arns: list[str], status: str) -> list[float]:
        for arn in arns:
            self._control.wait_status(arn, status, LIMIT)
        return self._reports(arns, lambda body: body.get("status") == status)

    def registered(self, after: float) -> float:
        def found() -> float | None:
            calls = self._control.calls("RegisterContainerInstance")
            return next((each.at for each in calls if each.at > after and each.status == 200), None)

        return self._control.wait_for(found, LIMIT, "a registration") or 0.0

    def heartbeat(self, after: float) -> float:
        def found() -> float | None:
            acks = self._control.messages("acs", "HeartbeatAckRequest")
            return next((each.at for each in acks if each.at > after), None)

        return self._control.wait_for(found, LIMIT, "the acknowledgement of a heartbeat") or 0.0

    def connected(self) -> None:
        for channel in ("acs", "tcs"):
            self._control.wait_connected(channel, LIMIT)

    def telemetry(self) -> int:
        return len(self._control.messages("tcs", "PublishMetricsRequest"))

    def cpu(self) -> float:
        return time.process_time()

    def problems(self) -> list[str]:
        return self._control.problems()

    def _reports(self, arns: list[str], is_meant: Callable[[dict[str, Any]], bool]) -> list[float]:
        first: dict[str, float] = {}
        for call in self._control.calls("SubmitTaskStateChange"):
            if is_meant(call.body):
                first.setdefault(call.body["task"], call.at)
        return [first[arn] for arn in arns]


def _plan() -> TaskPlan:
    """The task that all benchmarks run."""
    (container,) = DEFINITION["containerDefinitions"]
    assert isinstance(container, dict)
    made = ContainerPlan(
        container["name"], container["image"], cpu=container["cpu"], memory=container["memory"]
    )
    return TaskPlan((made,), family=str(DEFINITION["family"]))


def main(cluster: str) -> None:
    """Answer the lines of standard input until it ends."""
    with ControlPlane(cluster) as control:
        commands = _Commands(control)
        for line in sys.stdin:
            request = json.loads(line)
            command = getattr(commands, request.pop("command"))
            try:
                answer = {"result": command(**request)}
            except NotSeen as problem:
                answer = {"problem": str(problem)[:2000]}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
