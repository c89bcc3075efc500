import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("page", ["promises", "security"])
def test_every_test_that_a_page_names_as_its_proof_exists(page: str) -> None:
    written = {
        name
        for path in (ROOT / "tests").rglob("*.py")
        for name in re.findall(r"def (test_\w+)\(", path.read_text(encoding="utf-8"))
    }
    named = set(re.findall(r"`(test_\w+)`", (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")))
    assert len(named) > 40
    assert named - written == set()
