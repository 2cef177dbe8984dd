"""A value that workers agree on, in one cell. Only a worker that has read the present value may replace it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from jetq.broker.cells import Cells
from jetq.model.cell import Cell

__all__ = ["TRIES", "SharedCell"]

TRIES = 20
"""How many times a write is tried again after other workers were quicker. Each quicker worker got the value it wanted,
so fewer and fewer workers write; 20 lost tries in a row were never seen."""

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode


class SharedCell(Generic[T]):
    """The value of the cell `name`, as this worker saw the cell last.

    decode: reads the value from JSON. empty: the value of a cell that is not stored, or that jetq has not written.
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
        """Read the cell anew. Return whether the cell has changed since this worker saw it last. Raises BrokerError."""
        cell = await self._broker.read_cell(self.name)
        if cell == self._cell:
            return False
        self._cell = cell
        self.value = self._empty if cell is None else self._decoded(cell.value)
        return True

    async def write(self, value: T, *, ttl: float | None) -> bool:
        """Store `value` for `ttl` seconds, or for ever if `ttl` is None. Return False, and store nothing, if another
        worker has written since this worker read the cell. Raises BrokerError: then it is unknown whether `value` is
        stored."""
        data = _encode(value)
        expected = 0 if self._cell is None else self._cell.version
        version = await self._broker.write_cell(self.name, data, expected=expected, ttl=ttl)
        if version is None:
            return False
        self._cell, self.value = Cell(self.name, data, version), value
        return True

    async def remove(self) -> bool:
        """Remove the cell as this worker saw it. Return False, and remove nothing, if another cell is stored by now.
        Raises BrokerError: then it is unknown whether the cell is removed."""
        assert self._cell is not None
        removed = await self._broker.drop_cell(self._cell)
        if removed:
            self._cell, self.value = None, self._empty
        return removed

    def _decoded(self, data: bytes) -> T:
        try:
            return self._decode(data)
        except (ValueError, RecursionError):
            return self._empty  # another program with the permission wrote this; the next write of jetq replaces it
