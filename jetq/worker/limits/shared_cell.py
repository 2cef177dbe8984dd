"""A value that workers agree on, in one cell: written only by whoever has read what the write replaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from jetq.broker.cells import Cells
from jetq.model.cell import Cell

__all__ = ["TRIES", "SharedCell"]

TRIES = 20
"""How often a write is tried again after others were quicker. Each of them got what it wanted, so that they get fewer;
20 in a row were never seen."""

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode


class SharedCell(Generic[T]):
    """The value of the cell `name`, as this worker saw it last.

    decode: reads it from JSON. empty: what a cell means that is not stored, or that jetq has not written.
    """

    def __init__(self, broker: Cells, name: str, decode: Callable[[bytes], T], empty: T) -> None:
        self.name = name
        self.value = empty
        self._broker = broker
        self._decode = decode
        self._empty = empty
        self._cell: Cell | None = None

    @property
    def is_stored(self) -> bool:
        """Whether a cell was stored when this worker looked last."""
        return self._cell is not None

    async def read(self) -> bool:
        """Read the cell anew. Return whether it is another than was known. Raises BrokerError."""
        cell = await self._broker.read_cell(self.name)
        if cell == self._cell:
            return False
        self._cell = cell
        self.value = self._empty if cell is None else self._decoded(cell.value)
        return True

    async def write(self, value: T, *, ttl: float | None) -> bool:
        """Store `value` for `ttl` seconds, None for ever. Return False, and store nothing, if another worker has
        written since this one read. Raises BrokerError: then nobody knows whether it is stored."""
        data = _encode(value)
        expected = 0 if self._cell is None else self._cell.version
        version = await self._broker.write_cell(self.name, data, expected=expected, ttl=ttl)
        if version is None:
            return False
        self._cell, self.value = Cell(self.name, data, version), value
        return True

    async def remove(self) -> bool:
        """Remove the cell that was seen. Return False, and remove nothing, if another is stored by now. Raises
        BrokerError: then nobody knows."""
        assert self._cell is not None
        removed = await self._broker.drop_cell(self._cell)
        if removed:
            self._cell, self.value = None, self._empty
        return removed

    def _decoded(self, data: bytes) -> T:
        try:
            return self._decode(data)
        except (ValueError, RecursionError):
            return self._empty  # somebody else's, with the permission to write here: the next write puts that right
