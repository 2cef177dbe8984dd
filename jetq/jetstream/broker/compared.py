"""Writing a value only in the place of a known value, as cells and records do."""

from __future__ import annotations

import math

from jetq.jetstream.broker.base import EXPECTED, TTL
from jetq.jetstream.streams.publisher import Publisher, WrongSequence

__all__ = ["write_compared"]


async def write_compared(
    publisher: Publisher, subject: str, value: bytes, expected: int | None, ttl: float | None
) -> int | None:
    """Store `value` on `subject`, for `ttl` seconds (rounded up to whole ones) if given; return its sequence.

    With `expected`, the value is stored only if the newest message on `subject` has the sequence `expected`; 0 means
    that there is no message. Otherwise the call returns None and stores nothing.
    """
    headers: dict[str, str] = {}
    if expected is not None:
        headers[EXPECTED] = str(expected)
    if ttl is not None:
        headers[TTL] = f"{max(1, math.ceil(ttl))}s"
    try:
        ack = await publisher.publish(subject, value, headers)
    except WrongSequence:
        return None
    return ack.seq
