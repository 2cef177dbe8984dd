"""A worker's sign of life in the fleet: by it the others know whether what it has taken is still taken."""

from __future__ import annotations

import asyncio
import secrets

from jetq.broker.cells import Cells
from jetq.runtime.clock import steady

__all__ = ["Presence", "is_present"]


class Presence:
    """Stands while it is renewed, and `lasts` seconds longer.

    `margin`: seconds before that at which it does not count any more here. A sign that lapsed is never given again: a
    new one has a new `name`, so that nobody who saw the old one gone is wrong about what was taken under it.
    """

    def __init__(self, lasts: float, margin: float) -> None:
        self._lasts = lasts
        self._margin = margin
        self.name = ""
        self._until = self._renew_from = 0.0
        self._establishing = asyncio.Lock()

    @property
    def valid(self) -> bool:
        """Whether it surely stands."""
        return steady() < self._until

    @property
    def due(self) -> bool:
        """Whether it stands and is to be renewed: a third of its time is over."""
        return self._renew_from < steady() < self._until

    async def establish(self, broker: Cells) -> None:
        """Give a sign unless one stands. Raises BrokerError."""
        async with self._establishing:
            if self.valid:
                return
            # The old name first: a renewal of it that is under way in another thread must not count for the new one.
            self._until = 0.0
            self.name = secrets.token_hex(6)
            asked_at = steady()
            await self._write(broker)
            self._stands_since(asked_at)

    async def renew(self, broker: Cells) -> None:
        """Let it stand longer. Raises BrokerError."""
        name, asked_at = self.name, steady()
        await self._write(broker)
        # Not if it lapsed meanwhile: somebody may have seen it gone before this write brought it back.
        if name == self.name and self.valid:
            self._stands_since(asked_at)

    def _stands_since(self, asked_at: float) -> None:
        self._renew_from, self._until = asked_at + self._lasts / 3, asked_at + self._lasts - self._margin

    async def _write(self, broker: Cells) -> None:
        await broker.write_cell(_cell(self.name), b"", ttl=self._lasts)

    async def withdraw(self, broker: Cells) -> None:
        """What was taken under it is given back by that. Raises BrokerError."""
        name, self._until = self.name, 0.0
        cell = await broker.read_cell(_cell(name)) if name else None
        if cell is not None:
            await broker.drop_cell(cell)


async def is_present(broker: Cells, name: str) -> bool:
    """Whether whoever has that name lives, as far as is known. Raises BrokerError."""
    return await broker.read_cell(_cell(name)) is not None


def _cell(name: str) -> str:
    return f"present.{name}"
