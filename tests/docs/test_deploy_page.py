import re
from pathlib import Path

from agent.adapters.host.capabilities import docker_options

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")


def test_the_stricter_list_on_the_page_is_the_one_that_the_agent_looks_for() -> None:
    section = PAGE.split("### Without --privileged")[1].split("\n### ")[0]
    assert tuple(re.findall(r"(--(?:cap-drop|cap-add|security-opt)=\S+)", section)) == docker_options()


def test_the_files_that_the_page_names_are_in_the_tree() -> None:
    named = set(re.findall(r"\b(deploy/[\w.-]+\.(?:sh|service))", PAGE))
    assert {"deploy/install.sh", "deploy/berth.service"} <= named
    assert {each for each in named if not (ROOT / each).exists()} == set()


def test_links_between_the_pages_lead_somewhere() -> None:
    lost = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            name, _, anchor = target.partition("#")
            if "://" in target:
                continue
            other = (page.parent / name).resolve() if name else page
            if not other.exists() or (anchor and anchor not in _anchors(other)):
                lost.append(f"{page.name}: {target}")
    assert lost == []


def _anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
