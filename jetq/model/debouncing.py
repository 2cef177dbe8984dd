"""What becomes of a scheduled job when a debounced one of its key replaces it. Pure: no broker and no clock."""

from __future__ import annotations

from msgspec.structs import replace

from jetq.model.job import Debounce, JobRecord, Meta, in_place_of

__all__ = ["debounced"]


def debounced(
    new: JobRecord, due: float | None, debounce: Debounce, *, before: Meta, stored_at: float, now: float
) -> tuple[JobRecord, float]:
    """Return `new` with the meta by which it replaces the job of `before`, and when it is due: at `due`, or at once for
    None, but never later than `max_wait` after the first of its key was enqueued. All times in unix seconds.

    stored_at: when the message of `before` was stored, which counts if its meta does not say when it was enqueued.
    """
    first = before.enqueued or stored_at
    asked = when = now if due is None else due
    if debounce.max_wait is not None:
        when = min(when, max(first + debounce.max_wait, now))
    return replace(new, meta=in_place_of(before, new.meta, first=first, earlier=asked - when)), when
