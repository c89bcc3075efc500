"""Checks of the agent itself: its settings, its products, what it may do, and how the running one is."""

import json
import stat
from pathlib import Path

from agent.adapters.cni.conflist import NEEDED_PLUGINS
from agent.adapters.host.needs import look, missing
from agent.cli.doctor.facts import Done, Facts
from agent.cli.doctor.findings import CannotFix, Fix, NotApplicable, Verdict, bad, warn, well, worst

_SPOKEN = "1.0.0"
"""The dialect of CNI in which the agent calls plugins."""


def settings(facts: Facts) -> Verdict:
    """Whether the settings are such that the agent starts."""
    if facts.problems:
        return bad(
            "; ".join(facts.problems),
            "the agent does not start",
            "docs/settings.md says what each expects; berth config --offline shows where each value stands",
        )
    if facts.settings.warnings:
        return warn("; ".join(facts.settings.warnings), "the agent starts, perhaps not as it was meant")
    return well(f"the settings are valid (backend {facts.settings.backend})")


def privileges(facts: Facts) -> Verdict:
    """Whether this process, and so an agent started the same way, has every privilege and mount."""
    found = missing(look(facts.settings, proc=facts.root / "proc"))
    needed = [str(each) for each in found if each.is_needed]
    useful = [str(each) for each in found if not each.is_needed]
    if needed:
        return bad(
            "; ".join([*needed, *useful]), "an agent that is started as this command was does not start"
        )
    if useful:
        return warn("; ".join(useful), "the agent starts, and something is worse")
    return well("every privilege and mount is there")


def plugins(facts: Facts) -> Verdict:
    """Whether the network plugins are there, may be run, and speak the agent's dialect."""
    directory = facts.settings.plugins_path
    return worst([_plugin(facts, directory, name) for name in NEEDED_PLUGINS], "")


def health(facts: Facts) -> Verdict:
    """What the running agent says of itself."""
    agent = facts.agent()
    if agent is None:
        pid = facts.agent_pid()
        if pid is not None:
            return bad(
                f"an agent runs (process {pid}), and its introspection API does not answer",
                "it starts, it hangs, or it has another BERTH_INTROSPECTION_ADDRESS",
                "see its log",
            )
        raise NotApplicable("no agent runs on this machine")
    document = agent.health
    parts = [each for each in document.get("components") or () if isinstance(each, dict)]
    impaired = [
        f"{each.get('component')}: {each.get('reason')}" for each in parts if each.get("status") != "OK"
    ]
    if str(document.get("status", "")).upper() == "OK" and not impaired:
        return well(f"{agent.metadata.get('Version')} is well")
    return bad("; ".join(impaired) or "the agent is not well", "as it says itself", "its log says more")


def _plugin(facts: Facts, directory: Path, name: str) -> Verdict:
    path = directory / name
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return bad(
            f"there is no {path}",
            "the agent does not start",
            "build it with 'make build', or set ECS_CNI_PLUGINS_PATH",
        )
    if not mode & 0o111 or not stat.S_ISREG(mode):
        return bad(
            f"{path} may not be run",
            "the agent does not start",
            "",
            Fix(
                f"make {path} executable",
                f"chmod {stat.S_IMODE(mode):o} {path}",
                lambda: _make_executable(path),
            ),
        )
    done = facts.run([str(path), "--version"])
    dialects = _dialects(facts, path)
    if done is None or done.code != 0:
        return bad(
            f"{path} cannot be run: {_said(done)}", "the agent does not start", "build it anew: make build"
        )
    if _SPOKEN not in dialects:
        return bad(
            f"{name} speaks CNI {', '.join(dialects) or 'nothing'}, and not {_SPOKEN}",
            "no task can be connected",
            "take the plugins of this version of berth",
        )
    return well(f"{name} {_version(done.out)}")


def _dialects(facts: Facts, path: Path) -> list[str]:
    asked = facts.run(
        [str(path)], f'{{"cniVersion":"{_SPOKEN}"}}', CNI_COMMAND="VERSION", CNI_PATH=str(path.parent)
    )
    try:
        answer = json.loads(asked.out) if asked is not None else {}
        return [str(each) for each in answer.get("supportedVersions") or ()]
    except (ValueError, AttributeError):
        return []


def _version(text: str) -> str:
    try:
        told = json.loads(text)
        return f"{told['version']} ({told['gitShortHash']}{', changed' if told.get('dirty') else ''})"
    except (ValueError, LookupError, TypeError):
        return " ".join(text.split())[:80]


def _make_executable(path: Path) -> None:
    try:
        path.chmod(stat.S_IMODE(path.stat().st_mode) | 0o755)
    except OSError as error:
        raise CannotFix(f"cannot change {path}: {error.strerror}") from error


def _said(done: Done | None) -> str:
    if done is None:
        return "the interpreter that it names is not there"
    return (done.err or done.out).strip().partition("\n")[0] or f"exit code {done.code}"
