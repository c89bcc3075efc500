from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/security.md").read_text(encoding="utf-8")


def test_every_line_about_what_a_task_can_reach_has_a_test_or_says_that_it_has_none() -> None:
    section = PAGE.split("## What a task can reach, and what it cannot")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ") and "| shown by |" not in line]
    lines = [line for line in lines if set(line) - set("| -")]
    assert len(lines) >= 20
    silent = [
        line for line in lines if "`test_" not in line and "not tested" not in line and "no test" not in line
    ]
    assert silent == []
