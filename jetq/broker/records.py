"""The role of the port that holds what applications and plugins keep beside their jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from jetq.model.cell import StoredRecord
from jetq.model.deployment_facts import Drift

__all__ = ["Records"]


class Records(Protocol):
    """Records: kept apart from cells, so that nothing of jetq's own waits for them. For errors see `jetq.broker`."""

    async def setup_records(self) -> Sequence[Drift]:
        """Make what records are stored in, where it is missing; report, and leave alone, what exists and differs."""
        ...

    async def read_record(self, name: str) -> StoredRecord | None:
        """Return the record of that name as it was written last; None if there is none."""
        ...

    async def write_record(
        self, name: str, value: bytes, *, expected: int | None = None, ttl: float | None = None
    ) -> int | None:
        """Write a record as `Cells.write_cell` writes a cell; return its new version, or None."""
        ...

    async def drop_record(self, record: StoredRecord) -> bool:
        """Remove a record of just that version. False if another is stored, or none."""
        ...

    def each_record(self, below: str) -> AsyncIterator[StoredRecord]:
        """Yield the records whose name is `below` and more tokens, in the order they were written."""
        ...
