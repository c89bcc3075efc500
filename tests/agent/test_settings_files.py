from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.settings.files import parse_env_file, quoted, read_env_file, read_json_file


def read(text: str) -> dict[str, str]:
    contents = parse_env_file(text, "f")
    assert contents.problems == ()
    return {entry.name: entry.text for entry in contents.entries}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b", "b"),
        ("A = b ", "b"),
        ("  A=b=c=d", "b=c=d"),
        ("A=", ""),
        ('A="b c"', "b c"),
        ("A='b \"c\" $d'", 'b "c" $d'),
        (r'A="say \"hi\" \\ \$x \n"', 'say "hi" \\ $x \\n'),
        ('A={"rack":"7"}', '{"rack":"7"}'),
        ('A=\'{"rack":"7"}\'', '{"rack":"7"}'),
        ("A=[22, 80]", "[22, 80]"),
        ("A=b # no comment", "b # no comment"),
        ("A=b\\\n  c", "b  c"),
        ("A=b\r\n", "b"),
        ("A=it's", "it's"),
        ("A=C:\\x", "C:\\x"),
    ],
)
def test_a_line_is_read_as_docker_and_systemd_read_it(line: str, value: str) -> None:
    assert read(line) == {"A": value}


def test_comments_and_blank_lines_say_nothing() -> None:
    assert read("\n# A=1\n; B=2\n   # C=3\n\nD=4\n# ends in a backslash \\\nE=5") == {"D": "4", "E": "5"}


def test_line_numbers_count_joined_lines_too() -> None:
    contents = parse_env_file("# x\nA=1\\\n2\\\n3\nB=4\n", "f")
    assert [(entry.name, entry.text, entry.line) for entry in contents.entries] == [
        ("A", "123", 2),
        ("B", "4", 5),
    ]


def test_the_last_of_two_lines_counts_and_a_warning_says_so() -> None:
    contents = parse_env_file("A=1\nA=2\n", "f")
    assert [entry.text for entry in contents.entries] == ["2"]
    assert contents.warnings == ("f, line 2: A stands there twice; the last one counts",)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("ECS_CLUSTER prod", "f, line 1: expected NAME=VALUE, found 'ECS_CLUSTER prod'"),
        ("export A=1", "f, line 1: this is no shell script; write A=… without 'export'"),
        ("A-B=1", "f, line 1: 'A-B' is no name of a variable (letters, digits, underscores)"),
        ("=1", "f, line 1: '' is no name of a variable (letters, digits, underscores)"),
        ('A="b', 'f, line 1: A: the value begins with " and does not end with the matching one'),
        ("A='b' c", "f, line 1: A: the value begins with ' and does not end with the matching one"),
    ],
)
def test_a_line_that_cannot_be_read_is_a_problem_with_its_place(line: str, problem: str) -> None:
    assert parse_env_file(line, "f").problems == (problem,)


def test_a_name_alone_has_no_value_of_its_own() -> None:
    contents = parse_env_file("A=1\nB\n  C  \n", "f")
    assert [(each.name, each.line) for each in contents.bare] == [("B", 2), ("C", 3)]
    assert (len(contents.entries), contents.problems, contents.warnings) == (1, (), ())


def test_of_two_equal_keys_in_json_the_last_one_counts_and_null_is_as_good_as_nothing(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text('{"A": 1, "B": null, "A": [2, {"C": 3}], "D": "x", "E": true}')
    contents = read_json_file(path, must_exist=True)
    assert [(each.name, each.text) for each in contents.entries] == [
        ("A", '[2, {"C": 3}]'),
        ("D", "x"),
        ("E", "true"),
    ]
    assert contents.warnings == (f"{path}: A stands there twice; the last one counts",)


@pytest.mark.parametrize(
    ("text", "inner"),
    [
        ('"a"', "a"),
        ("'{\"a\":1}'", '{"a":1}'),
        ('""', ""),
        ('"', None),
        ("\"a'", None),
        ('a"', None),
        ("", None),
    ],
)
def test_only_quotes_around_the_whole_text_are_quotes(text: str, inner: str | None) -> None:
    assert quoted(text) == inner


def test_a_file_that_need_not_exist_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "no"
    assert read_env_file(path, must_exist=False).problems == ()
    assert read_env_file(path, must_exist=True).problems == (f"{path}: no such file",)
    assert read_json_file(path, must_exist=True).problems == (f"{path}: no such file",)


def test_a_file_that_cannot_be_read_is_a_problem_even_if_it_need_not_exist(tmp_path: Path) -> None:
    assert read_env_file(tmp_path, must_exist=False).problems == (
        f"{tmp_path}: cannot be read: Is a directory",
    )
    binary = tmp_path / "binary"
    binary.write_bytes(b"ECS_CLUSTER=\xff\xfe\n")
    (problem,) = read_env_file(binary, must_exist=False).problems
    assert problem.startswith(f"{binary}: expected text in UTF-8")


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"\xef\xbb\xbfA=1\n")
    assert [entry.name for entry in read_env_file(path, must_exist=True).entries] == ["A"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "expected one JSON object: "),
        ("[1]", "expected one JSON object, found list"),
        ("", "expected one JSON"),
    ],
)
def test_a_json_file_that_is_no_object_is_a_problem(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "c.json"
    path.write_text(text)
    (told,) = read_json_file(path, must_exist=False).problems
    assert told.startswith(f"{path}: {problem}")


@given(st.text())
def test_no_text_makes_the_reader_fail(text: str) -> None:
    contents = parse_env_file(text, "f")
    assert len({entry.name for entry in contents.entries}) == len(contents.entries)


@given(st.text(alphabet=st.characters(exclude_characters="\n\r", exclude_categories=("Cs",))))
def test_a_value_in_single_or_escaped_double_quotes_comes_back(value: str) -> None:
    escaped = "".join("\\" + character if character in '"\\$`' else character for character in value)
    assert read(f'A="{escaped}"x'[:-1]) == {"A": value}
