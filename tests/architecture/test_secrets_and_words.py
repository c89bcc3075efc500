import ast
import re

import pytest

from tests.architecture.source import modules, texts, tree, where

SECRETS = {
    "an AWS access key": r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{36}",
    "a Slack token": r"\bxox[baprs]-[A-Za-z0-9-]{10,}",
    "a JSON web token": r"\beyJ[A-Za-z0-9_-]{20,}\.eyJ[A-Za-z0-9_-]{20,}",
}
ELSEWHERE = {
    "the folder of somebody's machine": r"(?<![\w.])/(work|tmp/berth|home/[a-z]+|Users/[A-Za-z]+)/",
    "a package registry": r"https?://[\w.-]*(pypi|pythonhosted|npmjs|artifactory|nexus|jfrog|codeartifact)[\w.-]*",
}
DOOR_OPENERS = r"^(secret|token|password)|(_token|_password|credentials_id)$"
THIS_FILE = "tests/architecture/test_secrets_and_words.py"


@pytest.mark.parametrize("kind", SECRETS)
def test_nothing_that_is_committed_looks_like_a_secret(kind: str) -> None:
    assert _found(SECRETS[kind]) == []


@pytest.mark.parametrize("kind", ELSEWHERE)
def test_nothing_that_is_committed_belongs_to_one_machine(kind: str) -> None:
    assert _found(ELSEWHERE[kind]) == []


@pytest.mark.parametrize(
    ("pattern", "example"),
    [
        (SECRETS["an AWS access key"], "AKIA" + "A" * 16),
        (SECRETS["a private key"], "-----BEGIN RSA " + "PRIVATE KEY-----"),
        (ELSEWHERE["the folder of somebody's machine"], 'open("/' + 'home/me/x")'),
        (ELSEWHERE["a package registry"], "https://" + "pypi.example.org/simple"),
    ],
)
def test_the_patterns_find_what_they_are_for(pattern: str, example: str) -> None:
    assert re.search(pattern, example)


def test_what_opens_a_door_does_not_show_when_a_record_is_printed() -> None:
    shown = [
        where(path, field.lineno)
        for path in modules("agent")
        for record in ast.walk(tree(path))
        if isinstance(record, ast.ClassDef) and "dataclass" in "".join(map(ast.dump, record.decorator_list))
        for field in record.body
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and re.search(DOOR_OPENERS, field.target.id)
        and "repr=False" not in ast.unparse(field)
    ]
    assert shown == []


def _found(pattern: str) -> list[str]:
    return [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}"
        for name, text in texts()
        if name != THIS_FILE
        for match in re.finditer(pattern, text)
    ]
