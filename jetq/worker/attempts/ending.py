"""The ways in which an attempt is ended from outside, and the outcome of an attempt that is ended before any of its
code has run."""

from __future__ import annotations

from typing import Literal

from jetq.model.outcome import Cancelled, Released

__all__ = ["Ending", "outcome_without_run", "stronger"]

Ending = Literal["timeout", "release", "cancel"]
"""Why an attempt is being ended: its timeout has passed, its worker ends and gives the job back, or the job was
cancelled."""

_ORDER: tuple[Ending | None, ...] = (
    None,
    "timeout",
    "release",  # above its timeout: a job that is given back is charged nothing
    "cancel",  # above all: the caller of a cancel waits for a record, and a job that is given back would run again
)
"""The order of precedence: a later entry wins."""


def stronger(one: Ending | None, other: Ending) -> Ending:
    """Return which of two endings counts for an attempt that is ended in both ways, in whatever order."""
    return other if one is None or _ORDER.index(other) > _ORDER.index(one) else one


def outcome_without_run(ending: Ending | None) -> Cancelled | Released:
    """Return the outcome of an attempt that was ended while it waited to be run."""
    return Cancelled() if ending == "cancel" else Released()
