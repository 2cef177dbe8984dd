"""The caller's handle of a stored job."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from jetq.errors import JobCancelled, JobExpired, JobNotFound, NoResult, ResultError
from jetq.migration_hints import answering
from jetq.model.definitions.options import Seconds, due_settings
from jetq.model.job import Disposition, State
from jetq.units import seconds

if TYPE_CHECKING:
    from jetq.client.client import Client
    from jetq.client.session import Session
    from jetq.model.result import ResultRecord
    from jetq.operations.cancel import Cancellation
    from jetq.operations.job_view import JobView

__all__ = ["Job"]

R = TypeVar("R")


@answering("Job")
class Job(Generic[R]):
    """A stored job. `R` is what the job's task returns.

    id, queue, task: the job's id, and the names of its queue and task (empty if unknown). disposition: what the enqueue
    of the job did. "new": the job was stored. "existing": a job of that id or unique key was stored already, and this
    is the handle of the stored job. "replaced": the stored job took these arguments.
    """

    def __init__(
        self,
        session: Session,
        client: Client,
        *,
        id: str,
        queue: str,
        task: str,
        decode: Callable[[ResultRecord], Any],
        result_ttl: float | None,
        known: bool = True,
        disposition: Disposition = "existing",
    ) -> None:
        self.id = id
        self.queue = queue
        self.task = task
        self.disposition = disposition
        self._session = session
        self._client = client
        self._decode = decode
        self._result_ttl = result_ttl
        self._known = known

    def __repr__(self) -> str:
        return f"<Job {self.id} of {self.task or 'an unknown task'} in queue {self.queue}>"

    def result(self, timeout: float | timedelta | None = 60.0) -> R:
        """Return what the task returned, as soon as the job has ended. `timeout` in seconds; None waits without a
        bound.

        Raises what the task raised, with the worker's traceback as its cause: as the exception's own class if that
        class is imported here, else as TaskFailed. Raises NoResult at once if the task keeps no results; JobCancelled
        or JobExpired if the job ended that way; ResultTimeout, ResultExpired or JobNotFound if there is no result to be
        had; BrokerUnavailable.
        """
        return self._session.run(lambda: self.aresult(timeout))

    async def aresult(self, timeout: float | timedelta | None = 60.0) -> R:
        """Do what `result` does, from async code."""
        if self._known and self._result_ttl is None:
            raise NoResult(
                f"{self.task} stores no results",
                hint="give it @task(result_ttl=3600), or this call .options(result_ttl=3600); "
                "job.wait() waits for its end alone",
            )
        record = await self._client.result(self.queue, self.id, _bound(timeout), self._result_ttl)
        self._check(record)
        try:
            value: R = self._decode(record)
        except ValueError as error:
            raise ResultError(
                f"the result of job {self.id} is not what {record.task} is annotated to return: {error}"
            ) from None
        return value

    def wait(self, timeout: float | timedelta | None = 60.0) -> None:
        """Wait until the job has ended, also if its task keeps no results. `timeout` in seconds; None waits without a
        bound.

        Raises what the task raised, JobCancelled or JobExpired, as `result` does; ResultTimeout; JobNotFound if nothing
        is known of a job that was not enqueued here; BrokerUnavailable. A job that keeps no result and is neither in
        its queue nor dead has succeeded, as for `status`. The end of such a job is seen up to a second late.
        """
        self._session.run(lambda: self.await_(timeout))

    async def await_(self, timeout: float | timedelta | None = 60.0) -> None:
        """Do what `wait` does, from async code."""
        record = await self._client.end(self.queue, self.id, _bound(timeout), pushed=self._result_ttl is not None)
        if record is not None:
            self._check(record)
        elif not self._known:
            raise self._not_found()

    def _check(self, record: ResultRecord) -> None:
        """Raise the error for a job that did not succeed."""
        if record.failure is not None:
            from jetq.encoding.failures import revive

            raise revive(record.failure)
        if record.state == "cancelled":
            raise JobCancelled(f"job {self.id} was cancelled")
        if record.state == "expired":
            raise JobExpired(
                f"job {self.id} expired: it was not started in time, so it never ran",
                hint="more workers, or a longer expires",
            )

    def _not_found(self) -> JobNotFound:
        return JobNotFound(
            f"nothing is known of job {self.id} in queue {self.queue!r}: it never was, or it is done and kept no result"
        )

    def status(self) -> State:
        """Return where the job is in its life.

        A job that was enqueued here and is neither in its queue nor dead has succeeded, also when no result is kept.
        But a purge of the queue leaves no trace either. Raises JobNotFound if nothing is known of a job that was not
        enqueued here, BrokerUnavailable.
        """
        return self._session.run(self.astatus)

    async def astatus(self) -> State:
        """Do what `status` does, from async code."""
        state = await self._client.state(self.queue, self.id)
        if state is None and self._known:
            return "succeeded"
        if state is None:
            raise self._not_found()
        return state

    def info(self) -> JobView:
        """Return all that is known of the job: its state, attempt, due time, worker, start, errors and end.

        Asks the job's queue, the workers, its result and its dead letter. Nothing is written for this while the job
        runs. Raises JobNotFound if nothing is known of the job, BrokerUnavailable.
        """
        return self._session.run(self.ainfo)

    async def ainfo(self) -> JobView:
        """Do what `info` does, from async code."""
        return await self._client.view(self.queue, self.id)

    def cancel(self, timeout: float | timedelta = 10.0) -> Cancellation:
        """End the job wherever it is. The job does not run again, whatever this returns:

        "removed": the job had not run. "stopped": the job was stopped while it ran. "unconfirmed": the job's worker was
        told, and the run had not ended after `timeout` seconds. "finished": the job had finished before. "cancelled":
        the job was cancelled before.

        In a task a cancel is an `asyncio.CancelledError` at the next await, or JobCancelled in a thread, and
        `current_job().cancelled`; a process is killed. To cancel a job that is due within two seconds takes some
        seconds longer. Raises JobNotFound, BrokerUnavailable.

        Guarantee: tests/integration/operations/test_cancel.py
        """
        return self._session.run(lambda: self.acancel(timeout))

    async def acancel(self, timeout: float | timedelta = 10.0) -> Cancellation:
        """Do what `cancel` does, from async code."""
        try:
            return await self._client.cancel(self.queue, self.id, seconds(timeout, "timeout"))
        except JobNotFound:
            if self._known:
                return "finished"
            raise

    def reschedule(self, *, delay: Seconds | None = None, at: datetime | None = None) -> State:
        """Give a scheduled job, or a retry that waits, another due time, and return the job's state after that.

        "scheduled": the due time is changed. Any other state: too late, and nothing is changed. The state is "queued"
        also from two seconds before the due time on. Raises DefinitionError for an impossible time, JobNotFound,
        BrokerUnavailable.
        """
        return self._session.run(lambda: self.areschedule(delay=delay, at=at))

    async def areschedule(self, *, delay: Seconds | None = None, at: datetime | None = None) -> State:
        """Do what `reschedule` does, from async code."""
        settings = due_settings(delay, at)
        now = await self._session.time(self.queue, make=False)
        return await self._moved(settings.due(now, self._session.instant) or now)

    def run_now(self) -> State:
        """Make a scheduled job, or a retry that waits, ready now, and return the job's state after that.

        "queued": the job is ready, by this call or from before. Raises JobNotFound, BrokerUnavailable.
        """
        return self._session.run(self.arun_now)

    async def arun_now(self) -> State:
        """Do what `run_now` does, from async code."""
        return await self._moved(None)

    async def _moved(self, due: float | None) -> State:
        moved = await self._client.move(self.queue, self.id, due)
        return await self.astatus() if moved is None else moved


def _bound(timeout: float | timedelta | None) -> float | None:
    return None if timeout is None else seconds(timeout, "timeout")
