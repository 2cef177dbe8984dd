"""What reaches a worker from outside while it runs: which jobs are cancelled, and questions about what it does."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial

from jetq.broker import Broker
from jetq.model.job import Delivery
from jetq.model.worker_status import Answer, Held, encode, own_version, read_question
from jetq.worker.attempts.attempt import INSIST_AFTER, Attempt

__all__ = ["Control"]

_REMEMBERED = 120.0
"""Seconds for which a cancelled id is remembered: longer than the broker keeps it on record."""


class Control:
    """The ear and mouth of the worker `name`, which serves `queues` and can run `tasks` in so many `slots`.

    held: the attempts it has, started or about to be. stopping: whether it takes no more.
    """

    def __init__(
        self,
        name: str,
        *,
        queues: Sequence[str],
        tasks: Collection[str],
        slots: int,
        held: Callable[[], Sequence[Attempt]],
        stopping: Callable[[], bool],
    ) -> None:
        self._tasks = tasks
        self._held = held
        self._stopping = stopping
        self._cancelled: dict[tuple[str, str], float] = {}  # by queue and id
        self._identity = Answer(
            worker=name,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=own_version(),
            since=time.time(),
            slots=slots,
            busy=0,
            queues=tuple(queues),
        )

    async def listen(self, broker: Broker, queue: str) -> None:
        """Hear what is said to the workers of `queue` from now on, and which of its jobs are cancelled already."""
        await broker.watch_cancelled(queue, partial(self._on_mark, queue))
        await broker.answer(queue, partial(self._respond, broker, queue))

    # --- cancelled jobs

    def is_cancelled(self, delivery: Delivery) -> bool:
        """Whether that job is not to be started."""
        return bool(self._cancelled) and (delivery.queue, delivery.id) in self._cancelled

    def forget(self, now: float) -> None:
        """Drop what is too old to matter. `now` is `time.monotonic()`."""
        while self._cancelled:
            job = next(iter(self._cancelled))
            if self._cancelled[job] > now - _REMEMBERED:
                return
            del self._cancelled[job]

    def _on_mark(self, queue: str, id: str, cancelled: bool) -> None:
        self._cancelled.pop((queue, id), None)
        if not cancelled:
            return
        now = time.monotonic()
        self._cancelled[queue, id] = now  # at the end, as the newest
        attempt = self._find(queue, id)
        if attempt is not None and not attempt.cancelled:
            attempt.cancel()
            attempt.deadline = now + INSIST_AFTER

    def _find(self, queue: str, id: str) -> Attempt | None:
        held = ((attempt, attempt.delivery) for attempt in self._held())
        return next((attempt for attempt, each in held if each.id == id and each.queue == queue), None)

    # --- questions

    def _respond(self, broker: Broker, queue: str, data: bytes) -> bytes | None:
        question = read_question(data)
        if question is None:
            return None
        attempt = None if question.id is None else self._find(queue, question.id)
        if attempt is None and question.holders:
            return None
        me = self._identity
        return encode(
            Answer(
                worker=me.worker,
                host=me.host,
                pid=me.pid,
                version=me.version,
                since=me.since,
                slots=me.slots,
                busy=min(me.slots, sum(each.waits_at is None for each in self._held())),
                queues=me.queues,
                stopping=self._stopping(),
                knows=None if question.task is None else question.task in self._tasks,
                held=None if attempt is None else _held(attempt, broker.now()),
                lacks=tuple(task for task in question.tasks if task not in self._tasks),
                now=time.time(),
            )
        )


def _held(attempt: Attempt, now: float) -> Held:
    return Held(
        attempt=attempt.meta.attempt,
        started=now - (time.monotonic() - attempt.started) if attempt.started else None,
        cancelled=attempt.cancelled,
        waits="" if attempt.waits_at is None else attempt.waits_at.reason,
    )
