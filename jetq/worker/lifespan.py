"""The app's lifespan around its worker: entered unless the worker is stopped before, and ended in time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

from jetq.errors import DefinitionError

__all__ = ["around", "failed_at", "unless"]

_log = logging.getLogger("jetq.worker")

_NOTES = {stage: f"jetq: the app's lifespan raised this at its {stage}" for stage in ("start", "end")}


@contextlib.asynccontextmanager
async def around(
    make: Callable[[], AbstractAsyncContextManager[Any]] | None, stopping: asyncio.Event, left: Callable[[], float]
) -> AsyncIterator[bool]:
    """Enter the lifespan that `make` returns, and leave it at the end. Yield whether it was entered: False if
    `stopping` was set before.

    left: returns the seconds that the end of the lifespan may take; the end is cancelled after that. The lifespan is
    entered and left in the caller's task, as cancel scopes need it. What the lifespan raises is raised, with a note
    that names the lifespan.
    """
    if make is None:
        yield True
        return
    with _noted("start"):
        lifespan = _checked(make())
        entered = await unless(stopping, lifespan.__aenter__())
    if not entered:
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
        with _noted("end"):
            async with bound:
                await lifespan.__aexit__(None, None, None)
    except TimeoutError:
        if not bound.expired():
            raise
        _log.error("the app's lifespan did not end in time and is cut off")


@contextlib.contextmanager
def _noted(stage: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        error.add_note(_NOTES[stage])
        raise


def failed_at(error: BaseException) -> str | None:
    """Return whether the app's lifespan raised `error` at its "start" or "end"; None if the error is not from the
    lifespan."""
    return next((stage for stage, note in _NOTES.items() if note in getattr(error, "__notes__", ())), None)


def _checked(lifespan: AbstractAsyncContextManager[Any]) -> AbstractAsyncContextManager[Any]:
    if not hasattr(type(lifespan), "__aenter__"):
        raise DefinitionError(
            f"Jetq(lifespan=...) gives something of type {type(lifespan).__name__}, no async context manager",
            hint="decorate the function with @contextlib.asynccontextmanager, and let it yield once",
        )
    return lifespan


async def unless(stopping: asyncio.Event, work: Coroutine[Any, Any, Any]) -> bool:
    """Do `work` in this task. Return False, with `work` cancelled, if `stopping` is set before `work` is done."""
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
