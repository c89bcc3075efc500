"""What ``docs/ecs.md`` names must exist, and what the agent needs must be named."""

import re
from pathlib import Path

from agent.adapters.ecs.wire.capabilities import RULES
from agent.adapters.ecs.wire.tasks import UNREADABLE
from docs import generate
from docs.pages import capabilities, log_events, reasons

DOCS = Path(generate.__file__).resolve().parent
AGENT = DOCS.parent / "agent"
PAGE = (DOCS / "ecs.md").read_text(encoding="utf-8")
QUOTED = set(re.findall(r"`([^`\n]+)`", PAGE))

_OPERATION = re.compile(r'(?:\.call\(\s*|operation: str = |ATTACHMENT_CHANGES = )"([A-Z]\w+)"')
_CHANNELS = {"Poll", "StartTelemetrySession"}
"""What a signed handshake needs; it is no call."""


def test_every_log_event_on_the_page_is_logged() -> None:
    logged = {call.name for call in log_events.log_calls()}
    named = {
        word for word in QUOTED if log_events.EVENT.fullmatch(word) and not word.endswith((".log", ".json"))
    }
    assert len(named) > 30
    assert named - logged == set()


def test_every_call_to_the_cluster_has_its_permission_on_the_page() -> None:
    called = {
        name
        for folder in ("adapters/ecs", "daemon")
        for path in (AGENT / folder).rglob("*.py")
        for name in _OPERATION.findall(path.read_text(encoding="utf-8"))
    }
    assert {"RegisterContainerInstance", "SubmitTaskStateChange"} < called
    named = set(re.findall(r"`ecs:(\w+)`", PAGE))
    # Tags of a new resource are a permission of their own, and part of another call.
    assert named == called | _CHANNELS | {"TagResource"}


def test_every_variable_on_the_page_is_a_setting() -> None:
    known = (DOCS / "settings.md").read_text(encoding="utf-8")
    named = {
        name for word in QUOTED for name in re.findall(r"\b(?:ECS|BERTH|AWS|HTTPS?|NO)_[A-Z0-9_]+", word)
    }
    assert len(named) > 20
    assert [name for name in sorted(named) if f"`{name}`" not in known] == []


def test_capabilities_on_the_page_are_said_or_not_said_as_it_stands_there() -> None:
    said = {
        rule.name.removeprefix("com.amazonaws.").removeprefix("ecs.capability.")
        for rule in RULES
        if rule.when is not None
    }
    row = PAGE.split("| said | not said")[1].split("\n\n")[0]
    first_column = "".join(line.split("|")[1] for line in row.splitlines()[1:] if line.startswith("|"))
    named = set(re.findall(r"`([a-z0-9.-]+)`", first_column))
    assert len(named) > 5
    assert named - said == set()


def test_the_list_of_capabilities_has_each_of_them_once() -> None:
    page = capabilities.page()
    for rule in RULES:
        assert page.count(f"| `{rule.name}` |") == 1
    said, never = page.split("## Never said")
    assert "`ecs.capability.task-eni`" in said
    assert "`ecs.capability.efs`" in never


def test_every_message_on_the_page_is_one_of_the_channel() -> None:
    read = (AGENT / "adapters/ecs/wire/messages.py").read_text(encoding="utf-8")
    sent = (AGENT / "adapters/ecs/wire/answers.py").read_text(encoding="utf-8")
    named = set(re.findall(r"\*\*(\w+(?:Message|Ack))\*\*", PAGE))
    assert len(named) > 8
    assert [name for name in sorted(named) if name not in read + sent] == []


def test_every_name_of_a_task_that_cannot_be_begun_is_explained() -> None:
    wire = AGENT / "adapters/ecs/wire"
    raised = set()
    for path in (wire / "tasks.py", wire / "containers.py"):
        raised |= set(re.findall(r'"(\w+Error): ', path.read_text(encoding="utf-8")))
    assert UNREADABLE.startswith("UnrecogniedTaskError: ")
    assert len(raised) > 3
    page = reasons.page()
    assert [name for name in sorted(raised) if f"| `{name}` |" not in page] == []


def test_every_link_within_the_page_has_its_heading() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) - headings == set()
