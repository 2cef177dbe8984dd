"""Makes the records that an outcome leaves behind: the job for its next attempt, its result, and its dead letter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec import Raw
from msgspec.structs import replace

from jetq.encoding.failures import bounded, summarize
from jetq.model.dead_letter import DeadLetter
from jetq.model.failure import Failure
from jetq.model.job import JobRecord, Meta
from jetq.model.outcome import Dead, InLine, Retrying, Snoozed, Succeeded
from jetq.model.result import NO_VALUE, ResultRecord
from jetq.worker.attempt import Attempt

__all__ = ["SettledRecords"]

EndState = Literal["succeeded", "dead", "cancelled", "expired"]


class SettledRecords:
    """Makes the records that one worker stores. worker: its name. now: the broker's time, in unix seconds."""

    def __init__(self, worker: str, now: Callable[[], float]) -> None:
        self._worker = worker
        self._now = now

    def next_attempt(self, attempt: Attempt, outcome: Retrying | Snoozed | InLine) -> tuple[JobRecord, float]:
        """Return the job as it is stored for its next run, and after how many seconds that run is due."""
        meta = attempt.meta
        if isinstance(outcome, InLine):
            return self.job(attempt, replace(meta, in_line=meta.in_line or self._now())), outcome.after
        if isinstance(outcome, Snoozed):
            meta = outcome.meta or replace(meta, snoozes=meta.snoozes + 1)
            return self.job(attempt, meta, outcome.body), outcome.after
        error = summarize(outcome.failure, meta.attempt, self._now(), self._worker)
        errors, dropped = bounded(meta.errors, error)
        meta = replace(
            meta,
            attempt=meta.attempt + 1,
            errors=errors,
            errors_dropped=meta.errors_dropped + dropped,
            unknown_since=None,
        )
        return self.job(attempt, meta, outcome.body), outcome.after

    def job(self, attempt: Attempt, meta: Meta, body: bytes | None = None) -> JobRecord:
        """Return the job to be stored with `meta`, and with `body` if that is not None."""
        delivery = attempt.delivery
        return JobRecord(
            id=delivery.id,
            task=delivery.task,
            queue=delivery.queue,
            body=delivery.body if body is None else body,
            key=delivery.key,
            level=delivery.level,
            meta=replace(meta, enqueued=delivery.stored_at if meta.enqueued is None else meta.enqueued),
        )

    def success(self, attempt: Attempt, outcome: Succeeded) -> ResultRecord:
        """Return the result record of a success whose task keeps results."""
        assert outcome.value is not None
        if outcome.sealed:
            return self.result(attempt, "succeeded", sealed=outcome.value)
        return self.result(attempt, "succeeded", Raw(outcome.value))

    def result(
        self,
        attempt: Attempt,
        state: EndState,
        value: Raw = NO_VALUE,
        *,
        sealed: bytes | None = None,
        failure: Failure | None = None,
    ) -> ResultRecord:
        """Return the record of how a job has ended, for callers that wait for the job. sealed: takes the place of
        `value`."""
        delivery = attempt.delivery
        return ResultRecord(
            id=delivery.id,
            state=state,
            task=delivery.task,
            queue=delivery.queue,
            attempt=attempt.meta.attempt,
            sequence=delivery.sequence,
            at=self._now(),
            worker=self._worker,
            value=value,
            sealed=sealed,
            failure=failure,
        )

    def letter(self, attempt: Attempt, outcome: Dead) -> DeadLetter:
        """Return the dead letter: the report of why a job is dead, which is stored beside the job's bytes."""
        delivery, meta = attempt.delivery, attempt.meta
        error = summarize(outcome.failure, meta.attempt, self._now(), self._worker)
        errors, dropped = bounded(meta.errors, error)
        return DeadLetter(
            id=delivery.id,
            task=delivery.task,
            queue=delivery.queue,
            key=delivery.key,
            reason=outcome.reason,
            failure=outcome.failure,
            attempt=meta.attempt,
            at=error.at,
            enqueued=delivery.stored_at if meta.enqueued is None else meta.enqueued,
            address=delivery.address,
            sequence=delivery.sequence,
            count=delivery.count,
            worker=self._worker,
            errors=errors,
            errors_dropped=meta.errors_dropped + dropped,
            snoozes=meta.snoozes,
            replays=meta.replays,
            edits=meta.edits,
            headers=dict(delivery.headers),
            level=delivery.level,
        )
