"""Writing a value only in the place of a known value, as cells, records and entries of the ledger do."""

from __future__ import annotations

import math

from jetq.jetstream.broker.base import EXPECTED, EXPECTED_ON, TTL
from jetq.jetstream.streams.publisher import Publisher, WrongSequence

__all__ = ["compared_headers", "write_compared"]


async def write_compared(
    publisher: Publisher,
    subject: str,
    value: bytes,
    expected: int | None,
    ttl: float | None,
    *,
    on: str | None = None,
) -> int | None:
    """Store `value` on `subject`, for `ttl` seconds (rounded up to whole ones) if given; return its sequence.

    With `expected`, the value is stored only if the newest message on `on`, a filter (None takes `subject`), has the
    sequence `expected`; 0 means that there is no message. Otherwise the call returns None and stores nothing.
    """
    try:
        ack = await publisher.publish(subject, value, compared_headers(expected, ttl, on))
    except WrongSequence:
        return None
    return ack.seq


def compared_headers(expected: int | None, ttl: float | None, on: str | None) -> dict[str, str]:
    """Return the headers with which `write_compared` stores a message."""
    headers: dict[str, str] = {}
    if expected is not None:
        headers[EXPECTED] = str(expected)
        if on is not None:
            headers[EXPECTED_ON] = on
    if ttl is not None:
        headers[TTL] = f"{max(1, math.ceil(ttl))}s"
    return headers
