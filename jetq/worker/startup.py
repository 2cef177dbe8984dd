"""Steps of a worker's start. Each step waits for the broker as long as necessary, and ends when the worker is
stopped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from jetq.errors import BrokerUnavailable
from jetq.runtime.backoff import backoff

__all__ = ["patiently", "unless_stopped"]

T = TypeVar("T")

_log = logging.getLogger("jetq.worker")

_FIRST_BACKOFF, _LAST_BACKOFF = 0.5, 5.0
"""Seconds before a step is tried again: the first time, and the most."""


async def unless_stopped(stopping: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Return what `work` returns, or cancel `work` and return None if `stopping` is set before. Raises what `work`
    raises.

    `work` runs in a task of its own; use `lifespan.unless` for work that has to run in the caller's task.
    """
    working = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait([working, stopped], return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None
    finally:
        working.cancel()
        stopped.cancel()


async def patiently(what: str, step: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Repeat `step` until the broker can be reached, and return what `step` returned. what: names the step in the
    log."""
    pauses = backoff(_FIRST_BACKOFF, _LAST_BACKOFF)
    while True:
        try:
            return await step()
        except BrokerUnavailable as error:
            pause = next(pauses)
            _log.warning("%s: %s; trying again in %g s", what, error.message, pause)
            await asyncio.sleep(pause)
