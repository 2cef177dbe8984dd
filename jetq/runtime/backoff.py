"""The pauses between the tries of something that fails."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["backoff"]


def backoff(first: float, last: float) -> Iterator[float]:
    """Yield the seconds to wait before each next try, without an end: `first`, then twice as many each time, and `last`
    at most."""
    seconds = first
    while True:
        yield seconds
        seconds = min(seconds * 2, last)
