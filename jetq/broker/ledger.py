"""The role of the port that keeps the ledger: entries that are written once or in place of a known one, and counts."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from jetq.broker.numbers import BATCH_LIMIT, READ_LIMIT
from jetq.errors import BrokerError
from jetq.model.cell import LedgerEntry, NewEntry, Standing
from jetq.model.deployment_facts import Drift

__all__ = ["Ledger", "check_count", "check_entries", "check_entry", "check_filter", "is_of_counts"]

_TOKEN = r"[A-Za-z0-9_:~=-]+"
_NAME = re.compile(rf"(?:plan|flow|job)(?:\.{_TOKEN})+")
_COUNT = re.compile(rf"count(?:\.{_TOKEN})+")
_FILTER = re.compile(rf"(?:plan|flow|job|count)(?:\.(?:{_TOKEN}|\*))*(?:\.(?:{_TOKEN}|\*|>))")


class Ledger(Protocol):
    """The ledger: what workflows and durable jobs have written down. For further errors see `jetq.broker`.

    An entry has a name of tokens with dots between them, the first of which says what the entry is: `plan`, `flow` or
    `job`. One entry stands under a name. A filter is a name in which any token but the first may be `*`, for any one
    token, and the last may be `>`, for all tokens that follow. The names of counts begin with `count`.

    A full ledger refuses what is written, by Rejected, and drops no entry. Every verb raises ValueError for what is no
    name or filter, and Denied without the permission.

    Guarantee: tests/integration/contract/test_ledger.py: of many who expect the same one writes, and of several entries
    that are written at once all stand or none; tests/integration/server/test_ledger.py: a full ledger drops nothing;
    tests/faults/test_ledger_cluster.py: both hold while a leader dies.
    """

    async def setup_ledger(self) -> Sequence[Drift]:
        """Create what the ledger needs where it is missing; report, and leave alone, what exists and differs.

        Writing and counting do the same at their first use. Raises TopologyError for what exists and is not jetq's.
        """
        ...

    async def write_entry(
        self, name: str, body: bytes, *, expected: int | None = None, on: str | None = None, ttl: float | None = None
    ) -> int | None:
        """Write an entry, to be kept for `ttl` seconds (rounded up to whole ones), and return its sequence.

        With `expected`, the entry is written only if the newest entry on `on`, a name or filter (None takes `name`),
        has that sequence; 0 means that none stands there. Otherwise the call returns None and changes nothing.

        None may also be the answer to a write that was done: if the broker's answer is lost, the write is sent again,
        and finds its own entry in its way. So a caller who gets None must read what stands, and compare it with what
        was to be written. Raises PayloadTooLarge.
        """
        ...

    def send_entry(
        self,
        name: str,
        body: bytes,
        on_done: Callable[[int | BrokerError | None], None],
        *,
        on: str,
        ttl: float | None = None,
    ) -> bool:
        """Write an entry where none stands on `on`, a name or filter, as `write_entry` does, without waiting.

        `on_done` is called with what `write_entry` would return or raise: later, on this loop, and never during this
        call. Returns False, and nothing is sent, if the entry cannot be sent now without waiting: `write_entry` can
        send it, or says why not.
        """
        ...

    async def write_entries(self, entries: Sequence[NewEntry]) -> int | None:
        """Write entries of different names, at most 1,000, as `write_entry` does: all of them, or none and return None.

        Each expectation is about what stood before the call. The sequences follow each other; that of the last entry is
        returned. A call whose answer is lost is not sent again, and raises NotStored: read then what stands. Raises
        PayloadTooLarge, and ValueError for two entries of one name.
        """
        ...

    async def read_entry(self, where: str, *, surely: bool = False) -> LedgerEntry | None:
        """Return the newest entry on `where`, a name or filter; None if none stands there.

        Without `surely` any replica may answer, also one that lags behind: an entry that is returned was written, and
        an entry that is not returned may have been. With `surely` the leader answers.
        """
        ...

    async def read_entries(self, where: str) -> Sequence[LedgerEntry]:
        """Return the newest entry of each name that the filter `where` matches, in any order: up to 1,000 of them.

        Some replica answers, which may lag behind, and it may stop before: what the caller misses has to be read one by
        one. All of them at once take the broker and this process a fifth of the time of one by one.
        """
        ...

    async def list_entries(self, where: str, *, after: int = 0, limit: int = READ_LIMIT) -> Sequence[LedgerEntry]:
        """Return the entries on `where` whose sequences are above `after`, in their order: at most `limit` of them.

        With the last of these as the next `after`, any number of entries is read page by page. An entry that is written
        anew meanwhile comes again, with its new sequence. Some replica answers, which may lag behind.
        """
        ...

    async def wait_entry(self, where: str, timeout: float) -> LedgerEntry | None:
        """Return the newest entry on `where`, a name or filter, as the leader has it, as soon as one stands there; None
        after `timeout` seconds.

        The broker tells when something is written there. It does not tell it again if the connection is lost just then,
        so that a caller who gives up has to look again. Whoever may not subscribe to `where` is not told.
        """
        ...

    async def standing_entries(self, where: str, *, at_least: int = 0) -> Standing:
        """Return which entries on `where` stand, as the leader says.

        at_least: a sequence that the caller knows to be written. A leader that was cut off may not know yet that it is
        none; its answer is older than `at_least`, and the question is asked again until an answer is not. If no such
        answer comes in time, the last one is returned: its `sequence` is less than `at_least`. Raises BrokerError if
        more than 100,000 entries match.
        """
        ...

    async def count_up(self, name: str, by: int) -> int:
        """Add `by` to a count, which begins at 0, and return the new value.

        A count may be too high: if the broker's answer is lost, the call counts again. It is also forgotten when nobody
        has counted for eight days.
        """
        ...

    async def drop_entry(self, sequence: int) -> bool:
        """Remove the entry with `sequence`. Return False if it does not stand any more."""
        ...

    async def purge_entries(self, where: str) -> int:
        """Remove the entries on `where`, or the counts if it begins with `count`; return how many were removed."""
        ...


def check_entries(entries: Collection[NewEntry]) -> None:
    """Raise ValueError if `entries` cannot be written at once."""
    for entry in entries:
        check_entry(entry.name, entry.on)
    if not 1 <= len(entries) <= BATCH_LIMIT:
        raise ValueError(f"1 to {BATCH_LIMIT:,} entries are written at once, not {len(entries):,}")
    if len({entry.name for entry in entries}) < len(entries):
        raise ValueError("two entries of one name cannot be written at once")


def check_entry(name: str, on: str | None) -> None:
    """Raise ValueError if `name` is no name of an entry, or `on` neither None nor a name nor a filter."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of an entry")
    if on is not None:
        check_filter(on)


def check_filter(where: str, *, counts: bool = False) -> None:
    """Raise ValueError if `where` is neither a name nor a filter of entries; with `counts` it may be one of counts."""
    if not _FILTER.fullmatch(where) or (is_of_counts(where) and not counts):
        raise ValueError(f"{where!r} is no filter of entries")


def check_count(name: str) -> None:
    """Raise ValueError if `name` is no name of a count."""
    if not _COUNT.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a count")


def is_of_counts(where: str) -> bool:
    """Return whether a name or filter is about counts, and not about entries."""
    return where.startswith("count.")
