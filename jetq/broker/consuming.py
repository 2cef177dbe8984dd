"""The role of the port that works: feeds of deliveries, the leases of deliveries, and what becomes of each delivery."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from jetq.model.dead_letter import DeadLetter
from jetq.model.job import Delivery, JobRecord, Level, Terms

__all__ = ["Consuming", "Feed"]


class Feed(Protocol):
    """A flow of deliveries from one queue to one worker."""

    def ask(self, slots: int) -> None:
        """Let up to `slots` further deliveries come in all. Does not block.

        Deliveries that are still under way count, so asking again with the same number asks for no more. Asking for
        fewer than are under way takes nothing back. A request that stays unanswered for 10 s may shrink to one
        delivery, as `asked` then shows.
        """
        ...

    @property
    def asked(self) -> int:
        """The number of deliveries asked for and not yet arrived."""
        ...

    @property
    def left(self) -> int | None:
        """How many jobs of the feed's queue or level were left to ask for when the feed last heard; None if unknown.

        The feed hears the number with each job. For a feed with `on_clear`, 0 is given only while that feed would get
        the next job.
        """
        ...

    @property
    def problem(self) -> str | None:
        """Why nothing can arrive at the moment; None if deliveries can arrive, as far as is known."""
        ...

    def expect(self, by: str | None) -> None:
        """Take note of the name of what hands out jobs now (see `Terms.by`); None means that nothing does.

        The feed makes sure that jobs are handed out, and asks again if the name is another than the feed knew.
        """
        ...

    async def stop(self) -> None:
        """Ask for nothing more. When this returns, no delivery arrives any more, and none is under way to nobody."""
        ...


class Consuming(Protocol):
    """The verbs of workers for deliveries. For errors see `jetq.broker`."""

    @property
    def lease(self) -> float:
        """Seconds a delivery stays with its holder without `extend`: the least lease of the queues used so far."""
        ...

    async def levels(self, queue: str) -> bool:
        """Return whether `queue` has levels: jobs of high and low priority, each level with a feed of its own."""
        ...

    async def feed(
        self,
        queue: str,
        deliver: Callable[[Delivery], None],
        *,
        level: Level = "normal",
        on_clear: Callable[[], None] | None = None,
    ) -> Feed:
        """Start a flow of one level from `queue`. The queue is created on first use.

        `deliver` is called on this loop, must not block, and decides nothing. The same holds for `on_clear`, which is
        called when the feed hears that nothing is left of its level; `on_clear` is only for queues with levels. The
        flow survives restarts of the broker: the feed asks again for the deliveries that were asked for.
        """
        ...

    def finish(self, delivery: Delivery) -> None:
        """Remove the job, which is settled, without waiting.

        A removal that is lost with the connection is repeated until the job is removed. Call this only after everything
        that the outcome leaves behind is stored.
        """
        ...

    async def confirm(self) -> None:
        """Wait until every `finish` so far is confirmed, or until two seconds are over. Never raises."""
        ...

    async def reschedule(self, delivery: Delivery, job: JobRecord, due: float) -> bool:
        """Store `job`, the next attempt of `delivery`, for `due` (unix seconds). Call `finish` afterwards in any case.

        Returns False, and nothing is stored, if something newer with the job's id is stored already, or if the
        delivery's own message is gone because the job was cancelled.
        """
        ...

    async def give_back(self, delivery: Delivery, job: JobRecord) -> None:
        """Put the delivery back as `job`, to be handed out at once, its count forgotten.

        This settles the delivery too.
        """
        ...

    async def put_off(self, delivery: Delivery, after: float) -> None:
        """Leave the delivery's message where it is, to be handed out again in `after` seconds with a higher count.

        The message is handed out sooner if this request is lost with the connection. The worker does not hold the
        delivery any more.
        """
        ...

    async def store_dead(self, delivery: Delivery, letter: DeadLetter) -> None:
        """Store the dead letter with the delivery's bytes, only once if this is repeated. Call `finish` afterwards."""
        ...

    async def is_superseded(self, delivery: Delivery) -> bool:
        """Return whether something newer with this job's id is stored, or this delivery was settled (dead or with
        result)."""
        ...

    async def recorded_starts(self, delivery: Delivery) -> int:
        """Return how many starts of this delivery's message are on record."""
        ...

    async def record_start(self, delivery: Delivery, starts: int) -> None:
        """Put on record, before the next start, that this delivery's message was started `starts` times."""
        ...

    async def erase_starts(self, delivery: Delivery) -> None:
        """Forget the recorded starts of this delivery's message."""
        ...

    async def extend(self, deliveries: Iterable[Delivery]) -> None:
        """Renew the leases from now on. Returns once the broker confirmed the renewal; raises if the broker did not.

        Nothing is kept for later: without a connection the call raises. A renewal that arrives late may renew the lease
        of the next holder. So a caller may believe a confirmation only if it came before the end of the old lease.
        """
        ...

    async def terms(self, queue: str, level: Level) -> Terms | None:
        """Return the terms that hold at the broker now; None if jobs of this queue and level are not handed out any
        more."""
        ...
