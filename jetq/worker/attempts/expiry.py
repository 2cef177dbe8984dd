"""Tells the app's hook of each expired job, a job that came too late to be run, before the job is removed."""

from __future__ import annotations

import asyncio
import logging

from jetq.model.definitions.hooks import ExpiredHook
from jetq.runtime.coroutines import is_torn_down
from jetq.worker.attempt import Attempt
from jetq.worker.attempts.calling import ServedApp
from jetq.worker.attempts.context import context_of

__all__ = ["ExpiryHook"]

_log = logging.getLogger("jetq.worker")

_HOOK_WITHIN = 10.0
"""Seconds that the hook may take for one expired job."""


class ExpiryHook:
    """Tells the hook of an `app`, if there is one, of jobs that have expired. worker: the name that the hook is
    shown."""

    def __init__(self, app: ServedApp, worker: str) -> None:
        self._app = app
        self._hook = app.on_expired
        self._worker = worker
        self._calls: set[asyncio.Task[None]] = set()

    async def call(self, attempt: Attempt) -> None:
        """Call the hook for `attempt`, and wait until the hook has ended, for 10 s at most. An exception of the hook is
        logged."""
        if self._hook is None:
            return
        call = asyncio.create_task(self._call(self._hook, attempt), name="jetq-on-expired")
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        # Before the job is settled: a worker that dies meanwhile leaves the job, and the hook is told of it again.
        # Bounded, because a hook that hangs would keep the job for ever.
        _, hangs = await asyncio.wait([call], timeout=_HOOK_WITHIN)
        if hangs:
            name, id = attempt.name, attempt.delivery.id
            _log.error("the hook for the expired %s %s does not end; the job goes without it", name, id)
            call.cancel()

    async def _call(self, hook: ExpiredHook, attempt: Attempt) -> None:
        try:
            await hook(context_of(attempt, self._worker, None, self._app))
        except BaseException as error:  # user code, whose errors must not make the job go round, or end the worker
            if isinstance(error, GeneratorExit) and is_torn_down():
                raise
            if isinstance(error, asyncio.CancelledError) and (this := asyncio.current_task()) and this.cancelling():
                return  # the hook was given up, which is logged already
            _log.exception("the hook for the expired %s %s failed", attempt.name, attempt.delivery.id)
