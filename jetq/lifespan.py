"""The app's lifespan around its worker: begun unless the worker is stopped before, and ended in time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

__all__ = ["around", "unless"]

_log = logging.getLogger("jetq.worker")


@contextlib.asynccontextmanager
async def around(
    lifespan: AbstractAsyncContextManager[Any] | None, stopping: asyncio.Event, left: Callable[[], float]
) -> AsyncIterator[bool]:
    """Enter `lifespan`, and leave it. False if it was not entered, because `stopping` was set before.

    left: seconds that its end may take; it is cancelled then. It is entered and left in the task that does so here, as
    cancel scopes need it.
    """
    if lifespan is None:
        yield True
        return
    if not await unless(stopping, lifespan.__aenter__()):
        yield False
        return
    try:
        yield True
    except BaseException as error:
        if not await lifespan.__aexit__(type(error), error, error.__traceback__):
            raise
        return
    bound = asyncio.timeout(left())
    try:
        async with bound:
            await lifespan.__aexit__(None, None, None)
    except TimeoutError:
        if not bound.expired():
            raise
        _log.error("the app's lifespan did not end in time and is cut off")


async def unless(stopping: asyncio.Event, work: Coroutine[Any, Any, Any]) -> bool:
    """Do `work` in this task. False, and it is cancelled, if `stopping` is set before it is done."""
    done = False
    bound = asyncio.timeout(None)

    def cancel(stopped: asyncio.Task[Any]) -> None:
        if not done and not stopped.cancelled():
            bound.reschedule(0.0)

    try:
        async with bound:
            stopped = asyncio.create_task(stopping.wait())
            stopped.add_done_callback(cancel)
            try:
                await work
            finally:
                done = True
                stopped.cancel()
    except TimeoutError:
        if not bound.expired():
            raise
        return False
    return True
