"""What the agent and the host say to each other: one JSON object per line, both ways. Pure."""

from __future__ import annotations

from cni_plugins.skeleton import document
from cni_plugins.skeleton.record import Record
from cni_plugins.skeleton.run import Answer

LARGEST_REQUEST = 4 << 20
DEFAULT_DEADLINE_MS = 60_000
LONGEST_DEADLINE_MS = 600_000


class PluginCall(Record):
    """One plugin to run: its type, its whole environment, and what it finds on stdin."""

    type: str
    environment: dict[str, str]
    stdin: bytes


class Request(Record):
    """A chain of calls, run in order, with one deadline for all."""

    id: int | str
    deadline_s: float
    stop_on_error: bool
    calls: tuple[PluginCall, ...]


class Reply(Record):
    """One call's outcome, as if the plugin had been executed."""

    exit: int
    stdout: str
    stderr: str


class BadRequest(Exception):
    """A line that is no request: `id` is its id if it has one, so that the sender can be told."""

    def __init__(self, message: str, identity: int | str | None) -> None:
        super().__init__(message)
        self.id = identity


def parse_request(line: bytes) -> Request:
    """Read one line. Raises BadRequest that names the field, the value and what was expected."""
    try:
        keys = document.decode(line)
    except ValueError as error:
        raise BadRequest(f"not JSON: {error}", None) from error
    if not isinstance(keys, dict):
        raise BadRequest("not a JSON object", None)
    identity = keys.get("id")
    if not isinstance(identity, int | str):
        raise BadRequest(f"id is {identity!r}, expected a number or a string", None)
    deadline, stop, calls = (
        keys.get("deadline_ms", DEFAULT_DEADLINE_MS),
        keys.get("stop_on_error", True),
        keys.get("calls"),
    )
    if not isinstance(deadline, int) or isinstance(deadline, bool) or not 0 < deadline <= LONGEST_DEADLINE_MS:
        raise BadRequest(f"deadline_ms is {deadline!r}, expected 1 to {LONGEST_DEADLINE_MS}", identity)
    if not isinstance(stop, bool):
        raise BadRequest(f"stop_on_error is {stop!r}, expected true or false", identity)
    if not isinstance(calls, list):
        raise BadRequest(f"calls is {calls!r}, expected a list", identity)
    return Request(identity, deadline / 1000, stop, tuple(_parse_call(entry, identity) for entry in calls))


def format_reply(reply: Reply) -> str:
    """The line in which a child tells its parent about one finished call."""
    return document.encode({"exit": reply.exit, "stdout": reply.stdout, "stderr": reply.stderr}) + "\n"


def format_response(
    identity: int | str | None, replies: list[str], *, timed_out: bool, error: str = ""
) -> bytes:
    """The line that answers a request; `replies` are encoded already."""
    told = f',"error":{document.encode(error)}' if error else ""
    head, late = document.encode(identity), document.encode(timed_out)
    return f'{{"id":{head},"replies":[{",".join(replies)}],"timed_out":{late}{told}}}\n'.encode()


def reply_to(answer: Answer, stderr: bytes) -> Reply:
    """A plugin's answer with what was said on stderr meanwhile."""
    return Reply(answer.exit, answer.stdout, stderr.decode("utf-8", "replace"))


def _parse_call(entry: object, identity: int | str) -> PluginCall:
    if not isinstance(entry, dict):
        raise BadRequest(f"a call is {entry!r}, expected an object", identity)
    kind, environment, config = entry.get("type"), entry.get("env"), entry.get("config")
    if not isinstance(kind, str):
        raise BadRequest(f"type of a call is {kind!r}, expected a string", identity)
    if not isinstance(environment, dict) or not all(isinstance(value, str) for value in environment.values()):
        raise BadRequest(f"env of the call to {kind} is not an object of strings", identity)
    if not isinstance(config, dict):
        raise BadRequest(f"config of the call to {kind} is not an object", identity)
    return PluginCall(kind, environment, document.encode(config).encode())
