"""Cancelling jobs, wherever they are: scheduled, queued, running, or between two of these."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from jetq.encoding.headers import meta_or_default
from jetq.encoding.worker_status import encode
from jetq.errors import JobNotFound
from jetq.model.job import StoredJob
from jetq.model.result import ResultRecord
from jetq.model.worker_status import StatusQuery

if TYPE_CHECKING:
    from jetq.broker import Broker

__all__ = ["Cancellation", "cancel", "cancel_found"]

Cancellation = Literal["removed", "stopped", "unconfirmed", "finished", "cancelled"]
"""What a cancel did: the job was removed before it ran; its run was stopped; its worker was told, and had not ended the
run in time; nothing, because the job had finished; nothing, because the job was cancelled before. The job does not run
again in any case."""

_KEPT = 3600.0
"""Seconds for which the record of a cancelled job is kept."""

_HOLDER_WITHIN = 1.0
_POLL = 1.0
_AT_ONCE = 200
"""Jobs worked on at a time: enough that the time is spent in the broker, not on the way to it."""


async def cancel(broker: Broker, queue: str, id: str, *, timeout: float = 10.0) -> Cancellation:
    """Cancel job `id`, and return what the cancel did. `timeout`: seconds to wait for the end of a run.

    Raises JobNotFound if nothing is known of the job.

    Guarantee: tests/integration/operations/test_cancel.py: a cancelled job never runs again.
    """
    found = await broker.find(queue, id)
    if found is None:
        return await _ended(broker, queue, id)
    return await _Cancelling(broker, found, timeout, asyncio.Semaphore(1)).run()


async def cancel_found(
    broker: Broker, jobs: Sequence[StoredJob], *, timeout: float = 10.0
) -> Sequence[Cancellation | Exception]:
    """Cancel many stored jobs. Return one answer or error per job, in order."""
    slots = asyncio.Semaphore(_AT_ONCE)
    return await asyncio.gather(
        *(_Cancelling(broker, found, timeout, slots).run() for found in jobs), return_exceptions=True
    )  # type: ignore[return-value]


async def _ended(broker: Broker, queue: str, id: str) -> Cancellation:
    """Return the answer for a job that is not stored any more. Raises JobNotFound if nothing is known of the job."""
    record = await broker.get_result(queue, id)
    if record is not None:
        return "cancelled" if record.state == "cancelled" else "finished"
    if await broker.dead(queue, id=id, limit=1):
        return "finished"
    raise JobNotFound(
        f"nothing is known of job {id} in queue {queue!r}: it never was, or it is done and kept no result"
    )


class _Cancelling:
    """Cancels one job. `slots` bounds how many of these talk to the broker at a time."""

    def __init__(self, broker: Broker, found: StoredJob, timeout: float, slots: asyncio.Semaphore) -> None:
        self._broker = broker
        self._first = found
        self._queue = found.delivery.queue
        self._id = found.delivery.id
        self._timeout = timeout
        self._slots = slots
        self._held = False
        self._removed = False

    async def run(self) -> Cancellation:
        # The order matters. The job is marked first: from then on no worker starts it. The job is removed next, which
        # also keeps a retry from being stored, and the job from coming back when its worker dies. Only then does this
        # wait for a worker.
        async with self._slots:
            await self._broker.mark_cancelled(self._queue, self._id)
        await self._remove_all()
        if self._held:
            return await self._wait_for_holder()
        async with self._slots:
            return await self._conclude()

    async def _remove_all(self) -> None:
        """Remove what is stored of the job until nothing is: a schedule may fire while it is removed."""
        broker = self._broker
        found: StoredJob | None = self._first
        while found is not None:
            async with self._slots:
                if found.in_flight and not self._held:
                    self._held = await self._is_held()
                if await broker.remove(self._queue, found.delivery.sequence):
                    self._removed = True
            if (
                found.due is not None
                and (left := found.due + broker.fire_window - broker.now()) < 2 * broker.fire_window
            ):
                await asyncio.sleep(max(left, broker.fire_window / 2))
            async with self._slots:
                found = await broker.find(self._queue, self._id)

    async def _is_held(self) -> bool:
        question = encode(StatusQuery(id=self._id, only_holder=True))
        return bool(await self._broker.ask(self._queue, question, _HOLDER_WITHIN, enough=1))

    async def _wait_for_holder(self) -> Cancellation:
        """Wait for the end of the run, and return the answer. A worker that was told ends the run, and always leaves a
        record."""
        deadline = time.monotonic() + self._timeout
        while (left := deadline - time.monotonic()) > 0:
            record = await self._broker.wait_result(self._queue, self._id, min(_POLL, left))
            if record is not None and self._is_of_this_run(record):
                return await self._by(record)
            if record is not None:  # the record of an earlier life of this id
                await asyncio.sleep(min(_POLL, left) / 4)
            if not await self._is_held():  # the run has just ended, or its worker died
                return await self._conclude()
        # Without a record the job would look as if it had succeeded without a result. Its worker's record comes later.
        await self._broker.put_result(self._record(), _KEPT, unless_kept=True)
        return "unconfirmed"

    async def _conclude(self) -> Cancellation:
        """Return the answer once nothing is stored of the job and no worker has it: by the job's record, which is made
        if there is none."""
        record = await self._broker.get_result(self._queue, self._id)
        if record is not None and self._is_of_this_run(record):
            return await self._by(record)
        if not (self._removed or self._held) or await self._broker.dead(self._queue, id=self._id, limit=1):
            await self._broker.unmark_cancelled(self._queue, self._id)
            return "finished"  # the worker acknowledged the job before it heard of the cancel
        await self._broker.put_result(self._record(), _KEPT, unless_kept=record is None)
        return "stopped" if self._held else "removed"

    async def _by(self, record: ResultRecord) -> Cancellation:
        if record.state == "cancelled":
            return "stopped" if record.worker else "removed"
        await self._broker.unmark_cancelled(self._queue, self._id)
        return "finished"

    def _is_of_this_run(self, record: ResultRecord) -> bool:
        return record.sequence >= self._first.delivery.sequence

    def _record(self) -> ResultRecord:
        delivery = self._first.delivery
        return ResultRecord(
            id=self._id,
            state="cancelled",
            task=delivery.task,
            queue=self._queue,
            attempt=meta_or_default(delivery.headers).attempt,
            sequence=delivery.sequence,
            at=self._broker.now(),
        )
