"""Work that blocks and must not be left half done, beside an event loop that gets on meanwhile."""

import asyncio
from collections.abc import Callable


async def to_its_end(work: Callable[[], None]) -> None:
    """Do it in a thread. Whoever is cancelled meanwhile goes on only when it has ended.

    A lock under which it is done is so not released before. Raise what it raises, then too.
    """
    working = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait((working,))
        working.result()
        raise
