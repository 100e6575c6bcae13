"""A closed SuperLink in a thread, on loopback."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

from f110_fl.engines.closed.superlink import ClosedSuperLink, Opened, listening
from f110_fl.engines.closed.visitors import Bounds
from f110_fl.engines.credentials import Credentials
from f110_fl.engines.flower.programs import free_port

LOOPBACK = "127.0.0.1"
SECRET = bytes(range(32))
# Nothing is refused for being too much, so that it is refused for what it is.
GENEROUS = Bounds(new_rate=1e6, new_burst=1e6, prove_within=60.0)


@contextmanager
def serving(served: ClosedSuperLink) -> Iterator[Opened]:
    """Serve in a thread."""
    loop, begun, ended = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    opened: list[Opened] = []

    async def run() -> None:
        own = served.credentials
        async with AsyncExitStack() as stack:
            opened.append(await stack.enter_async_context(listening(served, own, SECRET)))
            begun.set()
            await ended.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    try:
        assert begun.wait(60.0)
        yield opened[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


def served(keys: Credentials, bounds: Bounds = GENEROUS) -> ClosedSuperLink:
    return ClosedSuperLink(LOOPBACK, free_port(), keys.directory, keys.operators, bounds=bounds)
