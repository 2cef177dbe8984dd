"""Numbers on which both brokers agree: what works on one works on the other."""

from __future__ import annotations

__all__ = ["ASKED_WITHIN", "DEDUP_WINDOW", "FIRE_WINDOW", "HEADROOM", "LETTER_LIMIT", "REMEMBERED"]

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
