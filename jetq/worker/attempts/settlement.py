"""Settles attempts: stores what an outcome leaves behind, then removes the job. No other code acknowledges a job."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Literal, Protocol

from msgspec.structs import replace

from jetq.broker.cells import Cells
from jetq.broker.clock import Clock
from jetq.broker.consuming import Consuming
from jetq.broker.results import Results
from jetq.encoding.headers import OFF_HEADER, BadHeader, NewerHeader, read_meta
from jetq.errors import BrokerError, PayloadTooLarge
from jetq.model.cell import Cell
from jetq.model.job import Delivery
from jetq.model.outcome import (
    Cancelled,
    Dead,
    Expired,
    InLine,
    Marked,
    Outcome,
    PutOff,
    Released,
    Retrying,
    Snoozed,
    Succeeded,
    Superseded,
    dead,
    stray,
)
from jetq.model.oversized import Kept, Staying, kept_name, pause_after, read_kept, write_kept
from jetq.model.result import ResultRecord
from jetq.runtime.backoff import backoff
from jetq.worker.attempt import Attempt
from jetq.worker.attempts.handover import PassOn, came_back, keep, put_off
from jetq.worker.attempts.outcome_log import log_outcome
from jetq.worker.attempts.settled_records import SettledRecords
from jetq.worker.leases import Leases

__all__ = ["FIRST_BACKOFF", "EndsMembers", "Settlement"]

_log = logging.getLogger("jetq.worker")

FIRST_BACKOFF = 0.5
"""Seconds before a settlement that failed is tried again: the first time."""
_LAST_BACKOFF = 5.0
"""The most seconds before a settlement that failed is tried again."""
_RECORD_TTL = 3600.0
"""Seconds for which the record is kept that a job was cancelled or expired, when its task keeps no results."""


_KEPT_TTL = 30 * 86_400.0
"""Seconds beyond its due time for which the metadata of a job that stays where it is are kept."""

_EARLY = 0.5
"""Seconds before its due time at which a job that stays where it is may run: the server and the worker measure the
pause by different clocks, which differ by as much."""

_LONGEST_LINE = 7 * 86_400.0
"""Seconds for which a place in a line is kept. A job that waits longer comes back by itself."""


class _Broker(Consuming, Results, Cells, Clock, Protocol):
    """The parts of the broker that a settlement uses."""


class EndsMembers(Protocol):
    """Does what the end of a member of a workflow sets off."""

    def send(self, attempt: Attempt, outcome: Succeeded, on_done: Callable[[bool], None]) -> bool:
        """Do the same with a success without waiting, if that is possible, and tell whether all is done."""
        ...

    async def ended(self, attempt: Attempt, outcome: Outcome) -> None:
        """Mark the end of a member, and go on. May be done again."""
        ...

    async def lapsed(self, attempt: Attempt) -> None:
        """Clear up after a member whose lease has lapsed on the way."""
        ...


class _Lapsed(Exception):
    """The lease ended between two steps."""


class Settlement:
    """Settles the outcomes of the worker `worker` at one broker.

    ended: called with each attempt that was `storing`. pass_on: asked before a job is put off that other workers may
    run.

    `expired`: how many jobs were dropped as expired. `storing`: how many attempts have a result that is being stored.
    """

    def __init__(
        self,
        broker: _Broker,
        leases: Leases,
        worker: str,
        members: EndsMembers,
        *,
        ended: Callable[[Attempt], None] = lambda _: None,
        pass_on: PassOn = keep,
    ) -> None:
        self._broker = broker
        self._leases = leases
        self._worker = worker
        self._members = members
        self._records = SettledRecords(worker, broker.now)
        self._ended = ended
        self._pass_on = pass_on
        self._loop = asyncio.get_running_loop()
        self._buried: set[tuple[str, int]] = set()
        self._refused: set[asyncio.Task[None]] = set()
        self.expired = self.storing = 0

    async def settle(self, attempt: Attempt, outcome: Outcome | Staying, *, wait: bool = True) -> bool:
        """Store what the outcome leaves behind, then remove the job. Return False if the job no longer belongs to this
        worker.

        wait: False to return while the result of a success is on its way to the broker; then the attempt is `storing`
        until `ended` is called with it. While the broker cannot be reached or has no room, the settlement is tried
        again for as long as the lease holds. From the first failure on the lease is renewed without an end, because the
        run is over. Once the lease has lapsed, the job is delivered anew, and nothing here touches the job. What the
        broker has no room for in a message stays where it is: see `jetq.model.oversized`.

        Guarantee: tests/faults/test_crash_sweep.py kills the worker before and after each broker call made here;
        tests/integration/worker/test_lapsed_leases.py: whoever has lost the lease goes no further.
        """
        if not wait and type(outcome) is Succeeded and self._send(attempt, outcome):
            return True
        return await self._settle_patiently(attempt, outcome)

    # --- the fast path

    def _send(self, attempt: Attempt, outcome: Succeeded) -> bool:
        """Settle a success without a step that waits. Return False, with nothing done, if that is not possible.

        The fast path saves a task and a future for each result, which were measured as a third of what such a job costs
        (Python 3.11). What the broker refuses, or does not answer, goes on by the slow path, which stores the same
        again.

        Guarantee: tests/integration/worker/test_slots.py: what is being stored is bounded, and not lost at a stop.
        """
        if not self._leases.valid(attempt.delivery):
            return False
        if attempt.meta.flow is not None:
            self._send_mark(attempt, outcome)
            return True
        kept = self._result_of(attempt, outcome)
        if kept is None:
            self._finish(attempt, outcome)
            return True
        if not self._broker.send_result(*kept, partial(self._on_answer, attempt, outcome)):
            return False
        attempt.storing = True
        self.storing += 1
        return True

    def _on_answer(self, attempt: Attempt, outcome: Succeeded, error: BrokerError | None) -> None:
        attempt.storing = False
        self.storing -= 1
        # The job is removed after the broker's answer: removed at the sending, a result that is lost on its way would
        # be lost for good.
        if error is None and self._leases.valid(attempt.delivery):
            self._finish(attempt, outcome)
            self._ended(attempt)
        else:
            if error is not None:
                _log.warning(
                    "%s %s: its result is not stored yet: %s", attempt.name, attempt.delivery.id, error.message
                )
            task = self._loop.create_task(self._settle_and_end(attempt, outcome), name="jetq-settle")
            self._refused.add(task)
            task.add_done_callback(self._refused.discard)

    def _send_mark(self, attempt: Attempt, outcome: Succeeded) -> None:
        """Settle the success of a member: most need no step that waits."""
        ends = partial(self._on_mark, attempt, outcome)
        if attempt.ending != "cancel" and self._members.send(attempt, outcome, ends):
            attempt.storing = True
            self.storing += 1
        else:
            self._settle_aside(attempt, outcome)

    def _on_mark(self, attempt: Attempt, outcome: Succeeded, done: bool) -> None:
        attempt.storing = False
        self.storing -= 1
        if done and self._leases.valid(attempt.delivery):
            self._finish(attempt, outcome)
            self._ended(attempt)
        else:
            self._settle_aside(attempt, outcome)

    def _finish(self, attempt: Attempt, outcome: Outcome) -> None:
        """Remove the job. Call this only if nothing is to be stored before, or if all is stored."""
        self._broker.finish(attempt.delivery)
        self._leases.drop(attempt.delivery)
        if _log.isEnabledFor(logging.DEBUG):
            log_outcome(attempt, outcome)

    def _settle_aside(self, attempt: Attempt, outcome: Outcome) -> None:
        """Settle without holding the attempt's slot: what the end of a member sets off takes several answers."""

        async def settle() -> None:
            try:
                await self._settle_and_end(attempt, outcome)
            finally:
                self.storing -= 1

        attempt.storing = True
        self.storing += 1
        task = self._loop.create_task(settle(), name="jetq-settle-member")
        self._refused.add(task)
        task.add_done_callback(self._refused.discard)

    async def _settle_and_end(self, attempt: Attempt, outcome: Outcome) -> None:
        try:
            await self._settle_patiently(attempt, outcome)
        except Exception:  # a fault of jetq's own: the job is not settled, and comes back when its lease lapses
            _log.exception("%s %s could not be settled", attempt.name, attempt.delivery.id)
        finally:
            self._ended(attempt)

    # --- the slow path

    async def _settle_patiently(self, attempt: Attempt, outcome: Outcome | Staying) -> bool:
        """Settle step by step, and try again while the lease holds."""
        delivery = attempt.delivery
        pauses = backoff(FIRST_BACKOFF, _LAST_BACKOFF)
        try:
            while self._leases.valid(delivery):
                try:
                    if await self._store_in_time(attempt, outcome):
                        return True
                    # The run is over, so its timeout no longer bounds the lease.
                    delivery.renew_until = math.inf
                except PayloadTooLarge as error:
                    if isinstance(outcome, Staying):
                        _log.critical("%s %s is left to its lease: %s", attempt.name, delivery.id, error.message)
                        return False
                    outcome = self._instead(attempt, outcome, error)
                except BrokerError as error:
                    pause = next(pauses)
                    _log.warning(
                        "%s %s is not settled yet, trying again in %g s: %s",
                        attempt.name, delivery.id, pause, error.message,
                    )  # fmt: skip
                    delivery.renew_until = math.inf
                    await asyncio.sleep(pause)
            self._buried.discard(_message_key(delivery))
            _log.warning("%s %s: its lease lapsed before it was settled; it will run again", attempt.name, delivery.id)
            if attempt.meta.flow is not None:
                await self._members.lapsed(attempt)
            return False
        finally:
            self._leases.drop(delivery)

    # --- outcomes that the broker has no room for

    async def recall(self, attempt: Attempt) -> Dead | Staying | None:
        """Take up what was kept of a job that stays where it is. Return what to `settle` the job by if it must not run
        now, else None.

        Guarantee: tests/integration/enqueueing/test_max_payload.py: it runs as often as its task says, and what is dead
        does not run again.
        """
        delivery = attempt.delivery
        cell = await self._broker.read_cell(kept_name(delivery))
        kept = None if cell is None else read_kept(cell.value)
        if cell is None or kept is None or kept.sequence != delivery.sequence:
            return None
        attempt.kept, attempt.meta = (kept, cell), kept.meta
        left = kept.due - self._broker.now()
        return kept.dead or (Staying(left) if left > _EARLY else None)

    def _instead(self, attempt: Attempt, outcome: Outcome, error: PayloadTooLarge) -> Outcome | Staying:
        """Return what to do where the broker has no room for what `outcome` would store."""
        delivery, now = attempt.delivery, self._broker.now()
        match outcome:
            case Retrying(body=None) | Snoozed() | InLine():
                job, after = self._records.next_attempt(attempt, outcome)
                stays = Staying(after, Kept(delivery.sequence, job.meta, now + after))
            case PutOff(after=after, since=since):
                stays = Staying(after, Kept(delivery.sequence, replace(attempt.meta, unknown_since=since), now + after))
            case Released():
                stays = Staying(0.0)
            case Dead(body=None, reason=reason, failure=failure):
                tries = 0 if attempt.kept is None else attempt.kept[0].tries
                after = pause_after(tries)
                kept = Kept(delivery.sequence, attempt.meta, now + after, tries + 1, reason, failure)
                stays = Staying(after, kept)
            case Dead():  # then dead with the arguments with which the job was stored
                return replace(outcome, body=None)
            case _:
                return dead("failed", "jetq.PayloadTooLarge", f"its outcome cannot be stored: {error.message}")
        is_dead = stays.kept is not None and stays.kept.reason
        _log.log(
            logging.ERROR if is_dead else logging.WARNING,
            "%s %s stays where it is for %.1f s%s: %s; raise max_payload of the server",
            attempt.name, delivery.id, stays.after, f", though dead ({is_dead})" if is_dead else "", error.message,
        )  # fmt: skip
        return stays

    async def _stay(self, attempt: Attempt, stays: Staying) -> None:
        if stays.kept is not None:
            ttl = stays.after + _KEPT_TTL
            # Before the message is put off: delivered again without the cell, the job would have forgotten its
            # attempts.
            await self._broker.write_cell(kept_name(attempt.delivery), write_kept(stays.kept), ttl=ttl)
        if not self._leases.valid(attempt.delivery):  # a stale nak would hand the job out while its next holder has it
            raise _Lapsed
        self._leases.drop(attempt.delivery)  # dropped before the job is handed out again, perhaps to this worker
        await self._broker.put_off(attempt.delivery, stays.after)

    async def _forget_kept(self, cell: Cell) -> None:
        try:
            await self._broker.drop_cell(cell)
        except BrokerError as error:  # the cell names a message that is gone, and expires
            _log.debug("%s stays: %s", cell.name, error.message)

    # --- the steps of a settlement

    async def _store_in_time(self, attempt: Attempt, outcome: Outcome | Staying) -> bool:
        """Run `_store` for as long as the lease lasts. Return False if the lease ended before; then no step of `_store`
        goes on."""
        bound = self._leases.bound(attempt.delivery)
        try:
            async with bound:
                await self._store(attempt, outcome)
        except _Lapsed:
            return False
        except TimeoutError:
            if not bound.expired():
                raise
            return False
        finally:
            self._leases.unbound(bound)
        return True

    def _remove(self, delivery: Delivery) -> None:
        """Remove the job, as the last step of all. Raises _Lapsed if another worker may hold the job by now: a stale
        ack would take it from that worker."""
        if not self._leases.valid(delivery):
            raise _Lapsed
        self._broker.finish(delivery)

    async def _store(self, attempt: Attempt, outcome: Outcome | Staying) -> None:
        # In each case the job is removed last. If the worker dies at an await before the removal, the job is still
        # stored, and runs again; removed first, the job would be lost.
        delivery = attempt.delivery
        match outcome:
            case Staying():
                return await self._stay(attempt, outcome)
            case Succeeded():
                await self._end_member(attempt, outcome)  # before a record by which the delivery counts as superseded
                if (kept := self._result_of(attempt, outcome)) is not None:
                    await self._broker.put_result(*kept)
                self._remove(delivery)
            case Marked():
                await self._end_member(attempt, outcome)
                self._remove(delivery)
            case Superseded():
                self._remove(delivery)
            case Retrying() | Snoozed() | InLine():
                await self._store_for_later(attempt, outcome)
                self._remove(delivery)
            case PutOff():
                # After a handover the job belongs to the receiver: a removal by this worker would take the job from it.
                if await self._pass_on(attempt, outcome):
                    return
                if not self._leases.valid(delivery):  # asking other workers took a while
                    raise _Lapsed
                stored = await put_off(self._broker, self._worker, delivery, outcome)
                if not stored and attempt.cancelled:
                    await self._record_end(attempt, "cancelled")
                self._remove(delivery)
            case Dead():
                await self._store_dead(attempt, outcome)
                await self._end_member(attempt, outcome)
                self._buried.discard(_message_key(delivery))
                self._remove(delivery)
            case Cancelled():
                await self._record_end(attempt, "cancelled")
                await self._end_member(attempt, outcome)
                self._remove(delivery)
            case Expired():
                self.expired += 1
                # Before the removal, as in each case: a job that is gone without a record counts as succeeded.
                await self._record_end(attempt, "expired")
                await self._end_member(attempt, outcome)
                self._remove(delivery)
            case Released(body=body):
                unreadable = await self._give_back(attempt, body)
                if unreadable is not None:
                    return await self._store(attempt, unreadable)
        log_outcome(attempt, outcome)
        if attempt.kept is not None:
            # After the removal: a job that is delivered again without its cell would have forgotten its attempts.
            await self._forget_kept(attempt.kept[1])

    async def _end_member(self, attempt: Attempt, outcome: Outcome) -> None:
        if attempt.meta.flow is not None:
            await self._members.ended(attempt, outcome)

    async def _store_for_later(self, attempt: Attempt, outcome: Retrying | Snoozed | InLine) -> None:
        broker, delivery = self._broker, attempt.delivery
        job, after = self._records.next_attempt(attempt, outcome)
        # The next attempt must be stored before the delivery is removed. A worker that dies in between leaves the
        # delivery, which is then found to be superseded. A worker that dies before the place in the line is stored
        # leaves a job that comes back by itself.
        stored = await broker.reschedule(delivery, job, broker.now() + after)
        if not stored and attempt.cancelled:
            await self._record_end(attempt, "cancelled")
        if stored and isinstance(outcome, InLine):
            cell = f"line.{outcome.line}.{delivery.id}"
            await broker.write_cell(cell, delivery.queue.encode(), expected=0, ttl=_LONGEST_LINE)

    async def _give_back(self, attempt: Attempt, body: bytes | None) -> Dead | None:
        """Hand the job back to its queue, with `body` if that is not None. Return Dead, with nothing done, if the
        delivery is no job that can go back; else None."""
        delivery = attempt.delivery
        if not delivery.task:  # its subject may be one that cannot be written as text
            return stray(delivery.address)
        as_it_came = OFF_HEADER in delivery.headers and body is None
        try:  # a job that was not begun has not been read either, and goes back as it came
            own = read_meta(delivery.headers)
            attempt.meta = own if attempt.kept is None else attempt.kept[0].next_meta(own)
        except NewerHeader:
            as_it_came = True
        except BadHeader as error:
            return dead("undecodable", "jetq.BadHeader", str(error))
        job = came_back(delivery) if as_it_came else self._records.job(attempt, attempt.meta, body)
        # One step of the broker both stores the job and settles the delivery, so `_remove` is not called.
        await self._broker.give_back(delivery, job)
        return None

    def _result_of(self, attempt: Attempt, outcome: Succeeded) -> tuple[ResultRecord, float] | None:
        """Return the record that is stored of a success, and for how many seconds; None if nothing is stored."""
        if outcome.value is not None and attempt.meta.flow is None:  # a member leaves its mark instead
            return self._records.success(attempt, outcome), outcome.result_ttl
        # The job ended by itself all the same, and the caller of the cancel asks for a record.
        if attempt.ending == "cancel":
            return self._records.result(attempt, "succeeded"), _RECORD_TTL
        return None

    async def _store_dead(self, attempt: Attempt, outcome: Dead) -> None:
        delivery = attempt.delivery
        # A replay begins with the arguments that the task asked for, not with those of this attempt.
        if outcome.body is not None:
            delivery = replace(delivery, body=outcome.body)
        # The broker recognizes a repeated dead letter only for a while: buried again after minutes of tries, the letter
        # would be stored twice.
        if _message_key(delivery) not in self._buried:
            # Before the result and the removal: the dead letter alone keeps the bytes of the job.
            await self._broker.store_dead(delivery, self._records.letter(attempt, outcome))
            self._buried.add(_message_key(delivery))
        ttl = None if attempt.task is None else attempt.options.result_ttl
        if ttl is not None:
            try:
                failure = outcome.failure
                await self._broker.put_result(self._records.result(attempt, "dead", failure=failure), ttl)
            except PayloadTooLarge:  # the dead letter has the whole failure
                short = replace(outcome.failure, traceback="", args=None)
                with suppress(PayloadTooLarge):
                    await self._broker.put_result(self._records.result(attempt, "dead", failure=short), ttl)

    async def _record_end(self, attempt: Attempt, state: Literal["cancelled", "expired"]) -> None:
        """Store that the job was cancelled or has expired. This also happens without results, because a job that is
        gone without a trace counts as succeeded."""
        ttl = None if attempt.task is None else attempt.options.result_ttl
        ttl = _RECORD_TTL if ttl is None else ttl
        record = self._records.result(attempt, state)
        if not attempt.started:  # no run of the job was ended here
            record = replace(record, worker="")
        if not await self._broker.put_result(record, ttl, unless_kept=True):
            kept = await self._broker.get_result(record.queue, record.id)
            if kept is None or kept.sequence < record.sequence:  # the kept record belongs to an earlier job of this id
                await self._broker.put_result(record, ttl)


def _message_key(delivery: Delivery) -> tuple[str, int]:
    return delivery.queue, delivery.sequence  # without the token, which changes when the job is handed out again
