"""Small stored values: cells that workers share, and records that applications keep."""

from __future__ import annotations

from msgspec import Struct

from jetq.model.redaction import RedactedRepr

__all__ = ["Cell", "StoredRecord"]


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
