"""A broker that counts what a worker does with its jobs, and passes each call on to the real broker."""

from __future__ import annotations

from typing import Any, cast

from msgspec import Struct

from jetq.broker import Broker
from jetq.encoding.headers import BadHeader, read_meta
from jetq.model.dead_letter import DeadLetter
from jetq.model.failure import AttemptError
from jetq.model.job import Delivery, JobRecord
from jetq.model.result import ResultRecord

__all__ = ["Ran", "Tally", "observed"]


class Ran(Struct, frozen=True):
    """What became of the attempts of one run.

    It says how many attempts succeeded, failed and will be retried, were snoozed, or died, and how many jobs were not
    run because they were cancelled or had expired.

    errors: those of the retried and the dead attempts, in the order they happened.
    """

    succeeded: int = 0
    retried: int = 0
    snoozed: int = 0
    dead: int = 0
    cancelled: int = 0
    expired: int = 0
    errors: tuple[AttemptError, ...] = ()

    @property
    def attempts(self) -> int:
        """The number of attempts that ended."""
        return self.succeeded + self.retried + self.snoozed + self.dead + self.cancelled + self.expired


class Tally:
    """Counts attempts by their outcome, from the calls that a worker makes to the broker for each attempt."""

    def __init__(self) -> None:
        self.start_over()

    def start_over(self) -> None:
        """Set all counts to zero."""
        self._settled: set[str] = set()
        self._ended: dict[tuple[str, int], str] = {}
        self._counts = {"succeeded": 0, "retried": 0, "snoozed": 0, "dead": 0, "cancelled": 0, "expired": 0}
        self._errors: list[AttemptError] = []

    @property
    def ran(self) -> Ran:
        """The counts so far."""
        return Ran(**self._counts, errors=tuple(self._errors))

    def rescheduled(self, delivery: Delivery, job: JobRecord) -> None:
        """Count a stored next attempt: a retry if it has a new number, nothing if it only waits in line, else a
        snooze."""
        if job.meta.in_line is not None:
            self.given_back(delivery)
        elif job.meta.attempt > _attempt(delivery):
            self._settle(delivery, "retried", job.meta.errors[-1:])
        else:
            self._settle(delivery, "snoozed")

    def buried(self, delivery: Delivery, letter: DeadLetter) -> None:
        """Count a stored dead letter."""
        self._settle(delivery, "dead", letter.errors[-1:])

    def given_back(self, delivery: Delivery) -> None:
        """Count nothing for `delivery`, whose job was given back."""
        self._settled.add(delivery.token)

    def recorded(self, result: ResultRecord) -> None:
        """Note the state in which a job ended, which is now stored."""
        self._ended[result.queue, result.sequence] = result.state

    def finished(self, delivery: Delivery) -> None:
        """Count a removed job: succeeded, unless another end was recorded before."""
        self._settle(delivery, self._ended.pop((delivery.queue, delivery.sequence), "succeeded"))

    def _settle(self, delivery: Delivery, outcome: str, errors: tuple[AttemptError, ...] = ()) -> None:
        if delivery.token not in self._settled:
            self._settled.add(delivery.token)
            self._counts[outcome] += 1
            self._errors += errors


def _attempt(delivery: Delivery) -> int:
    try:
        return read_meta(delivery.headers).attempt
    except BadHeader:
        return 1


class _Observed:
    """A broker that counts the outcomes on the way to `broker` into `tally`. See `jetq.broker.Broker`."""

    def __init__(self, broker: Broker, tally: Tally) -> None:
        self._broker = broker
        self._tally = tally

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._broker, verb)

    async def reschedule(self, delivery: Delivery, job: JobRecord, due: float) -> bool:
        stored = await self._broker.reschedule(delivery, job, due)
        self._tally.rescheduled(delivery, job)
        return stored

    async def give_back(self, delivery: Delivery, job: JobRecord) -> None:
        self._tally.given_back(delivery)
        await self._broker.give_back(delivery, job)

    async def store_dead(self, delivery: Delivery, letter: DeadLetter) -> None:
        await self._broker.store_dead(delivery, letter)
        self._tally.buried(delivery, letter)

    async def put_result(self, result: ResultRecord, ttl: float, *, unless_kept: bool = False) -> bool:
        self._tally.recorded(result)
        return await self._broker.put_result(result, ttl, unless_kept=unless_kept)

    def finish(self, delivery: Delivery) -> None:
        if not delivery.schedule:  # a tick is no attempt
            self._tally.finished(delivery)
        self._broker.finish(delivery)


def observed(broker: Broker, tally: Tally) -> Broker:
    """Return `broker` with its outcomes counted into `tally`."""
    return cast(Broker, _Observed(broker, tally))
