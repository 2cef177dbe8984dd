"""Where the functions of a worker's tasks run: on its event loop, in its threads, or in its processes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from jetq.client.task import Task
from jetq.model.job_context import JobContext
from jetq.worker.attempts.attempt import Attempt
from jetq.worker.pools.processes import ProcessPool
from jetq.worker.pools.threads import ThreadPool

__all__ = ["Pools"]


class Pools:
    """Runs a task's function where its `run_in` says. threads, processes: those of the worker."""

    def __init__(self, threads: ThreadPool, processes: ProcessPool) -> None:
        self._threads = threads
        self._processes = processes

    def run(
        self,
        task: Task[..., Any],
        attempt: Attempt,
        *,
        on_seat: Callable[[Attempt, Task[..., Any]], JobContext],
        wants_value: Callable[[Attempt, Task[..., Any]], bool],
    ) -> Awaitable[Any]:
        """Call `task` with the arguments of `attempt`. Returns what gives its value when it is awaited.

        Of a process: on_seat is called once there is one, and returns what the job's code may know of its job;
        wants_value says whether the value is to be sent back from there.
        """
        where = task.defaults.run_in
        if where == "thread":
            return self._threads.run(task.fn, attempt.args, attempt.kwargs, deadline=attempt.deadline)
        if where == "process":
            return self._processes.run(
                task.fn,
                attempt.args,
                attempt.kwargs,
                context=lambda: on_seat(attempt, task),
                wants_value=wants_value(attempt, task),
            )
        if not task.is_coroutine_function:
            return _call_wrapper(task, attempt)
        result: Awaitable[Any] = task.fn(*attempt.args, **attempt.kwargs)
        return result


async def _call_wrapper(task: Task[..., Any], attempt: Attempt) -> Any:
    """Call on the loop what is no async function: it may return a coroutine or its value."""
    return task.fn(*attempt.args, **attempt.kwargs)
