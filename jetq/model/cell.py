"""Small stored values: cells that workers share, records that applications keep, entries of the ledger of workflows."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from jetq.model.redaction import RedactedRepr

__all__ = ["Cell", "LedgerEntry", "NewEntry", "Standing", "StoredRecord"]


class Cell(RedactedRepr, Struct, frozen=True):
    """A small value that the fleet shares. `version` grows with every write, and no version is used twice."""

    name: str
    value: bytes
    version: int


class StoredRecord(RedactedRepr, Struct, frozen=True):
    """A small value that an application or plugin keeps beside its jobs.

    version: grows with every write, as in a Cell. at: when the record was written, in unix seconds of the broker.
    """

    name: str
    value: bytes
    version: int
    at: float


class LedgerEntry(RedactedRepr, Struct, frozen=True):
    """An entry of the ledger as it is stored."""

    name: str
    """Tokens with dots between them. One entry stands under a name: the newest."""

    body: bytes
    """What was written."""

    sequence: int
    """Grows with every write to the ledger, and is never used twice."""

    stored_at: float
    """When the entry was written, in unix seconds of the broker."""


class NewEntry(RedactedRepr, Struct, frozen=True):
    """An entry of the ledger to be written, as `jetq.broker.ledger.Ledger.write_entry` takes it in parts."""

    name: str
    """The name under which the entry is to stand."""

    body: bytes
    """What is to be written."""

    expected: int | None = None
    """The sequence that the newest entry on `on` must have, 0 for no entry; None writes in any case."""

    on: str | None = None
    """A name, or a filter of names, that `expected` is about; None takes the name of the entry."""

    ttl: float | None = None
    """Seconds for which the entry is kept, rounded up to whole ones; None keeps the entry for ever."""


class Standing(Struct, frozen=True):
    """Which entries of the ledger stand at one moment, and how new that answer is.

    names: the names of the entries, in no order. sequence: that of the last write to the whole ledger by that moment.
    """

    names: Sequence[str]
    sequence: int
