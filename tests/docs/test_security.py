from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/security.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("title", "fewest"),
    [
        ("## What a task can reach, and what it cannot", 16),
        ("### One task against the others", 5),
        ("## What the agent itself offers", 5),
    ],
)
def test_every_line_of_a_table_has_a_test_or_says_that_it_has_none(title: str, fewest: int) -> None:
    section = PAGE.split(f"{title}\n")[1].split("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ") and "| shown by |" not in line]
    lines = [line for line in lines if set(line) - set("| -")]
    assert len(lines) >= fewest
    assert [line for line in lines if "`test_" not in line and "no test" not in line] == []
