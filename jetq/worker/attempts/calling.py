"""Calling a task's function: inside the middleware, where its code belongs, and until all of it has run."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from jetq.client.task import Task
from jetq.model.definitions.wrappers import check_finished, discard, has_run
from jetq.model.job_context import Current, JobContext
from jetq.worker.attempts.attempt import Attempt
from jetq.worker.pools.processes import ProcessPool
from jetq.worker.pools.threads import ThreadPool

__all__ = ["Caller", "Middleware"]

Middleware = Callable[[JobContext, Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""`async (job, call_next) -> value`. It may observe, wrap and raise; what it returns is the job's result."""


class Caller:
    """Calls the functions of one worker's tasks.

    seat: says when an attempt has a process of `processes`, and returns what its code may know of the job.
    """

    def __init__(
        self,
        middleware: Sequence[Middleware],
        threads: ThreadPool,
        processes: ProcessPool,
        seat: Callable[[Attempt, Task[..., Any]], JobContext],
    ) -> None:
        self._middleware = tuple(middleware)
        self._threads = threads
        self._processes = processes
        self._seat = seat

    def call(self, attempt: Attempt, task: Task[..., Any], current: Current) -> Awaitable[Any]:
        """The value of the task's function. It is what `finish` takes, for one that is no plain value."""
        return self._next(attempt, task, current, 0) if self._middleware else self._run(attempt, task)

    async def finish(self, attempt: Attempt, task: Task[..., Any], value: Any) -> Any:
        """`value`, which the task has returned, or what it gives when it is awaited here: the coroutine that a plain
        wrapper of an async function returns. Raises NeverRan for a generator or context manager."""
        while not has_run(value):
            if not inspect.isawaitable(value):
                check_finished(task.fn, task.name, value)
            if attempt.ending is not None:
                discard(value)
                raise asyncio.CancelledError  # it came too late to begin
            attempt.on_loop = True
            value = await value
        return value

    def _next(self, attempt: Attempt, task: Task[..., Any], current: Current, depth: int) -> Awaitable[Any]:
        if depth < len(self._middleware):
            return self._middleware[depth](current.job, lambda: self._next(attempt, task, current, depth + 1))
        return self._run_to_its_end(attempt, task)

    async def _run_to_its_end(self, attempt: Attempt, task: Task[..., Any]) -> Any:
        return await self.finish(attempt, task, await self._run(attempt, task))

    def _run(self, attempt: Attempt, task: Task[..., Any]) -> Awaitable[Any]:
        if task.defaults.run_in == "thread":
            return self._threads.run(task.fn, attempt.args, attempt.kwargs, deadline=attempt.deadline)
        if task.defaults.run_in == "process":
            return self._processes.run(
                task.fn,
                attempt.args,
                attempt.kwargs,
                context=lambda: self._seat(attempt, task),
                wants_value=bool(self._middleware) or attempt.options.result_ttl is not None,
            )
        if not task.is_coroutine_function:
            return self._run_wrapper(attempt, task)
        result: Awaitable[Any] = task.fn(*attempt.args, **attempt.kwargs)
        return result

    async def _run_wrapper(self, attempt: Attempt, task: Task[..., Any]) -> Any:
        """Call on the loop what is no async function: it may return a coroutine or its value."""
        return task.fn(*attempt.args, **attempt.kwargs)
