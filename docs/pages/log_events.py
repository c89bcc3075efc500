"""``docs/log-events.md``: every event that the agent logs, found by walking its syntax trees."""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from docs.pages.problems import Undocumented
from docs.pages.source import nodes
from docs.pages.table import code, table

ROOT = Path(__file__).resolve().parents[2]
EVENT = re.compile(r"[a-z]+(_[a-z]+)*\.[a-z]+(_[a-z]+)*")
LEVELS = {
    "debug": "debug",
    "info": "info",
    "warning": "warn",
    "error": "error",
    "exception": "error",
    "critical": "crit",
}

_LOGGERS = frozenset({"log", "_log", "logger", "_logger"})
_NAMES_AS_DATA = {"agent/lifecycle/difference.py": "info", "agent/logs.py": "warning"}
"""Files whose events stand in data instead of in calls."""

_INTRODUCTION = """\
# Log events

*Generated from the calls in `agent/`. A renamed event is a visible change.*

Every line has `timestamp` (UTC), `level` and `event`; lines about a task carry `task_id`. The name of an
event is constant, everything variable is a key of its own. Keys that look secret are blotted out. One
event name is written a limited number of times per second (`BERTH_LOG_LINES_PER_SECOND`); what was left
out is counted in `lines.suppressed`.
"""


@dataclass(frozen=True, slots=True)
class LogCall:
    """One place that logs. ``name`` None: the event is no literal."""

    path: str
    line: int
    name: str | None
    level: str
    keys: tuple[str, ...]


def page() -> str:
    """The whole text. Raise ``Undocumented`` if an event is no literal or is badly named."""
    calls = list(log_calls())
    bad = [call for call in calls if call.name is None or not EVENT.fullmatch(call.name)]
    if bad:
        places = "; ".join(f"{call.path}:{call.line} ({call.name or 'no literal'})" for call in bad)
        raise Undocumented(f"an event must be a literal noun.past_participle: {places}")
    rows = []
    for name in sorted({call.name for call in calls if call.name}):
        same = [call for call in calls if call.name == name]
        keys = sorted({key for call in same for key in call.keys})
        rows.append(
            (
                code(name),
                ", ".join(sorted({call.level for call in same})),
                ", ".join(code(key) for key in keys) or "-",
                ", ".join(sorted({code(call.path.removeprefix("agent/")) for call in same})),
            )
        )
    return "\n".join((_INTRODUCTION, table(("event", "level", "keys", "logged by"), rows))) + "\n"


def log_calls(root: Path = ROOT) -> Iterator[LogCall]:
    """Every event in the agent's source, in the order of files and lines."""
    for path in sorted((root / "agent").rglob("*.py")):
        relative = path.relative_to(root).as_posix()
        if relative in _NAMES_AS_DATA:
            yield from _named_in_data(relative, nodes(path))
        yield from _with_a_chosen_level(relative, nodes(path))
        passed_on = {id(node) for node in _calls_that_pass_on(nodes(path))}
        for node in nodes(path):
            if isinstance(node, ast.Call) and _is_log_call(node) and id(node) not in passed_on:
                yield _described(relative, node)


def _named_in_data(path: str, found: Iterable[ast.AST]) -> Iterator[LogCall]:
    for node in found:
        if not isinstance(node, ast.Tuple | ast.Dict | ast.Call):
            continue
        literals = _literals(node)
        if literals:
            level = LEVELS[_NAMES_AS_DATA[path]]
            keys = tuple(
                sorted({key for inner in ast.walk(node) for key in _keys(inner)} - {"event", "level"})
            )
            yield LogCall(path, node.lineno, literals[0], level, keys)


def _literals(node: ast.Tuple | ast.Dict | ast.Call) -> list[str]:
    parts: list[ast.expr] = []
    if isinstance(node, ast.Tuple):
        parts = node.elts[:1]
    elif isinstance(node, ast.Dict):
        parts = [value for key, value in zip(node.keys, node.values, strict=True) if _text(key) == "event"]
    elif not _is_log_call(node):
        parts = node.args[:1]
    texts = [_text(part) for part in parts]
    return [text for text in texts if text is not None and EVENT.fullmatch(text)]


def _keys(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Dict):
        # {**who, …} in difference.py: who is a container, or "of" the task or its sandbox
        spread = ["container", "of"] if None in node.keys else []
        return [text for key in node.keys if (text := _text(key)) is not None] + spread
    if isinstance(node, ast.Call):
        return [keyword.arg for keyword in node.keywords if keyword.arg and keyword.arg != "exc_info"]
    return []


def _calls_that_pass_on(found: Iterable[ast.AST]) -> Iterator[ast.Call]:
    """``for event, fields in differences(…): log.info(event, …)``: the names stand in ``difference.py``."""
    for loop in found:
        if (
            isinstance(loop, ast.For)
            and isinstance(loop.iter, ast.Call)
            and isinstance(loop.iter.func, ast.Name)
            and loop.iter.func.id == "differences"
        ):
            yield from (node for node in ast.walk(loop) if isinstance(node, ast.Call) and _is_log_call(node))


def _with_a_chosen_level(path: str, found: Iterable[ast.AST]) -> Iterator[LogCall]:
    """``note = log.info if … else log.warning``, and then ``note(event, …)`` in the same function."""
    for function in found:
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        inner = list(ast.walk(function))
        chosen = {
            target.id: (node.value.body, node.value.orelse)
            for node in inner
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.IfExp)
            for target in node.targets
            if isinstance(target, ast.Name) and _is_log_method(node.value.body)
        }
        for node in inner:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in chosen:
                for method in chosen[node.func.id]:
                    yield _described(path, node, method)


def _is_log_call(node: ast.Call) -> bool:
    return _is_log_method(node.func)


def _is_log_method(node: ast.expr) -> bool:
    if not isinstance(node, ast.Attribute) or node.attr not in LEVELS:
        return False
    receiver = node.value
    name = receiver.id if isinstance(receiver, ast.Name) else getattr(receiver, "attr", "")
    return name in _LOGGERS


def _described(path: str, node: ast.Call, method: ast.expr | None = None) -> LogCall:
    function = node.func if method is None else method
    if not isinstance(function, ast.Attribute):
        raise Undocumented(f"{path}:{node.lineno}: expected a method of a logger")
    name = _text(node.args[0]) if node.args else None
    return LogCall(path, node.lineno, name, LEVELS[function.attr], tuple(_keys(node)))


def _text(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None
