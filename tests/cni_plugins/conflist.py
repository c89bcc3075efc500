"""A small runner of network lists that does what libcni does: injects, chains, caches. For tests only."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cni_plugins.cnilab import Lab, Namespace, Outcome


class ListFailed(Exception):
    """A plugin of the list failed; the text is what it printed."""


@dataclass
class Runner:
    """One network list with its cache of results."""

    lab: Lab
    network: dict[str, Any]
    path: str
    cache: Path
    capabilities: dict[str, Any] = field(default_factory=dict)

    def add(self, container: str, sandbox: Namespace, ifname: str) -> dict[str, Any]:
        previous: dict[str, Any] | None = None
        for plugin in self.network["plugins"]:
            previous = self._run("ADD", plugin, previous, container, sandbox.path, ifname).document
        assert previous is not None
        self._cached(container, ifname).write_text(json.dumps(previous))
        return previous

    def check(self, container: str, sandbox: Namespace, ifname: str) -> None:
        for plugin in self.network["plugins"]:
            self._run("CHECK", plugin, self._result(container, ifname), container, sandbox.path, ifname)

    def delete(self, container: str, netns: str, ifname: str) -> None:
        previous = self._result(container, ifname) if self.network["cniVersion"] >= "0.4.0" else None
        for plugin in reversed(self.network["plugins"]):
            self._run("DEL", plugin, previous, container, netns, ifname)
        self._cached(container, ifname).unlink(missing_ok=True)

    def collect(self, valid: list[tuple[str, str]]) -> None:
        kept = [{"containerID": container, "ifname": ifname} for container, ifname in valid]
        for cached in self.cache.glob("*"):
            container, ifname = cached.name.split("@")
            if (container, ifname) not in valid:
                self.delete(container, "", ifname)
        for plugin in self.network["plugins"]:
            extra = {**plugin, "cni.dev/valid-attachments": kept, "cni.dev/attachments": kept}
            self._run("GC", extra, None, "", "", "")

    def status(self) -> None:
        for plugin in self.network["plugins"]:
            self._run("STATUS", plugin, None, "", "", "")

    def _run(  # noqa: PLR0917 -- private
        self, command: str, plugin: dict[str, Any], previous: object, container: str, netns: str, ifname: str
    ) -> Outcome:
        config = {**plugin, "name": self.network["name"], "cniVersion": self.network["cniVersion"]}
        config.pop("capabilities", None)
        if previous is not None:
            config["prevResult"] = previous
        wanted = {
            name: self.capabilities[name]
            for name in plugin.get("capabilities", {})
            if name in self.capabilities
        }
        if wanted:
            config["runtimeConfig"] = wanted
        directories = [Path(part) for part in self.path.split(":")]
        found = next(part for part in directories if (part / plugin["type"]).is_file())
        runner = Lab(found, self.lab.scratch, self.lab.host)
        outcome = runner.run(
            plugin["type"],
            command,
            config,
            None,
            ifname,
            container,
            CNI_NETNS=netns or "UNSET",
            CNI_PATH=self.path,
        )
        if outcome.exit:
            raise ListFailed(f"{command} {plugin['type']}: {outcome.stdout}")
        return outcome

    def _cached(self, container: str, ifname: str) -> Path:
        return self.cache / f"{container}@{ifname}"

    def _result(self, container: str, ifname: str) -> dict[str, Any] | None:
        """None if there is no usable cache, as with newer libcni: DEL has to work all the same."""
        try:
            return json.loads(self._cached(container, ifname).read_text())
        except (FileNotFoundError, ValueError):
            return None
