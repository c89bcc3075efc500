import ast
import re
from pathlib import Path

import pytest

from tests.architecture.source import ROOT, modules, tree, where

LONGEST = 400
BANNED_NAMES = {
    "manager",
    "engine",
    "helper",
    "helpers",
    "util",
    "utils",
    "common",
    "misc",
    "core",
    "handler",
    "service",
}
BANNED_CLASS_ENDINGS = re.compile(r"(Manager|Engine|Helper|Util|Utils|Common|Misc|Core|Handler|Service)$")
FROM_OUTSIDE = {"logging.Handler", "BaseHTTPRequestHandler", "StreamRequestHandler"}


def test_no_module_is_longer_than_400_lines() -> None:
    long = {
        where(path): count for path in modules() if (count := len(path.read_text().splitlines())) > LONGEST
    }
    assert long == {}


def test_no_module_has_a_name_that_says_nothing() -> None:
    named = [where(path) for path in modules("agent", "cni_plugins", "pause", "deploy", "docs", "tests")
             if BANNED_NAMES & set(path.relative_to(ROOT).with_suffix("").parts)]  # fmt: skip
    assert named == []


def test_no_class_has_a_name_that_says_nothing() -> None:
    named = [
        f"{where(path, node.lineno)} {node.name}"
        for path in modules()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
        and BANNED_CLASS_ENDINGS.search(node.name)
        # a base class of the library may be called what it likes; ours may not
        and not any(ast.unparse(base) in FROM_OUTSIDE for base in node.bases)
    ]
    assert named == []


def test_every_module_says_first_why_it_exists() -> None:
    silent = [where(path) for path in modules() if path.stat().st_size and not ast.get_docstring(tree(path))]
    assert silent == []


def test_nothing_is_left_for_later_in_the_product() -> None:
    mark = re.compile(r"#.*\b(TODO|FIXME|XXX|HACK)\b|\bNotImplementedError\b")
    left = [
        where(path, number)
        for path in modules()
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if mark.search(line)
    ]
    assert left == []


def test_no_function_of_the_product_has_an_empty_body() -> None:
    empty = []
    for path in modules():
        declared = _only_declared(tree(path))
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and id(node) not in declared:
                body = [each for each in node.body if not _is_docstring(each)]
                if all(
                    isinstance(each, ast.Pass) or _is_ellipsis(each) for each in body
                ) and not _is_abstract(node):
                    empty.append(f"{where(path, node.lineno)} {node.name}")
    assert empty == []


def test_no_exception_is_swallowed_without_a_word() -> None:
    swallowed = []
    for path in modules():
        lines = path.read_text().splitlines()
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.ExceptHandler):
                continue
            kinds = ast.unparse(node.type) if node.type else "everything"
            is_broad = kinds in ("everything", "Exception", "BaseException")
            says_nothing = all(isinstance(each, ast.Pass) for each in node.body)
            has_reason = any(
                "#" in line for line in lines[node.lineno - 1 : (node.end_lineno or node.lineno)]
            )
            if is_broad and says_nothing and not has_reason:
                swallowed.append(where(path, node.lineno))
    assert swallowed == []


def test_only_settings_and_plugins_read_the_environment() -> None:
    readers = {
        where(path)
        for path in modules("agent")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv")
    }
    assert readers == {"agent/settings/__init__.py"}


def test_only_the_clock_knows_what_time_it_is() -> None:
    readers = {
        where(path)
        for path in modules("agent")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("datetime.now", "datetime.utcnow", "datetime.datetime.now")
    }
    assert readers <= {"agent/adapters/clock.py"}


def test_no_asyncio_task_is_without_an_owner() -> None:
    orphans = [
        where(path, node.lineno)
        for path in modules()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("asyncio.create_task", "asyncio.ensure_future")
    ]
    assert orphans == []


@pytest.mark.parametrize("name", ["agent/model", "agent/lifecycle"])
def test_decisions_never_wait(name: str) -> None:
    waits = [
        where(path, node.lineno)
        for path in modules(name)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith)
    ]
    assert waits == []


def test_every_data_class_of_the_model_is_frozen_and_has_slots() -> None:
    loose = []
    for path in modules("agent/model"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                marks = [
                    ast.unparse(mark) for mark in node.decorator_list if "dataclass" in ast.unparse(mark)
                ]
                loose += [
                    f"{where(path)} {node.name}"
                    for mark in marks
                    if "frozen=True" not in mark or "slots=True" not in mark
                ]
    assert loose == []


def _only_declared(module: ast.Module) -> set[int]:
    """What a Protocol, or a class for type checkers alone, declares."""
    return {
        id(function)
        for node in ast.walk(module)
        if (isinstance(node, ast.ClassDef) and any("Protocol" in ast.unparse(base) for base in node.bases))
        or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        for function in ast.walk(node)
    }


def _is_docstring(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _is_ellipsis(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and node.value.value is Ellipsis
    )


def _is_abstract(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(
        "abstractmethod" in ast.unparse(mark) or "overload" in ast.unparse(mark)
        for mark in node.decorator_list
    )


def test_these_tests_look_at_something() -> None:
    assert len(modules()) > 50
    assert Path(ROOT, "pyproject.toml").exists()
