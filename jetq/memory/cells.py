"""Small values that workers of memory brokers share, and signals between these workers."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterator

from jetq.memory.base import Base
from jetq.model.cell import Cell

__all__ = ["Cells"]


class Cells(Base):
    """See `jetq.broker.cells.Cells`."""

    async def read_cell(self, name: str) -> Cell | None:
        with self.store.lock:
            self.use()
            return self.store.cells.get(name)

    async def oldest_cell(self, below: str) -> Cell | None:
        with self.store.lock:
            self.use()
            return min(self._below(below), key=lambda cell: cell.version, default=None)

    def _below(self, below: str) -> Iterator[Cell]:
        return (cell for cell in self.store.cells.values() if cell.name.rpartition(".")[0] == below)

    async def write_cell(
        self, name: str, value: bytes, *, expected: int | None = None, ttl: float | None = None
    ) -> int | None:
        with self.store.lock:
            self.use()
            existing = self.store.cells.get(name)
            if expected is not None and expected != (0 if existing is None else existing.version):
                return None
            cell = self.store.write_cell(name, value, None if ttl is None else max(1, math.ceil(ttl)))
            below, _, last = name.rpartition(".")
            for notify in list(self.store.cell_watchers.get(below, ())):
                notify(last, value)
            return cell.version

    async def drop_cell(self, cell: Cell) -> bool:
        with self.store.lock:
            self.use()
            existing = self.store.cells.get(cell.name)
            if existing is None or existing.version != cell.version:
                return False
            del self.store.cells[cell.name]
            return True

    async def watch_cells(self, below: str, on_write: Callable[[str, bytes], None]) -> None:
        loop = asyncio.get_running_loop()

        def notify(last: str, value: bytes) -> None:
            with contextlib.suppress(RuntimeError):  # the watcher's loop is closed
                loop.call_soon_threadsafe(on_write, last, value)

        with self.store.lock:
            self.use()
            self.store.cell_watchers.setdefault(below, []).append(notify)
            self.undo.append(lambda: self.store.cell_watchers[below].remove(notify))
            existing = list(self._below(below))
        for cell in existing:
            on_write(cell.name.rpartition(".")[2], cell.value)

    async def signal(self, topic: str, data: bytes) -> None:
        with self.store.lock:
            self.use()
            listeners = list(self.store.signals.get(topic, ()))
        for notify in listeners:
            notify(data)

    async def on_signal(self, topic: str, on_notice: Callable[[bytes], None]) -> None:
        loop = asyncio.get_running_loop()

        def notify(data: bytes) -> None:
            with contextlib.suppress(RuntimeError):  # the listener's loop is closed
                loop.call_soon_threadsafe(on_notice, data)

        with self.store.lock:
            self.use()
            self.store.signals.setdefault(topic, []).append(notify)
            self.undo.append(lambda: self.store.signals[topic].remove(notify))
