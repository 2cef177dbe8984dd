"""The caller's handle of a stored job."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Generic, TypeVar

from jetq.client import Client
from jetq.errors import JobNotFound, NoResult, ResultError
from jetq.failures import revive
from jetq.model import Disposition, ResultRecord, State
from jetq.session import Session
from jetq.units import seconds

__all__ = ["Job"]

R = TypeVar("R")


class Job(Generic[R]):
    """A stored job. `R` is what its task returns.

    id, queue, task: its id, and the names of its queue and task (empty if unknown). disposition: what its enqueue
    did: "new"; "existing" if a job of that id or unique key stood already, and this is the handle of that one;
    "replaced" if that one took these arguments.
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
        """What the task returned, as soon as it did. `timeout` in seconds; None waits without a bound.

        Raises what the task raised, as its own class if that is imported here and else as TaskFailed, with the worker's
        traceback as its cause; NoResult at once if the task keeps no results; ResultTimeout, ResultExpired or
        JobNotFound if there is none to be had; BrokerUnavailable.
        """
        return self._session.run(lambda: self.aresult(timeout))

    async def aresult(self, timeout: float | timedelta | None = 60.0) -> R:
        """The same from async code."""
        if self._known and self._result_ttl is None:
            raise NoResult(
                f"{self.task} stores no results",
                hint="give it @task(result_ttl=3600), or this call .options(result_ttl=3600)",
            )
        bound = None if timeout is None else seconds(timeout, "timeout")
        record = await self._client.result(self.queue, self.id, bound, self._result_ttl)
        if record.failure is not None:
            raise revive(record.failure)
        try:
            value: R = self._decode(record)
        except ValueError as error:
            raise ResultError(
                f"the result of job {self.id} is not what {record.task} is annotated to return: {error}"
            ) from None
        return value

    def status(self) -> State:
        """Where the job is in its life.

        One that was enqueued here and is neither in its queue nor dead has succeeded, also when no result is kept.
        Raises JobNotFound if nothing is known of one that was not, BrokerUnavailable.
        """
        return self._session.run(self.astatus)

    async def astatus(self) -> State:
        """The same from async code."""
        state = await self._client.state(self.queue, self.id)
        if state is None and self._known:
            return "succeeded"
        if state is None:
            raise JobNotFound(
                f"nothing is known of job {self.id} in queue {self.queue!r}: "
                "it never was, or it is done and kept no result"
            )
        return state
