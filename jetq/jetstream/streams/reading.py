"""Reading many messages of a stream in order, without holding up those who write to it.

What a server does under the lock of a stream decides what may be asked of it (nats-server 2.15.1, a million jobs):
- a get with a filter that begins at the stream's first message has the server look at all that match, 0.2 to 0.7 s in
  which nobody stores anything; one that begins above it takes 0.4 ms. The first message itself is asked for by its
  sequence: it is one that no job follows, unless somebody else made the stream;
- `batch` and `multi_last` count what is left after each answer, which takes 0.2 s once anything was removed, and
  `subjects_filter` walks through all that match;
- gets by sequence, several under way, take a tenth of a millisecond each.

A filter that names an id or a key matches few, and is found in the server's tree of subjects from anywhere.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator

from jetq.jetstream.streams.api import Api, StoredMessage

__all__ = ["at_once", "each_message", "matches"]

_MOST_AT_ONCE = 32
_BYTES_AT_ONCE = 8 * 1024 * 1024
"""Of answers under way. A server hangs up on who has not taken 64 MiB."""


def at_once(max_payload: int) -> int:
    """How many messages of up to that many bytes may be asked for at once."""
    return max(1, min(_MOST_AT_ONCE, _BYTES_AT_ONCE // max(max_payload, 1)))


async def each_message(
    api: Api,
    stream: str,
    where: str,
    *,
    at_once: int,
    after: int = 0,
    until: float = math.inf,
    limit: float = math.inf,
    surely: bool = False,
) -> AsyncIterator[StoredMessage]:
    """The messages on `where`, of which there may be many, with sequences above `after` and up to `until`, in order, at
    most `limit`; `at_once` are asked for together. surely: as the leader has them, not as some replica.

    Guarantee: tests/integration/queues/test_lookups.py: the server is never asked to look through all that stands.
    """
    by_filter, by_sequence = (api.first_message, api.message) if surely else (api.next_message, api.replicas_message)
    info = await api.stream_info(stream)
    if info is None:
        return
    first = int(info["state"]["first_seq"])
    sequence, jump = max(after + 1, first), True
    while limit > 0 and sequence <= until:
        if jump and sequence > first:
            message = await by_filter(stream, where, sequence)
            if message is None or message.sequence > until:
                return
            found, sequence = [message], message.sequence + 1
        else:
            size = 1 if sequence == first else int(min(at_once, limit, until - sequence + 1))
            window = await asyncio.gather(*(by_sequence(stream, n) for n in range(sequence, sequence + size)))
            found = [each for each in window if each is not None and matches(where, each.subject)]
            sequence += size
        jump = not found or (not jump and len(found) * 2 < at_once)  # where gaps are many, from one to the next
        limit -= len(found)
        for each in found:
            yield each


def matches(where: str, subject: str) -> bool:
    """Whether a subject is one of those that a filter names."""
    wanted, tokens = where.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted, tokens = wanted[:-1], tokens[: len(wanted) - 1] if len(tokens) >= len(wanted) else []
    return len(wanted) == len(tokens) and all(w in ("*", t) for w, t in zip(wanted, tokens, strict=True))
