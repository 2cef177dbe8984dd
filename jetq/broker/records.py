"""The role of the port that holds what applications and plugins keep beside their jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from jetq.model.cell import StoredRecord
from jetq.model.deployment_facts import Drift

__all__ = ["Records"]


class Records(Protocol):
    """Records: kept apart from cells, so that nothing of jetq's own waits for records. For errors see `jetq.broker`."""

    async def setup_records(self) -> Sequence[Drift]:
        """Create the stream of records where it is missing; report, and leave alone, what exists and differs."""
        ...

    async def read_record(self, name: str) -> StoredRecord | None:
        """Return the record called `name` as it was written last; None if there is no such record."""
        ...

    async def write_record(
        self, name: str, value: bytes, *, expected: int | None = None, ttl: float | None = None
    ) -> int | None:
        """Write a record as `Cells.write_cell` writes a cell; return the record's new version, or None."""
        ...

    async def drop_record(self, record: StoredRecord) -> bool:
        """Remove `record` if its version is still stored. Return False if another version or none is stored."""
        ...

    def each_record(self, below: str) -> AsyncIterator[StoredRecord]:
        """Yield the records whose name is `below` and more tokens, in the order they were written."""
        ...
