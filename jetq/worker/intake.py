"""What a worker takes next: feeds of several queues and levels share its slots, and jobs that found none wait here."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from jetq.broker import Feed
from jetq.model.job import LEVELS, Level
from jetq.worker.attempts.attempt import Attempt
from jetq.worker.prefetch import Ahead

__all__ = ["Intake", "Turns"]

_BUSY = 1.0
"""Seconds after its last delivery for which a queue takes part in the sharing of free slots."""

_ANSWERED = 0.2
"""Seconds within which a request is answered if the queue has jobs: a round trip, and a busy loop."""


_AHEAD = 100
"""Jobs that are asked for ahead at most, or as many as there are slots."""

_COME_BACK_WITHIN = 5.0
"""Seconds for which deliveries are asked for besides, once jobs that run here are not held any more."""


class Turns:
    """Whose turn it is, by weight and smoothly: with 3 to 1, one of each four in a row is the second's."""

    def __init__(self, weights: Sequence[int]) -> None:
        self._weights = weights
        self._credit = [0] * len(weights)

    def pick(self, ready: Sequence[int], owed: Sequence[int] = ()) -> int:
        """One of `ready`. Those of `owed` cannot have their turn now and get it later, up to a few in a row."""
        total = sum(self._weights[each] for each in (*ready, *owed))
        for each in (*ready, *owed):
            self._credit[each] = min(self._credit[each] + self._weights[each], 4 * total)
        best = max(ready, key=lambda each: self._credit[each])
        self._credit[best] -= total
        return best


