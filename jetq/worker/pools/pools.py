"""The places where the functions of a worker's tasks run: its event loop, its threads, or its processes."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

from jetq.client.task import Task
from jetq.model.job_context import JobContext
from jetq.worker.attempt import Attempt
from jetq.worker.pools.processes import ProcessPool
from jetq.worker.pools.threads import ThreadPool

__all__ = ["Pools"]


class Seats(Protocol):
    """The caller that has a function called in a process."""

    def take_seat(self, attempt: Attempt) -> JobContext:
        """Note that there is a process for the attempt now. Return what the job's code may know of its job."""
        ...

    def wants_value(self, attempt: Attempt) -> bool:
        """Return whether the caller uses what the function returns: otherwise the value is not sent back."""
        ...


class Pools:
    """Runs a task's function where its `run_in` says. threads, processes: the pools of the worker."""

    def __init__(self, threads: ThreadPool, processes: ProcessPool) -> None:
        self._threads = threads
        self._processes = processes

    def run(self, task: Task[..., Any], attempt: Attempt, seats: Seats) -> Awaitable[Any]:
        """Call `task` with the arguments of `attempt`. Return an awaitable that gives the value.

        seats: asked if the function runs in a process.
        """
        where = task.declared.run_in
        if where == "thread":
            return self._threads.run(task.fn, attempt.args, attempt.kwargs, deadline=attempt.deadline)
        if where == "process":
            return self._processes.run(
                task.fn,
                attempt.args,
                attempt.kwargs,
                context=lambda: seats.take_seat(attempt),
                wants_value=seats.wants_value(attempt),
            )
        if not task.is_coroutine_function:
            return _call_wrapper(task, attempt)
        result: Awaitable[Any] = task.fn(*attempt.args, **attempt.kwargs)
        return result


async def _call_wrapper(task: Task[..., Any], attempt: Attempt) -> Any:
    """Call a function on the loop that is no async function: it may return a coroutine or its value."""
    return task.fn(*attempt.args, **attempt.kwargs)
