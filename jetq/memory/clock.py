"""Time in the memory broker: what is due when, and a clock that stands still until a test moves it."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable

__all__ = ["FakeClock", "Timers"]


class Timers:
    """Actions by the time they are due; those of one time in the order they were added."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def add(self, when: float, action: Callable[[], None]) -> bool:
        """Add an action. True if none is due before it."""
        entry = (when, next(self._order), action)
        heapq.heappush(self._heap, entry)
        return self._heap[0] is entry

    @property
    def next_due(self) -> float | None:
        """When the first action is due, or None if there is none."""
        return self._heap[0][0] if self._heap else None

    def run(self, now: float) -> None:
        """Run what is due by `now`, in order, and what that adds if it is due by `now` too."""
        while self._heap and self._heap[0][0] <= now:
            heapq.heappop(self._heap)[2]()


class FakeClock:
    """Unix seconds that pass only by `advance`. Starts at the real time unless `now` is given.

    May be shared by several stores and moved from any thread.
    """

    def __init__(self, now: float | None = None) -> None:
        self._now = time.time() if now is None else now
        self._watched: list[tuple[Callable[[], float | None], Callable[[], None]]] = []

    def now(self) -> float:
        """The time, in unix seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass: what falls due on the way happens in order, each at its own time.

        Deliveries that this sets off arrive once their event loop runs. Raises ValueError for less than 0 seconds.
        """
        if seconds < 0:
            raise ValueError(f"time does not run backwards: {seconds} s")
        target = self._now + seconds
        while (due := self._next_due()) is not None and due <= target:
            self._now = max(self._now, due)
            for _, run_due in self._watched:
                run_due()
        self._now = target

    def watch(self, next_due: Callable[[], float | None], run_due: Callable[[], None]) -> None:
        """Have `run_due` called whenever the time that `next_due` names is reached."""
        self._watched.append((next_due, run_due))

    def _next_due(self) -> float | None:
        dues = [due for next_due, _ in self._watched if (due := next_due()) is not None]
        return min(dues, default=None)
