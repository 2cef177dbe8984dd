"""The role of the port that works: feeds of deliveries, their leases, and what becomes of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from jetq.model.dead_letter import DeadLetter
from jetq.model.job import Delivery, JobRecord, Level, Terms

__all__ = ["Consuming", "Feed"]


class Feed(Protocol):
    """A flow of deliveries from one queue to one worker."""

    def ask(self, slots: int) -> None:
        """Let up to `slots` further deliveries come in all: those still under way count, so asking again is no more.

        Asking for fewer than are under way takes nothing back. What stays unanswered for 10 s may shrink to one, as
        `asked` then shows. Does not block.
        """
        ...

    @property
    def asked(self) -> int:
        """Deliveries asked for and not yet arrived."""
        ...

    @property
    def left(self) -> int | None:
        """How many jobs of its queue or level were left for others to ask for when the feed last heard, which is with
        each job; None if the feed does not know. Of a feed with `on_clear` 0 only while it would get the next one."""
        ...

    @property
    def trouble(self) -> str | None:
        """Why nothing can arrive at the moment; None if deliveries can arrive, as far as is known."""
        ...

    def expect(self, by: str | None) -> None:
        """Take note that the one with this name hands out now (see `Terms.by`), or None: nobody. Makes sure that
        somebody does, and asks again if the name is another than this feed knew."""
        ...

    async def stop(self) -> None:
        """Ask for nothing more. When it returns no further delivery arrives, and none is under way to nobody."""
        ...


class Consuming(Protocol):
    """What workers do with deliveries. For errors see `jetq.broker`."""

    @property
    def lease(self) -> float:
        """Seconds a delivery stays with its holder without `extend`: the least of the queues fed or set up so far."""
        ...

    async def levels(self, queue: str) -> bool:
        """Return whether `queue` has levels: jobs of high and low priority, each with a feed of its own."""
        ...

    async def feed(
        self,
        queue: str,
        deliver: Callable[[Delivery], None],
        *,
        level: Level = "normal",
        on_clear: Callable[[], None] | None = None,
    ) -> Feed:
        """Start a flow of one level from `queue`. `deliver` is called on this loop, must not block, and decides
        nothing. So is `on_clear`, when the feed hears that nothing is left of its level; for queues with levels only.

        Survives restarts of the broker: what was asked for is asked again. Creates the queue on first use.
        """
        ...

    def finish(self, delivery: Delivery) -> None:
        """Remove the job, which is settled. Returns at once; a removal lost with the connection is repeated until it
        held.

        Only after what the outcome stores is stored.
        """
        ...

    async def confirm(self) -> None:
        """Return once every `finish` so far is known to have held, or after two seconds. Never raises."""
        ...

    async def reschedule(self, delivery: Delivery, job: JobRecord, due: float) -> bool:
        """Store `job`, the next attempt of `delivery`, for `due` (unix seconds).

        False if something newer of its id is stored already, or the delivery's own message is gone (its job was
        cancelled): nothing is stored then. `finish` either way.
        """
        ...

    async def give_back(self, delivery: Delivery, job: JobRecord) -> None:
        """Put the delivery back as `job`, to be handed out at once, its count forgotten; also settles it."""
        ...

    async def put_off(self, delivery: Delivery, after: float) -> None:
        """Leave the delivery's message where it is, to be handed out again in `after` seconds, its count higher; sooner
        if this is lost with the connection. The delivery is not held any more."""
        ...

    async def bury(self, delivery: Delivery, letter: DeadLetter) -> None:
        """Store the dead letter with the delivery's bytes, once however often it is repeated. Then `finish`."""
        ...

    async def superseded(self, delivery: Delivery) -> bool:
        """Return whether something newer of this job's id is stored, or this delivery was settled: dead, or with a
        result."""
        ...

    async def starts(self, delivery: Delivery) -> int:
        """Return how many starts of this delivery's message are on record."""
        ...

    async def record_start(self, delivery: Delivery, starts: int) -> None:
        """Put on record that this delivery's message was started `starts` times, before it is started again."""
        ...

    async def erase_starts(self, delivery: Delivery) -> None:
        """Forget the recorded starts."""
        ...

    async def extend(self, deliveries: Iterable[Delivery]) -> None:
        """Renew the leases from now on. Returns once the broker confirmed them; raises if it did not.

        Nothing is kept for later: without a connection it raises. What arrives late may renew the lease of the next
        holder, so who calls this believes a confirmation only if it came before the old lease's end.
        """
        ...

    async def terms(self, queue: str, level: Level) -> Terms | None:
        """Return the terms that hold at the broker now; None if nobody hands out any more."""
        ...
