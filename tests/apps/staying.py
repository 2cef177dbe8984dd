"""Time in tests: that something stays as it is for a while, and that a time which matters by itself has passed."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable

_LOOK_EVERY = 0.02
"""Seconds."""


async def stays_so_for(seconds: float, condition: Callable[[], object]) -> None:
    """Hold that `condition()`, or what it returns to be awaited, is true now and at every look within `seconds`.

    This is how a test proves that something does not happen. It says when it did, where a sleep that is followed by an
    assertion says no more than that it did.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        last = loop.time() - began >= seconds
        held = condition()
        if inspect.isawaitable(held):
            held = await held
        assert held, f"it holds no more after {loop.time() - began:.2f} of {seconds} s"
        if last:
            return
        await asyncio.sleep(_LOOK_EVERY)


async def let_pass(seconds: float) -> None:
    """Wait until `seconds` have passed, where no event tells: a job's expiry, or so many pings of a server."""
    await asyncio.sleep(seconds)
