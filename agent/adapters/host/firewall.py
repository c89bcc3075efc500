"""Keep the agent's one nftables table in the kernel: put it there whole, notice when it is gone."""

import asyncio

import structlog

from agent.adapters.host.rules import FAMILY, FirewallPlan, ruleset
from agent.model.errors import CannotStart

log = structlog.get_logger()

_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
"""All that the program needs of an environment; ours may hold the keys of this machine."""

_LIMIT = 10.0  # seconds for one run of nft; a loaded machine with thousands of rules needs one or two


Rules = tuple[tuple[str, ...], ...]


class Firewall:
    """The table. ``nft``: name or path of the program."""

    def __init__(self, plan: FirewallPlan, *, nft: str = "nft") -> None:
        self._plan = plan
        self._nft = nft
        self._standing: Rules | None = None

    async def ensure(self) -> bool:
        """Put the table there unless it is there unchanged; whether it was put. Raise ``CannotStart``."""
        if self._standing is not None and await self._list() == self._standing:
            return False
        code, _, problem = await self._run("-f", "-", text=ruleset(self._plan))
        if code != 0:
            raise CannotStart(
                f"nft refused the agent's rules: {problem or f'exit code {code}'}; "
                "the kernel needs nf_tables and the agent CAP_NET_ADMIN",
                is_final=False,
            )
        # The kernel writes rules in its own way, so what it says now is what is compared with later.
        self._standing = await self._list()
        return True

    async def remove(self) -> bool:
        """Drop the table whole; whether there was one. Raise ``CannotStart`` if nft cannot be run."""
        self._standing = None
        if await self._list() is None:
            return False
        code, _, problem = await self._run("delete", "table", FAMILY, self._plan.table)
        if code != 0:
            raise CannotStart(
                f"nft cannot delete table {FAMILY} {self._plan.table}: {problem}", is_final=False
            )
        return True

    async def _list(self) -> Rules | None:
        code, listing, _ = await self._run("-s", "list", "table", FAMILY, self._plan.table)
        return _rules(listing) if code == 0 else None

    async def _run(self, *arguments: str, text: str = "") -> tuple[int, str, str]:
        try:
            process = await asyncio.create_subprocess_exec(
                self._nft,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=_ENVIRONMENT,
            )
        except OSError as error:
            problem = f"cannot run {self._nft}: {error.strerror}; install the package nftables"
            raise CannotStart(problem, is_final=True) from error
        try:
            async with asyncio.timeout(_LIMIT):
                out, err = await process.communicate(text.encode())
        except TimeoutError as error:
            raise CannotStart(f"{self._nft} has not ended within {_LIMIT:.0f} s", is_final=False) from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return process.returncode or 0, out.decode("utf-8", "replace"), _first_line(err)


def _rules(listing: str) -> Rules:
    # the kernel lists the members of a set in an order of its own; only the order of lines has a meaning
    return tuple(tuple(sorted(line.replace(",", " ").split())) for line in listing.splitlines())


def _first_line(output: bytes) -> str:
    return output.decode("utf-8", "replace").strip().partition("\n")[0]
