"""The options of a worker, as its constructor has checked them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from jetq.client.declared_schedules import Definition
from jetq.client.task import Task

__all__ = ["WorkerOptions"]


class WorkerOptions(Struct, frozen=True):
    """The options of one worker."""

    name: str
    """The worker's identity in records, logs and job contexts: host, process id and a few random digits."""

    tasks: Mapping[str, Task[..., Any]]
    """The tasks that the worker can run, by name."""

    queues: tuple[str, ...]
    """The queues that the worker serves."""

    weights: Mapping[str, int]
    """The weights of the queues that have one, by queue: their parts of the slots."""

    schedules: Sequence[Definition]
    """The schedules that the worker's tasks declare for its queues."""

    concurrency: int
    """How many jobs run at once, from 1."""

    burst: bool
    """Whether the worker ends when its queues are empty."""

    max_jobs: int | None
    """How many jobs the worker takes in all, from 1; None for any number."""

    should_retire: Callable[[], bool]
    """Asked after each job; True stops the worker."""

    in_time: bool
    """False where time does not pass by itself: rates are not kept, and no job waits for the end of a pause."""
