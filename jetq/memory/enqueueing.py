"""Verbs that store jobs in memory: ready or scheduled, one by one or many, and each unique key once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from jetq.broker.numbers import ASKED_WITHIN
from jetq.broker.wanted import always
from jetq.encoding.headers import meta_or_default
from jetq.encoding.worker_status import encode, read_answers
from jetq.errors import BrokerError
from jetq.memory.base import Base
from jetq.memory.fleet import ask_workers
from jetq.memory.sizes import check_arguments, check_size
from jetq.model.deployment_facts import Drift
from jetq.model.job import Debounce, EnqueueReceipt, JobRecord
from jetq.model.names import NO_KEY
from jetq.model.worker_status import StatusQuery

__all__ = ["Enqueueing"]


class Enqueueing(Base):
    """See `jetq.broker.enqueueing.Enqueueing`."""

    async def setup(self, queue: str, *, levels: bool = False) -> Sequence[Drift]:
        with self.store.lock:
            self.queue(queue).levels |= levels
        return ()

    async def enqueue(
        self,
        job: JobRecord,
        *,
        due: float | None = None,
        timeout: float | None = None,
        debounce: Debounce | None = None,
    ) -> EnqueueReceipt:
        check_arguments(job)
        check_size(job)
        started = await self._started(job) if job.meta.unique == "running" else ()
        with self.store.lock:
            queue = self.queue(job.queue)
            if job.key == NO_KEY:
                return queue.add_once(job.id, job, due)
            return queue.add_keyed(job, due, debounce, started=started)

    def send_job(
        self,
        job: JobRecord,
        on_done: Callable[[EnqueueReceipt | BrokerError], None],
        wanted: Callable[[], bool] = always,
    ) -> bool:
        if not job.fresh:
            return False
        try:
            check_arguments(job)
            check_size(job)
            with self.store.lock:
                stored = self.queue(job.queue).add_once(job.id, job, None)
        except BrokerError:
            return False
        asyncio.get_running_loop().call_soon(on_done, stored)
        return True

    async def open_direct(self) -> None:
        return None

    async def _started(self, job: JobRecord) -> set[int]:
        """Return the sequences of the jobs of the same key that run or may run."""
        with self.store.lock:
            handed_out = [
                each
                for each in self.queue(job.queue).of_key(job.task, job.key)
                if each.count and each.id != job.id and meta_or_default(each.headers).unique == "running"
            ]
        started = set()
        for message in handed_out:
            question = encode(StatusQuery(id=message.id, only_holder=True))
            answers = read_answers(await ask_workers(self, job.queue, question, ASKED_WITHIN, 1))
            if not any(each.held is not None and each.held.started is None for each in answers):
                started.add(message.sequence)
        return started

    async def enqueue_many(
        self,
        jobs: Sequence[JobRecord],
        *,
        due: float | None = None,
        timeout: float | None = None,
        debounce: Debounce | None = None,
    ) -> Sequence[EnqueueReceipt | Exception]:
        answers: list[EnqueueReceipt | Exception] = []
        for job in jobs:
            try:
                answers.append(await self.enqueue(job, due=due, timeout=timeout, debounce=debounce))
            except Exception as error:
                answers.append(error)
        return answers

    async def throttle(self, job: JobRecord, period: float) -> str | None:
        with self.store.lock:
            self.use()
            now, where = self.store.now(), (job.queue, job.task, job.key)
            holder, until = self.store.throttled.get(where, ("", 0.0))
            if until > now:
                return None if holder == job.id else holder
            self.store.throttled[where] = (job.id, now + max(1, round(period)))
            return None

    async def unthrottle(self, job: JobRecord) -> None:
        with self.store.lock:
            self.use()
            where = (job.queue, job.task, job.key)
            if self.store.throttled.get(where, ("", 0.0))[0] == job.id:
                del self.store.throttled[where]
