"""Reading many messages of a stream in order, without holding up those who write to the stream.

What a server does under the lock of a stream decides what may be asked of the stream (nats-server 2.15.1, a million
jobs):

- A get with a filter that begins at the stream's first message makes the server look at all messages that match. This
  takes 0.2 to 0.7 s, in which nobody stores anything. A get that begins above the first message takes 0.4 ms. The first
  message is asked for by its sequence: it is jetq's own and no job, unless somebody else made the stream.
- `batch` and `multi_last` count what is left after each answer, which takes 0.2 s once anything was removed.
  `subjects_filter` walks through all messages that match.
- Gets by sequence, several under way, take a tenth of a millisecond each.

A filter that names an id or a key matches few messages, and the server finds them in its tree of subjects from
anywhere.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator

from jetq.jetstream.streams.api import Api, StoredMessage

__all__ = ["at_once", "each_message", "matches"]

_MOST_AT_ONCE = 32
_BYTES_AT_ONCE = 8 * 1024 * 1024
"""The most bytes of answers under way. A server hangs up on a client that has not taken 64 MiB."""


def at_once(max_payload: int) -> int:
    """Return how many messages of up to `max_payload` bytes may be asked for at once."""
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
    """Yield the messages on `where`, which may be many, in order, at most `limit`.

    Only messages with sequences above `after` and up to `until` are given. `at_once` messages are asked for together.
    With `surely` they are as the leader has them, otherwise as some replica has them.

    Guarantee: tests/integration/queues/test_lookups.py: the server is never asked to look through all stored messages.
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
        jump = not found or (not jump and len(found) * 2 < at_once)  # with many gaps, jump from message to message
        limit -= len(found)
        for each in found:
            yield each


def matches(where: str, subject: str) -> bool:
    """Return whether the filter `where` matches `subject`."""
    wanted, tokens = where.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted, tokens = wanted[:-1], tokens[: len(wanted) - 1] if len(tokens) >= len(wanted) else []
    return len(wanted) == len(tokens) and all(w in ("*", t) for w, t in zip(wanted, tokens, strict=True))
