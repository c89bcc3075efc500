"""A process with the agent's real watchdog and pulse, one of whose loops is made to stall: a program.

Its arguments: what stalls (``loop``, ``task``, ``log`` or ``nothing``), and for how many seconds it runs.
"""

import asyncio
import os
import sys
import threading
import time

from agent import logs
from agent.adapters.clock import SystemClock
from agent.adapters.host.notify import Notifier
from agent.daemon.pulse import Pulse
from agent.daemon.watchdog import Watchdog
from agent.endpoints.health import HealthBoard
from agent.model.progress import Progress
from agent.settings.supervision import Supervision

LIMIT = 3.0


def blocked_callback() -> None:
    time.sleep(3600)


async def awaits_what_never_comes() -> None:
    await asyncio.Event().wait()


async def stuck_task(progress: Progress) -> None:
    with progress.watched("task 1234"):
        await awaits_what_never_comes()


async def live(what: str, seconds: float) -> None:
    progress = Progress()
    health = HealthBoard(SystemClock())
    watch = Supervision.of(os.environ, os.getpid())
    pulse = Pulse(progress, Notifier(watch.notify_socket, health), health, watch.watchdog)
    with Watchdog(progress, LIMIT).watching():
        async with asyncio.TaskGroup() as group:
            beating = group.create_task(pulse.run(), name="pulse")
            pulse.ready(lambda: f"stalling {what}")
            print("running", flush=True)
            if what == "task":
                group.create_task(stuck_task(progress), name="supervisor of 1234")
            if what == "loop":
                asyncio.get_running_loop().call_later(0.5, blocked_callback)
            if what == "log":
                threading.Thread(target=fill, daemon=True).start()
                asyncio.get_running_loop().call_later(0.5, fill)
            await asyncio.sleep(seconds)
            beating.cancel()


def fill() -> None:
    """Until nobody reads stderr any more and writing blocks."""
    while True:
        sys.stderr.write("x" * 65536)
        sys.stderr.flush()


if __name__ == "__main__":
    logs.configure(console="json")
    asyncio.run(live(sys.argv[1], float(sys.argv[2])))
