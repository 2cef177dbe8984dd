"""Numbers on which both brokers agree: what works on one works on the other."""

from __future__ import annotations

__all__ = ["ASKED_WITHIN", "DEDUP_WINDOW", "FIRING", "HEADROOM", "LETTER_LIMIT", "REMEMBERED"]

DEDUP_WINDOW = 120
"""Seconds for which the id of a stored message is known: within them the same id is taken for a repeat. The window
outlasts every repeat of a publish; what it takes of memory is the rate times the window."""

HEADROOM = 32 * 1024
"""Bytes a job stays under the payload limit, so that its retry and its dead letter fit too."""

LETTER_LIMIT = 24 * 1024
"""Bytes of a dead letter's story at most, beside the arguments."""

FIRING = 2.0
"""Seconds around its due time in which a scheduled job is left alone. The server takes what is due in a snapshot and
does not look again: with 20,000 due at once a replacement was purged with the old one up to 0.3 s later (nats-server
2.15.1)."""

REMEMBERED = 60
"""Seconds for which it is on record that a job is cancelled: far longer than a removed schedule may still fire, and
less than the two minutes in which an enqueue under the same id is taken for a repeat."""

ASKED_WITHIN = 0.3
"""Seconds for a worker to say whether a job that it holds has started, asked before another of its key is stored."""
