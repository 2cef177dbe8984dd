"""The default of `wanted`, which some verbs of the port take: the answer of a caller that never gives up."""

from __future__ import annotations

__all__ = ["always"]


def always() -> bool:
    """Return True: the caller still wants the work that was begun."""
    return True
