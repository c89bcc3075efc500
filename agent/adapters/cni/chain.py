"""Runs several plugins one after the other: in the warm host if there is one, otherwise as processes."""

import asyncio
import json
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from agent.adapters.cni.invoke import run_plugin
from agent.adapters.cni.plugin_host import HostLost, Invocation, PluginHost
from agent.adapters.cni.replies import PluginReply, PluginTimedOut
from agent.model.errors import CannotAttachNetwork

Outcome = PluginReply | CannotAttachNetwork
"""How a call ended: with a reply of the plugin, or without one because it could not run or was killed."""


class PluginChain:
    """The plugins of one directory. A lost host changes how fast a chain runs, never what it does.

    ``is_warm`` False: the warm host is left alone, and each plugin is a cold process.
    """

    def __init__(self, directory: Path, *, is_warm: bool = True) -> None:
        self._directory = directory
        self._is_warm = is_warm
        self._host = PluginHost(directory)

    async def start(self) -> None:
        """Start the warm host, if it is wanted and the directory has one."""
        if self._is_warm:
            await self._host.start()

    async def aclose(self) -> None:
        """End the warm host."""
        await self._host.aclose()

    async def run(
        self, invocations: Sequence[Invocation], *, stops_on_error: bool, subject: str, limit_s: float
    ) -> tuple[Outcome, ...]:
        """The outcomes in order. ``stops_on_error``: those after the first failure are missing.

        ``subject`` is what the calls work on (the sandbox); ``limit_s`` holds for all of them together.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + limit_s
        outcomes: list[Outcome] = []
        if self._is_warm:
            outcomes = await self._run_warm(invocations, stops_on_error, subject, until)
        while len(outcomes) < len(invocations) and not (
            stops_on_error and outcomes and _has_failed(outcomes[-1])
        ):
            # When all are to be tried, one that hangs must leave time to those behind it.
            shares = 1 if stops_on_error else len(invocations) - len(outcomes)
            limit = max(until - loop.time(), 0.0) / shares
            outcomes.append(await self._run_process(invocations[len(outcomes)], limit))
        return tuple(outcomes)

    async def _run_warm(
        self, invocations: Sequence[Invocation], stops_on_error: bool, subject: str, until: float
    ) -> list[Outcome]:
        """What the warm host achieves; what is missing is still to be run."""
        loop = asyncio.get_running_loop()
        await self._host.settle(subject, (until - loop.time()) / 2)
        limit = max(until - loop.time(), 0.0)
        if not stops_on_error:
            limit /= 2  # the rest is for those that a hanging one holds up
        try:
            answer = await self._host.run(
                invocations, stops_on_error=stops_on_error, subject=subject, limit_s=limit
            )
        except HostLost:
            return []
        if not answer.has_timed_out:
            return list(answer.replies)
        # What failed may have been interrupted, so only what stands before it counts.
        outcomes: list[Outcome] = list(takewhile(lambda reply: not _has_failed(reply), answer.replies))
        if stops_on_error and len(outcomes) < len(invocations):
            waited_for = " or ".join(one.plugin for one in invocations[len(outcomes) :])
            outcomes.append(PluginTimedOut(f"{waited_for}: did not end within {limit:g} s and was killed"))
        return outcomes

    async def _run_process(self, invocation: Invocation, limit_s: float) -> Outcome:
        if limit_s <= 0:
            return PluginTimedOut(f"{invocation.plugin}: no time was left to run it")
        try:
            return await run_plugin(
                self._directory / invocation.plugin,
                invocation.environment,
                json.dumps(invocation.config).encode(),
                limit_s,
            )
        except CannotAttachNetwork as failure:
            return failure


def reply_of(outcome: Outcome) -> PluginReply:
    """The plugin's reply. Raise ``CannotAttachNetwork`` if there is none."""
    if isinstance(outcome, CannotAttachNetwork):
        raise outcome
    return outcome


def _has_failed(outcome: Outcome) -> bool:
    return isinstance(outcome, CannotAttachNetwork) or outcome.exit != 0
