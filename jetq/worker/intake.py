"""The intake of a worker: decides which job is next. Feeds of several queues and levels share the worker's slots, and
jobs that found no free slot wait in the intake."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from itertools import islice

from jetq.broker.consuming import Feed
from jetq.model.job import Level
from jetq.worker.attempt import Attempt
from jetq.worker.lanes import Lane, QueueLanes
from jetq.worker.prefetch import Prefetch
from jetq.worker.round_robin import WeightedRoundRobin

__all__ = ["Intake"]

_BUSY_FOR = 1.0
"""Seconds after its last delivery for which a queue takes part in the sharing of free slots."""

_PREFETCH_CAP = 100
"""The most jobs that are asked for ahead, or the number of slots if that is larger."""

_COMES_BACK_WITHIN = 5.0
"""Seconds for which additional deliveries are asked for, after running jobs of this worker ceased to be held."""


class Intake:
    """The feeds of a worker with `concurrency` slots.

    A queue has one lane, or one for each level. weights: the weights of queues, 1 for a queue without. ahead: jobs may
    be asked for beyond the free slots, if one queue without levels is served; with several queues or levels a waiting
    job would keep its place from jobs of another queue.

    Guarantee: tests/faults/test_storms.py::test_a_million_jobs_waiting_slow_nothing_down_and_take_no_memory: it asks
    for what there are slots for, and a bounded number ahead, so a worker's memory does not grow with what waits.
    """

    def __init__(self, concurrency: int, weights: Mapping[str, int], *, ahead: bool) -> None:
        self._concurrency = concurrency
        self._weights = weights
        self._lanes_of: dict[str, QueueLanes] = {}
        self._queues: list[QueueLanes] = []
        # Two objects, because a pick for a request and a pick for a start each count as a turn of their own.
        self._starts = self._requests = WeightedRoundRobin([])
        self._only: Lane | None = None  # the only lane of the only queue, as most workers have it
        self._prefetch = Prefetch(max(concurrency, _PREFETCH_CAP) if ahead else 0, time.monotonic())
        self._lost, self._lost_until = 0, 0.0

    def open(self, queue: str, feeds: Mapping[Level, Feed], policy: Mapping[Level, int] | None) -> None:
        """Serve `queue` too, or serve it anew with levels. feeds, policy: see `QueueLanes`."""
        lanes = QueueLanes(feeds, policy, self._concurrency)
        if queue in self._lanes_of:
            lanes.lanes["normal"].waiting.extend(self._lanes_of[queue].lanes["normal"].waiting)
        self._lanes_of[queue] = lanes
        self._queues = list(self._lanes_of.values())
        for each in self._queues:
            each.alone = len(self._queues) == 1
        self._only = lanes.lanes["normal"] if lanes.alone and len(lanes.lanes) == 1 else None
        weights = [self._weights.get(name, 1) for name in self._lanes_of]
        self._starts, self._requests = WeightedRoundRobin(weights), WeightedRoundRobin(weights)

    async def close(self, queue: str) -> None:
        """Stop the feeds of `queue`. Jobs that wait here stay."""
        for lane in self._lanes_of[queue].lanes.values():
            await lane.feed.stop()

    def _lanes(self) -> Iterator[Lane]:
        for queue in self._queues:
            yield from queue.lanes.values()

    @property
    def feeds(self) -> list[Feed]:
        """The feeds of all lanes."""
        return [lane.feed for lane in self._lanes()]

    def has_levels(self, queue: str) -> bool:
        """Return whether `queue` was opened with levels."""
        return queue in self._lanes_of and len(self._lanes_of[queue].lanes) > 1

    def serves(self, queue: str, level: Level) -> bool:
        """Return whether jobs of that level can be taken in."""
        return queue in self._lanes_of and level in self._lanes_of[queue].lanes

    def __contains__(self, queue: str) -> bool:
        return queue in self._lanes_of

    def __len__(self) -> int:
        """Return how many jobs wait for a slot."""
        if self._only is not None:
            return len(self._only.waiting)
        return sum(queue.waiting for queue in self._queues)

    def __iter__(self) -> Iterator[Attempt]:
        for lane in self._lanes():
            yield from lane.waiting

    def expect(self, queue: str, level: Level, by: str | None, lost: int) -> None:
        """Note which consumer hands out that level's jobs now (see `Terms.by`), and that `lost` running jobs are held
        no more.

        The intake asks for `lost` additional jobs: a lost job that is handed out to this worker again goes on, and
        needs no slot.
        """
        lanes = self._lanes_of.get(queue)
        if lanes is not None and level in lanes.lanes:
            lanes.lanes[level].feed.expect(by)
        self._lost, self._lost_until = lost, time.monotonic() + _COMES_BACK_WITHIN

    def came_back(self) -> None:
        """Count one of the lost jobs as handed out here again."""
        self._lost = max(0, self._lost - 1)

    def _still_lost(self) -> int:
        if time.monotonic() > self._lost_until:
            self._lost = 0
        return max(0, self._lost - len(self))

    def arrived(self, attempt: Attempt, free: bool) -> bool:
        """Record a delivery. Return whether the job may start now, for which a slot must be `free`; otherwise the job
        waits for `next`."""
        if self._only is not None:
            self._prefetch.answered(time.monotonic())
            if free and not self._only.waiting:
                self._prefetch.started += 1
                return True
            self._only.waiting.append(attempt)  # behind the jobs that came before this one
            return False
        delivery = attempt.delivery
        lanes = self._lanes_of[delivery.queue]
        lanes.delivered_at = time.monotonic()
        if free and len(lanes.lanes) == 1:
            return True
        lanes.lanes[delivery.level].waiting.append(attempt)
        return False

    def surplus(self, *, all: bool = False) -> Iterator[Attempt]:
        """Take out the jobs that are better given back: jobs asked for ahead that would wait long for a slot, or `all`
        waiting jobs.

        A job that was delivered before is never taken out: given back, the job would look new, and a job that kills its
        worker would go round.
        """
        if all:
            for lane in self._lanes():
                yield from _take_fresh(lane.waiting, len(lane.waiting))
        elif self._only is not None and (excess := self._prefetch.excess(len(self._only.waiting))):
            yield from _take_fresh(self._only.waiting, excess)

    def drain(self) -> Iterator[Attempt]:
        """Take out all waiting jobs, to be given back. The order does not matter."""
        for lane in self._lanes():
            while lane.waiting:
                yield lane.waiting.popleft()

    def next(self) -> Attempt | None:
        """Take out the job to be started next and return it; None if there is none."""
        if self._only is not None:
            if not self._only.waiting:
                return None
            self._prefetch.started += 1
            return self._only.waiting.popleft()
        if len(self._queues) == 1:
            return self._queues[0].next()
        ready = [number for number, queue in enumerate(self._queues) if queue.waiting]
        while ready:
            number = self._starts.pick(ready)
            attempt = self._queues[number].next()
            if attempt is not None:
                return attempt
            ready.remove(number)
        return None

    def ask(self, free: int) -> None:
        """Ask for jobs for all `free` slots once half of the slots are free, so that one request serves many jobs."""
        if self._lost:
            free += self._still_lost()
        if self._only is not None:
            self._ask_ahead(self._only, free)
            return
        if free <= 0:
            return
        now = time.monotonic()
        asked = sum(queue.expected(now) for queue in self._queues)
        if (free - asked) * 2 < self._concurrency and all(queue.listens for queue in self._queues):
            return
        if len(self._queues) == 1:
            self._queues[0].ask(free)
        else:
            self._share(free - asked, now)

    def _ask_ahead(self, lane: Lane, free: int) -> None:
        """Ask for jobs for the `free` slots and for some jobs beyond, once half of that number is missing."""
        now, prefetch, asked = time.monotonic(), self._prefetch, lane.feed.asked
        prefetch.recompute(now)
        missing = free + prefetch.jobs - len(lane.waiting) - asked
        idle = free > 0 and not asked
        if idle or (missing > 0 and missing * 2 >= (prefetch.jobs or self._concurrency)):
            if not asked:
                prefetch.asked(now)
            lane.feed.ask(asked + missing)

    def _share(self, unasked: int, now: float) -> None:
        """Split the free slots over the queues with work. A quiet queue has a request for one job, which wakes the
        queue, also when there are more queues than slots."""
        queues = self._queues
        busy = [n for n, queue in enumerate(queues) if now - queue.delivered_at < _BUSY_FOR and not queue.exhausted]
        for number, queue in enumerate(queues):
            if number not in busy and not queue.listens:
                queue.ask(1)
                unasked -= 1
        shares = Counter(self._requests.pick(busy) for _ in range(unasked if busy else 0))
        for number, share in shares.items():
            queue = queues[number]
            queue.asked_at = now
            queue.ask(queue.asked + share)


def _take_fresh(waiting: deque[Attempt], most: int) -> list[Attempt]:
    """Take out up to `most` jobs that were delivered for the first time, beginning with the jobs that came last."""
    taken = list(islice((each for each in reversed(waiting) if each.delivery.count == 1), most))
    for attempt in taken:
        waiting.remove(attempt)
    return taken
