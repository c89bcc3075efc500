"""JSON without the json package, compared with it."""

import json
import subprocess
import sys

import pytest

from cni_plugins.skeleton import document

VALUES = [
    None,
    True,
    0,
    -1.5,
    "",
    'ü\u2028\\"\n',
    [],
    {},
    [[1], {"a": None}],
    {"a": {"b": ["c", 2.5]}},
    10**30,
]


@pytest.mark.parametrize("value", VALUES)
def test_what_is_encoded_decodes_to_the_same(value: object) -> None:
    assert document.decode(document.encode(value)) == value
    assert json.loads(document.encode(value)) == value
    assert document.encode(value) == json.dumps(value, separators=(",", ":"))


@pytest.mark.parametrize(
    "text", ["", " ", "{", "[1,]", "{'a': 1}", "nul", '"', "1 2", '{"a":}', b"\xff", "[" * 100_000]
)
def test_what_is_no_json_is_a_value_error_that_says_where(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        document.decode(text)


def test_white_space_around_is_fine() -> None:
    assert document.decode(b' \r\n{"a" : 1}\t\n') == {"a": 1}


def test_what_json_cannot_say_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="set cannot be written as JSON"):
        document.encode({"a": {1}})


def test_a_broken_document_is_told_also_without_the_json_package() -> None:
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}\nfrom cni_plugins.skeleton import document\n"
        "assert 'json' not in sys.modules, 'imported too early'\n"
        "try: document.decode('{bad')\nexcept ValueError as error: print(error)"
    )
    said = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert said.stdout.startswith("Expecting property name")
