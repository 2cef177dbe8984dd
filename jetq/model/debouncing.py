"""The job that results when a debounced call replaces a scheduled job of its key. Pure: no broker and no clock."""

from __future__ import annotations

from msgspec.structs import replace

from jetq.model.job import Debounce, JobRecord, Meta, replacing_meta

__all__ = ["debounced"]


def debounced(
    new: JobRecord, due: float | None, debounce: Debounce, *, before: Meta, stored_at: float, now: float
) -> tuple[JobRecord, float]:
    """Return `new` with the meta for the place of the job that has the meta `before`, and the time at which it is due.

    That time is `due`, or `now` if `due` is None, but never later than `max_wait` seconds after the first job of the
    key was enqueued. All times are unix seconds.

    stored_at: when the message of the replaced job was stored. This counts as the time of its enqueue if `before` does
        not say that time.
    """
    first = before.enqueued or stored_at
    asked = when = now if due is None else due
    if debounce.max_wait is not None:
        when = min(when, max(first + debounce.max_wait, now))
    return replace(new, meta=replacing_meta(before, new.meta, first=first, earlier=asked - when)), when
