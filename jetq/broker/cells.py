"""The part of the port that holds small values: what jetq's own processes agree on, and what applications keep."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from jetq.model.cell import Cell, StoredRecord
from jetq.model.deployment_facts import Drift

__all__ = ["Shared"]


class Shared(Protocol):
    """See `jetq.broker.Broker`, of which this is a part."""

    # --- cells and signals

    async def read_cell(self, name: str) -> Cell | None:
        """What stands under `name`, tokens joined by dots; None if nothing does."""
        ...

    async def first_cell(self, below: str) -> Cell | None:
        """Of the cells whose name is `below` and one token more, the one that was written first."""
        ...

    async def write_cell(
        self, name: str, value: bytes, *, expected: int | None = None, ttl: float | None = None
    ) -> int | None:
        """Write a cell, to stand for `ttl` seconds (rounded up to whole ones); its new version.

        None, and nothing is changed, unless it has the version `expected`, if given; 0 stands for no cell.
        """
        ...

    async def drop_cell(self, cell: Cell) -> bool:
        """Remove a cell of just that version. False if another stands, or none."""
        ...

    async def watch_cells(self, below: str, on_write: Callable[[str, bytes], None]) -> None:
        """Call back with the last token of the name and the value of each cell that is written one token `below`, those
        that stand by now at once, also after the connection was lost. A write may be told more than once, and one that
        was refused too."""
        ...

    async def signal(self, topic: str, data: bytes) -> None:
        """Tell whoever listens now. Not stored, and lost without a connection."""
        ...

    async def on_signal(self, topic: str, heard: Callable[[bytes], None]) -> None:
        """Call back with every signal of that topic."""
        ...

    # --- records

    async def setup_records(self) -> Sequence[Drift]:
        """Make what records stand in, where it is missing; report, and leave alone, what stands and differs."""
        ...

    async def read_record(self, name: str) -> StoredRecord | None:
        """The record of that name as it was written last; None if there is none."""
        ...

    async def write_record(
        self, name: str, value: bytes, *, expected: int | None = None, ttl: float | None = None
    ) -> int | None:
        """`write_cell` of a record. They stand apart from cells: nothing of jetq's own waits for them."""
        ...

    async def drop_record(self, record: StoredRecord) -> bool:
        """Remove a record of just that version. False if another stands, or none."""
        ...

    def each_record(self, below: str) -> AsyncIterator[StoredRecord]:
        """The records whose name is `below` and more tokens, in the order they were written."""
        ...
