"""The role of the port that holds small values on which jetq's own processes agree, and signals between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from jetq.model.cell import Cell

__all__ = ["Cells"]


class Cells(Protocol):
    """Cells, compared when they are written, and signals, which are not kept. For errors see `jetq.broker`."""

    async def read_cell(self, name: str) -> Cell | None:
        """Return what is stored under `name`, tokens joined by dots; None if nothing is."""
        ...

    async def first_cell(self, below: str) -> Cell | None:
        """Return, of the cells whose name is `below` and one token more, the one that was written first."""
        ...

    async def write_cell(
        self, name: str, value: bytes, *, expected: int | None = None, ttl: float | None = None
    ) -> int | None:
        """Write a cell, to be kept for `ttl` seconds (rounded up to whole ones); return its new version.

        None, and nothing is changed, unless the cell has the version `expected`, if given; 0 means no cell.
        """
        ...

    async def drop_cell(self, cell: Cell) -> bool:
        """Remove a cell of just that version. False if another is stored, or none."""
        ...

    async def watch_cells(self, below: str, on_write: Callable[[str, bytes], None]) -> None:
        """Call `on_write` with the last token of the name and the value of each cell that is written one token `below`,
        those stored by now at once, also after the connection was lost. A write may be told more than once, and one
        that was refused too."""
        ...

    async def signal(self, topic: str, data: bytes) -> None:
        """Tell whoever listens now. Not stored, and lost without a connection."""
        ...

    async def on_signal(self, topic: str, on_notice: Callable[[bytes], None]) -> None:
        """Call `on_notice` with every signal of that topic."""
        ...
