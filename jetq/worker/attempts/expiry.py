"""Jobs that came too late to be run: the app's hook is told of each before it is removed."""

from __future__ import annotations

import asyncio
import logging

from jetq.model.definitions.hooks import ExpiredHook
from jetq.runtime.coroutines import is_torn_down
from jetq.worker.attempts.attempt import Attempt
from jetq.worker.attempts.context import context_of

__all__ = ["ExpiryHook"]

_log = logging.getLogger("jetq.worker")

_HOOK_WITHIN = 10.0
"""Seconds for a hook that is told of an expired job."""


class ExpiryHook:
    """Tells the `hook` of an app, if it has one, of jobs that have expired. worker: the name that it is shown."""

    def __init__(self, hook: ExpiredHook | None, worker: str) -> None:
        self._hook = hook
        self._worker = worker
        self._calls: set[asyncio.Task[None]] = set()

    async def tell(self, attempt: Attempt) -> None:
        """Call the hook for `attempt`, and wait until it has ended, for 10 s at most. What it raises is logged."""
        if self._hook is None:
            return
        call = asyncio.create_task(self._call(self._hook, attempt), name="jetq-on-expired")
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        # Bounded, because the job is settled after this: a hook that hangs would keep it for ever.
        _, hangs = await asyncio.wait([call], timeout=_HOOK_WITHIN)
        if hangs:
            name, id = attempt.name, attempt.delivery.id
            _log.error("the hook for the expired %s %s does not end; the job goes without it", name, id)
            call.cancel()

    async def _call(self, hook: ExpiredHook, attempt: Attempt) -> None:
        try:
            await hook(context_of(attempt, self._worker, None))
        except BaseException as error:  # user code, whose errors must not make the job go round, or end the worker
            if isinstance(error, GeneratorExit) and is_torn_down():
                raise
            if isinstance(error, asyncio.CancelledError) and (this := asyncio.current_task()) and this.cancelling():
                return  # it was given up, and the log has that
            _log.exception("the hook for the expired %s %s failed", attempt.name, attempt.delivery.id)
