"""The answer of a caller that nobody can make give up: the default of `wanted`, which some verbs of the port take."""

from __future__ import annotations

__all__ = ["always"]


def always() -> bool:
    """Return True: what was begun is still wanted."""
    return True
