"""A worker's answers when it is asked for its status."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Protocol

from msgspec.structs import replace

from jetq.broker.clock import Clock
from jetq.broker.fleet import Fleet
from jetq.encoding.worker_status import encode, read_query
from jetq.model.worker_status import HeldJob, WorkerStatus, own_version
from jetq.operations.workflows.creating import BUILT_IN
from jetq.worker.attempt import Attempt
from jetq.worker.cancellations import FindAttempt

__all__ = ["StatusReporter"]


class _Broker(Fleet, Clock, Protocol):
    """The parts of the broker that the status reporter uses."""


class StatusReporter:
    """Answers for the worker `name`, which serves `queues` and can run `tasks` in `slots` slots.

    held: returns the attempts that the worker has, started or about to be. find: returns the attempt at a job.
    stopping: returns whether the worker takes no more jobs.
    """

    def __init__(
        self,
        name: str,
        *,
        queues: Sequence[str],
        tasks: Collection[str],
        slots: int,
        held: Callable[[], Iterable[Attempt]],
        find: FindAttempt,
        stopping: Callable[[], bool],
    ) -> None:
        self._tasks = tasks
        self._held = held
        self._find = find
        self._stopping = stopping
        self._identity = WorkerStatus(
            worker=name,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=own_version(),
            since=time.time(),
            slots=slots,
            busy=0,
            queues=tuple(queues),
        )

    async def listen(self, broker: _Broker, queue: str) -> None:
        """Answer from now on the questions that the workers of `queue` are asked."""
        await broker.answer(queue, partial(self._respond, broker, queue))

    def _knows(self, task: str) -> bool:
        return task in self._tasks or task in BUILT_IN

    def _respond(self, broker: _Broker, queue: str, data: bytes) -> bytes | None:
        query = read_query(data)
        if query is None:
            return None
        attempt = None if query.id is None else self._find(queue, query.id)
        if attempt is None and query.only_holder:
            return None
        slots = self._identity.slots
        return encode(
            replace(
                self._identity,
                busy=min(slots, sum(each.waits_at is None for each in self._held())),
                stopping=self._stopping(),
                can_run=None if query.task is None else self._knows(query.task),
                held=None if attempt is None else _held(attempt, broker.now()),
                missing_tasks=tuple(task for task in query.tasks if not self._knows(task)),
                now=time.time(),
            )
        )


def _held(attempt: Attempt, now: float) -> HeldJob:
    return HeldJob(
        attempt=attempt.meta.attempt,
        started=now - (time.monotonic() - attempt.started) if attempt.started else None,
        cancelled=attempt.cancelled,
        waits="" if attempt.waits_at is None else attempt.waits_at.reason,
    )
