"""Numbers on which both brokers agree: what works on one works on the other."""

from __future__ import annotations

__all__ = [
    "ASKED_WITHIN", "BATCH_LIMIT", "COUNT_TTL", "DEDUP_WINDOW", "FIRE_WINDOW", "HEADROOM", "LETTER_LIMIT",
    "LOOK_AGAIN_AFTER", "READ_LIMIT", "REMEMBERED", "STANDING_LIMIT",
]  # fmt: skip

DEDUP_WINDOW = 120
"""Seconds for which the id of a stored message is known. Within this time a message with the same id is taken for a
repeat. The window outlasts every repeat of a publish. The memory it takes is the rate of messages times the window."""

HEADROOM = 32 * 1024
"""Bytes by which a job stays under the payload limit, so that its retry and its dead letter fit too."""

LETTER_LIMIT = 24 * 1024
"""The most bytes that the story of a dead letter may have, beside the arguments."""

FIRE_WINDOW = 2.0
"""Seconds around its due time in which a scheduled job is left alone. The server takes all due jobs in a snapshot and
does not look again: with 20,000 jobs due at once, a replacement was purged together with the job it replaced up to 0.3
s later (nats-server 2.15.1)."""

REMEMBERED = 60
"""Seconds for which the record says that a job is cancelled. This is far longer than the time in which a removed
schedule may still fire, and less than the two minutes in which an enqueue under the same id is taken for a repeat."""

ASKED_WITHIN = 0.3
"""Seconds for a worker to say whether a job that it holds has started. Workers are asked before another job of the same
key is stored."""

COUNT_TTL = 8 * 86400
"""Seconds for which a count is kept after it was last counted up. From then on it begins at 0 again."""

BATCH_LIMIT = 1000
"""The most entries that are written at once. nats-server takes no more messages in one atomic batch (2.15.1)."""

READ_LIMIT = 1000
"""The most entries that are read at once. nats-server gives no more than 1,024 (2.15.1), and a page has 1,000."""

STANDING_LIMIT = 100_000
"""The most names that one question for what stands may match. nats-server names no more in one answer (2.15.1,
tests/integration/server/test_ledger.py), and two answers are of two moments."""

LOOK_AGAIN_AFTER = 0.05
"""Seconds after which a question is asked again whose answer was too old."""