class _Lane:
    """One feed, and what it brought that waits for a slot."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.waiting: deque[Attempt] = deque()

    @property
    def clear(self) -> bool:
        """Whether nothing of it is to be had: it would get the next job, and there is none."""
        return not self.waiting and self.feed.left == 0 and self.feed.asked > 0

    @property
    def wanting(self) -> bool:
        """Whether there is more to be had for sure."""
        return bool(self.feed.left)


class _Line:
    """One queue: its lanes, the highest level first. policy: None for strict, else weights by level."""

    def __init__(self, lanes: Mapping[Level, Feed], policy: Mapping[Level, int] | None, slots: int) -> None:
        self.lanes: dict[Level, _Lane] = {level: _Lane(lanes[level]) for level in LEVELS if level in lanes}
        self.delivered_at = self.asked_at = 0.0
        self.alone = False
        self._ordered = list(self.lanes.values())
        self._turns = None
        if policy is not None:
            weights = [policy.get(level, 1) for level in self.lanes]
            self._turns = Turns(weights)
            # A choice needs some of each at hand: as many as would fill the slots.
            self._at_hand = [-(-slots * weight // sum(weights)) for weight in weights]

    @property
    def asked(self) -> int:
        """Jobs that are on their way for sure, or for all that is known."""
        if len(self._ordered) == 1:
            return self._ordered[0].feed.asked
        return sum(lane.feed.asked for lane in self._ordered if not lane.clear)

    def expected(self, now: float) -> int:
        """How many of those will come at once. What a queue had, it hands out in a moment; so a request that is not
        answered finds it empty, and the slots it was meant for go to others."""
        if self.alone:
            return self.asked
        return self.asked if now - max(self.asked_at, self.delivered_at) < _ANSWERED and not self.exhausted else 0

    @property
    def exhausted(self) -> bool:
        """Whether it has said with its last job that there were no more."""
        return len(self._ordered) == 1 and self._ordered[0].feed.left == 0

    @property
    def listens(self) -> bool:
        """Whether it will hear of the next job whose turn it is."""
        for lane in self._ordered:
            if not lane.feed.asked:
                return False
            if self._turns is None and not lane.clear:
                return True
        return True

    @property
    def waiting(self) -> int:
        return sum(len(lane.waiting) for lane in self._ordered)

    def next(self) -> Attempt | None:
        """The job to be started next; None if there is none, or none may be before others that are on their way."""
        lanes = self._ordered
        if len(lanes) == 1:
            return lanes[0].waiting.popleft() if lanes[0].waiting else None
        if self._turns is not None:
            ready = [place for place, lane in enumerate(lanes) if lane.waiting]
            owed = [place for place, lane in enumerate(lanes) if not lane.waiting and lane.wanting]
            return lanes[self._turns.pick(ready, owed)].waiting.popleft() if ready else None
        for lane in lanes:
            if lane.waiting:
                return lane.waiting.popleft()
            if not lane.clear:
                return None
        return None

    def ask(self, slots: int) -> None:
        """Ask for up to `slots` jobs in all, of the levels whose turn it may be."""
        lanes = self._ordered
        if len(lanes) == 1:
            lanes[0].feed.ask(slots)
        elif self._turns is None:
            for lane in lanes:  # one request is enough to hear of the first, and that tells of the others
                lane.feed.ask(max(1, slots) if lane.wanting else 1)
                if not lane.clear:
                    return
        else:
            for lane, at_hand in zip(lanes, self._at_hand, strict=True):
                lane.feed.ask(max(1, at_hand - len(lane.waiting)) if lane.wanting else 1)


class Intake:
    """The feeds of a worker with so many slots.

    A queue has one lane, or one for each level. weights: of queues, 1 if not given. ahead: jobs may be asked for
    beyond the free slots, where one queue without levels is served; with several a job would keep its place from those
    of another one.

    Guarantee: tests/faults/test_storms.py::test_a_million_jobs_waiting_slow_nothing_down_and_take_no_memory: it asks
    for what there are slots for, and a bounded number ahead, so a worker's memory does not grow with what waits.
    """

    def __init__(self, concurrency: int, weights: Mapping[str, int], *, ahead: bool) -> None:
        self._concurrency = concurrency
        self._weights = weights
        self._lines: dict[str, _Line] = {}
        self._ordered: list[_Line] = []
        self._turns = self._shares = Turns([])
        self._only: _Lane | None = None  # the one lane of the one queue, as most workers have it
        self._ahead = Ahead(max(concurrency, _AHEAD) if ahead else 0, time.monotonic())
        self._lost, self._lost_until = 0, 0.0

    def open(self, queue: str, feeds: Mapping[Level, Feed], policy: Mapping[Level, int] | None) -> None:
        """Take in `queue` too, or anew with levels."""
        line = _Line(feeds, policy, self._concurrency)
        if queue in self._lines:
            line.lanes["normal"].waiting.extend(self._lines[queue].lanes["normal"].waiting)
        self._lines[queue] = line
        self._ordered = list(self._lines.values())
        for each in self._ordered:
            each.alone = len(self._ordered) == 1
        self._only = line.lanes["normal"] if line.alone and len(line.lanes) == 1 else None
        weights = [self._weights.get(name, 1) for name in self._lines]
        self._turns, self._shares = Turns(weights), Turns(weights)

    async def close(self, queue: str) -> None:
        """Let no more come from `queue`."""
        for lane in self._lines[queue].lanes.values():
            await lane.feed.stop()

    @property
    def feeds(self) -> list[Feed]:
        """All of them."""
        return [lane.feed for line in self._ordered for lane in line.lanes.values()]

    def has_levels(self, queue: str) -> bool:
        """Whether `queue` was opened with levels."""
        return queue in self._lines and len(self._lines[queue].lanes) > 1

    def serves(self, queue: str, level: Level) -> bool:
        """Whether jobs of that level can be taken in."""
        return queue in self._lines and level in self._lines[queue].lanes

    def __contains__(self, queue: str) -> bool:
        return queue in self._lines

    def __len__(self) -> int:
        """How many jobs wait."""
        if self._only is not None:
            return len(self._only.waiting)
        return sum(line.waiting for line in self._ordered)

    def __iter__(self) -> Iterator[Attempt]:
        for line in self._ordered:
            for lane in line.lanes.values():
                yield from lane.waiting

    def expect(self, queue: str, level: Level, by: str | None, lost: int) -> None:
        """It was heard that this one hands out now (see `Terms.by`), and so many jobs that run here are not held any
        more: they are asked for besides, because what comes back goes on, and needs no slot."""
        line = self._lines.get(queue)
        if line is not None and level in line.lanes:
            line.lanes[level].feed.expect(by)
        self._lost, self._lost_until = lost, time.monotonic() + _COME_BACK_WITHIN

    def came_back(self) -> None:
        """One of them was handed out here again."""
        self._lost = max(0, self._lost - 1)

    def _for_the_lost(self) -> int:
        if time.monotonic() > self._lost_until:
            self._lost = 0
        return max(0, self._lost - len(self))

    def arrived(self, attempt: Attempt, free: bool) -> bool:
        """A delivery has come. Whether it may be started at once, if a slot is free; else it waits for `next`."""
        if self._only is not None:
            self._ahead.answered(time.monotonic())
            if free and not self._only.waiting:
                self._ahead.started += 1
                return True
            self._only.waiting.append(attempt)  # behind those that came before it
            return False
        delivery = attempt.delivery
        line = self._lines[delivery.queue]
        line.delivered_at = time.monotonic()
        if free and len(line.lanes) == 1:
            return True
        line.lanes[delivery.level].waiting.append(attempt)
        return False

    def surplus(self, *, all: bool = False) -> Iterator[Attempt]:
        """Those that would wait long for a slot, asked for ahead, or `all`: they are to be given back. Never one that
        was delivered before: given back it would be like new, and what kills its worker would go round."""
        if all:
            for line in self._ordered:
                for lane in line.lanes.values():
                    yield from _take_fresh(lane.waiting, len(lane.waiting))
        elif self._only is not None and (too_many := self._ahead.too_many(len(self._only.waiting))):
            yield from _take_fresh(self._only.waiting, too_many)

    def drain(self) -> Iterator[Attempt]:
        """All that wait, whoever's turn it is: they are to be given back."""
        for line in self._ordered:
            for lane in line.lanes.values():
                while lane.waiting:
                    yield lane.waiting.popleft()

    def next(self) -> Attempt | None:
        """The job to be started next, or None."""
        if self._only is not None:
            if not self._only.waiting:
                return None
            self._ahead.started += 1
            return self._only.waiting.popleft()
        if len(self._ordered) == 1:
            return self._ordered[0].next()
        ready = [place for place, line in enumerate(self._ordered) if line.waiting]
        while ready:
            place = self._turns.pick(ready)
            attempt = self._ordered[place].next()
            if attempt is not None:
                return attempt
            ready.remove(place)
        return None

    def ask(self, free: int) -> None:
        """Ask for the free slots: all of them when half are free, so that one request serves many jobs."""
        if self._lost:
            free += self._for_the_lost()
        if self._only is not None:
            self._ask_ahead(self._only, free)
            return
        if free <= 0:
            return
        now = time.monotonic()
        asked = sum(line.expected(now) for line in self._ordered)
        if (free - asked) * 2 < self._concurrency and all(line.listens for line in self._ordered):
            return
        if len(self._ordered) == 1:
            self._ordered[0].ask(free)
        else:
            self._share(free - asked, now)

    def _ask_ahead(self, lane: _Lane, free: int) -> None:
        now, ahead, asked = time.monotonic(), self._ahead, lane.feed.asked
        ahead.look(now)
        missing = free + ahead.jobs - len(lane.waiting) - asked
        idle = free > 0 and not asked
        if idle or (missing > 0 and missing * 2 >= (ahead.jobs or self._concurrency)):
            if not asked:
                ahead.asked(now)
            lane.feed.ask(asked + missing)

    def _share(self, unasked: int, now: float) -> None:
        """Split free slots over the queues with work. A quiet queue has a request for one, which wakes it, also when
        there are more queues than slots."""
        lines = self._ordered
        busy = [n for n, line in enumerate(lines) if now - line.delivered_at < _BUSY and not line.exhausted]
        for place, line in enumerate(lines):
            if place not in busy and not line.listens:
                line.ask(1)
                unasked -= 1
        shares = Counter(self._shares.pick(busy) for _ in range(unasked if busy else 0))
        for place, share in shares.items():
            line = lines[place]
            line.asked_at = now
            line.ask(line.asked + share)


def _take_fresh(waiting: deque[Attempt], most: int) -> list[Attempt]:
    """Take so many out that were delivered for the first time, those that came last."""
    taken = list(islice((each for each in reversed(waiting) if each.delivery.count == 1), most))
    for attempt in taken:
        waiting.remove(attempt)
    return taken
