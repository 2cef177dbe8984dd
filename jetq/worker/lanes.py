"""The lanes of one queue: one feed for the queue, or one for each of its levels, and the jobs that they brought and
that wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from jetq.broker.consuming import Feed
from jetq.model.job import LEVELS, Level
from jetq.worker.attempt import Attempt
from jetq.worker.round_robin import WeightedRoundRobin

__all__ = ["Lane", "QueueLanes"]

_ANSWERED_WITHIN = 0.2
"""Seconds within which the broker answers a request if the queue has jobs. That covers a round trip and a busy loop."""


class Lane:
    """One feed, and the jobs that it brought and that wait for a slot."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.waiting: deque[Attempt] = deque()

    @property
    def clear(self) -> bool:
        """Whether the lane is known to have no jobs: its feed has an open request, and the broker said that nothing is
        left."""
        return not self.waiting and self.feed.left == 0 and self.feed.asked > 0

    @property
    def wanting(self) -> bool:
        """Whether the broker said that more jobs are left."""
        return bool(self.feed.left)


class QueueLanes:
    """The lanes of one queue, the highest level first.

    feeds: the feeds by level; a queue without levels has "normal" alone. policy: None if a job waits for all jobs of
    higher levels; otherwise the weights by which levels share. slots: the number of slots of the worker. alone: set by
    the intake where it serves no other queue.
    """

    def __init__(self, feeds: Mapping[Level, Feed], policy: Mapping[Level, int] | None, slots: int) -> None:
        self.lanes: dict[Level, Lane] = {level: Lane(feeds[level]) for level in LEVELS if level in feeds}
        self.delivered_at = self.asked_at = 0.0
        self.alone = False
        self._ordered = list(self.lanes.values())
        self._by_weight: WeightedRoundRobin | None = None
        self._at_hand: list[int] = []
        if policy is not None:
            weights = [policy.get(level, 1) for level in self.lanes]
            self._by_weight = WeightedRoundRobin(weights)
            # A choice by weight needs some jobs of each level at hand: together as many as would fill the slots.
            self._at_hand = [-(-slots * weight // sum(weights)) for weight in weights]

    @property
    def asked(self) -> int:
        """How many jobs were requested and have not arrived. Requests of lanes that are known to be empty do not count,
        if the queue has levels."""
        if len(self._ordered) == 1:
            return self._ordered[0].feed.asked
        return sum(lane.feed.asked for lane in self._ordered if not lane.clear)

    def expected(self, now: float) -> int:
        """Return how many of the requested jobs to expect at once. `now` is `time.monotonic()`.

        A queue with jobs answers within 0.2 s. A request that is not answered by then found the queue empty, and the
        slots of that request go to other queues.
        """
        if self.alone:
            return self.asked
        answers = now - max(self.asked_at, self.delivered_at) < _ANSWERED_WITHIN and not self.exhausted
        return self.asked if answers else 0

    @property
    def exhausted(self) -> bool:
        """Whether the broker said with the last job of a queue without levels that no more are left."""
        return len(self._ordered) == 1 and self._ordered[0].feed.left == 0

    @property
    def listens(self) -> bool:
        """Whether the open requests are enough to be told of the next job that may start."""
        for lane in self._ordered:
            if not lane.feed.asked:
                return False
            if self._by_weight is None and not lane.clear:
                return True
        return True

    @property
    def waiting(self) -> int:
        """How many jobs wait for a slot."""
        return sum(len(lane.waiting) for lane in self._ordered)

    def next(self) -> Attempt | None:
        """Take out the job to be started next and return it. None if no job waits, or if jobs on their way go first."""
        lanes = self._ordered
        if len(lanes) == 1:
            return lanes[0].waiting.popleft() if lanes[0].waiting else None
        if self._by_weight is not None:
            ready = [number for number, lane in enumerate(lanes) if lane.waiting]
            owed = [number for number, lane in enumerate(lanes) if not lane.waiting and lane.wanting]
            return lanes[self._by_weight.pick(ready, owed)].waiting.popleft() if ready else None
        for lane in lanes:
            if lane.waiting:
                return lane.waiting.popleft()
            if not lane.clear:  # a job of this level may be on its way, and goes before all lower ones
                return None
        return None

    def ask(self, slots: int) -> None:
        """Ask for up to `slots` jobs in all, of the levels that may be next."""
        lanes = self._ordered
        if len(lanes) == 1:
            lanes[0].feed.ask(slots)
        elif self._by_weight is None:
            for lane in lanes:  # one request is enough to learn of the first job, whose delivery tells of the others
                lane.feed.ask(max(1, slots) if lane.wanting else 1)
                if not lane.clear:
                    return
        else:
            for lane, at_hand in zip(lanes, self._at_hand, strict=True):
                lane.feed.ask(max(1, at_hand - len(lane.waiting)) if lane.wanting else 1)
