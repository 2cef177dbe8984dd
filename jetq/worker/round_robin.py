"""Picking in turn, by weight."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["WeightedRoundRobin"]

_MOST_ROUNDS_OWED = 4
"""The most rounds of picks for which a number that cannot be picked now saves up: the number may be picked that many
rounds in a row later."""


class WeightedRoundRobin:
    """Smooth weighted round-robin over 0, 1, ...: with the weights 3 and 1, every fourth pick is the second."""

    def __init__(self, weights: Sequence[int]) -> None:
        self._weights = weights
        self._credit = [0] * len(weights)

    def pick(self, ready: Sequence[int], owed: Sequence[int] = ()) -> int:
        """Return one number of `ready`. The numbers of `owed` cannot be picked now, and are picked later, a few times
        in a row."""
        total = sum(self._weights[each] for each in (*ready, *owed))
        for each in (*ready, *owed):
            self._credit[each] = min(self._credit[each] + self._weights[each], _MOST_ROUNDS_OWED * total)
        best = max(ready, key=lambda each: self._credit[each])
        self._credit[best] -= total
        return best
