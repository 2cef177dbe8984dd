"""The role of the port that holds small values on which jetq's processes agree, and signals between the processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from jetq.model.cell import Cell

__all__ = ["Cells"]


class Cells(Protocol):
    """Cells, whose version is compared at each write, and signals, which are not kept. For errors see `jetq.broker`."""

    async def read_cell(self, name: str) -> Cell | None:
        """Return the cell stored under `name`, tokens joined by dots; None if no cell is stored there."""
        ...

    async def oldest_cell(self, below: str) -> Cell | None:
        """Return the cell that was written first among those named `below` and one token more; None if there is
        none."""
        ...

    async def write_cell(
        self, name: str, value: bytes, *, expected: int | None = None, ttl: float | None = None
    ) -> int | None:
        """Write a cell, to be kept for `ttl` seconds (rounded up to whole ones), and return its new version.

        With `expected`, the cell is written only if its version is `expected`; 0 means that there is no cell. Otherwise
        the call returns None and changes nothing.
        """
        ...

    async def drop_cell(self, cell: Cell) -> bool:
        """Remove `cell` if its version is still stored. Return False if another version or no cell is stored."""
        ...

    async def watch_cells(self, below: str, on_write: Callable[[str, bytes], None]) -> None:
        """Call `on_write` for each write of a cell whose name is `below` and one token more.

        `on_write` gets the last token of the name and the value. It is called at once for the cells that are stored by
        now, and again for them after the connection was lost. The same write may be told more than once, and a write
        that was refused may be told too.
        """
        ...

    async def signal(self, topic: str, data: bytes) -> None:
        """Send a signal to every listener of `topic` now.

        The signal is not stored, and is lost without a connection.
        """
        ...

    async def on_signal(self, topic: str, on_notice: Callable[[bytes], None]) -> None:
        """Call `on_notice` with every signal of `topic`."""
        ...
