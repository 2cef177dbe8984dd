"""Time in the memory broker: actions with the times at which they are due, and a clock that only a test moves."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable

__all__ = ["FakeClock", "Timers"]


class Timers:
    """Actions in the order of the times at which they are due. Actions of one time run in the order of their adding."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def add(self, when: float, action: Callable[[], None]) -> bool:
        """Add an action that is due at `when`. Return whether this action is the next one."""
        entry = (when, next(self._order), action)
        heapq.heappush(self._heap, entry)
        return self._heap[0] is entry

    @property
    def next_due(self) -> float | None:
        """The time at which the first action is due; None if there is no action."""
        return self._heap[0][0] if self._heap else None

    def run(self, now: float) -> None:
        """Run the actions that are due by `now`, in order, also due actions that these actions add."""
        while self._heap and self._heap[0][0] <= now:
            heapq.heappop(self._heap)[2]()


class FakeClock:
    """A clock in unix seconds that only `advance` moves. The clock starts at `now`; None starts at the real time.

    Several stores may share the clock, and any thread may move it.
    """

    def __init__(self, now: float | None = None) -> None:
        self._now = time.time() if now is None else now
        self._watched: list[tuple[Callable[[], float | None], Callable[[], None]]] = []

    def now(self) -> float:
        """Return the time, in unix seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass. Actions that become due meanwhile run in order, each at its own time.

        Deliveries that follow from these actions arrive once their event loop runs. Raises ValueError for less than 0
        seconds.
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
        """Call `run_due` whenever this clock reaches the time that `next_due` returns; None means no time."""
        self._watched.append((next_due, run_due))

    def _next_due(self) -> float | None:
        dues = [due for next_due, _ in self._watched if (due := next_due()) is not None]
        return min(dues, default=None)
