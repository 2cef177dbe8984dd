"""The presence of a worker: its sign of life, by which other workers know whether the slots it has taken are still
taken."""

from __future__ import annotations

import asyncio
import secrets

from jetq.broker.cells import Cells
from jetq.runtime.clock import steady

__all__ = ["Presence", "is_present"]


class Presence:
    """The sign of life of one worker. A presence is stored while it is renewed, and `lasts` seconds longer.

    `margin`: seconds before that end from which this worker no longer counts its presence as valid. A presence that
    lapsed is never stored again under the same name: a new presence has a new `name`. So a worker that saw the old
    presence gone may take back the slots that were taken under the old name.
    """

    def __init__(self, lasts: float, margin: float) -> None:
        self._lasts = lasts
        self._margin = margin
        self.name = ""
        self._until = self._renew_from = 0.0
        self._establishing = asyncio.Lock()

    @property
    def valid(self) -> bool:
        """Whether the presence is surely stored."""
        return steady() < self._until

    @property
    def due(self) -> bool:
        """Whether the presence is stored and is to be renewed: a third of its time is over."""
        return self._renew_from < steady() < self._until

    async def establish(self, broker: Cells) -> None:
        """Store a new presence unless the old one is valid. Raises BrokerError."""
        async with self._establishing:
            if self.valid:
                return
            # Give up the old name first: a renewal of the old name that is under way in another thread must not count
            # for the new one.
            self._until = 0.0
            self.name = secrets.token_hex(6)
            # Read before the write, so that the presence never counts as valid for longer than the broker stores it.
            asked_at = steady()
            await self._write(broker)
            self._stands_since(asked_at)

    async def renew(self, broker: Cells) -> None:
        """Store the presence for longer. Raises BrokerError."""
        name, asked_at = self.name, steady()
        await self._write(broker)
        # Do not count the renewal if the presence lapsed meanwhile: another worker may have seen it gone before this
        # write brought it back.
        if name == self.name and self.valid:
            self._stands_since(asked_at)

    def _stands_since(self, asked_at: float) -> None:
        self._renew_from, self._until = asked_at + self._lasts / 3, asked_at + self._lasts - self._margin

    async def _write(self, broker: Cells) -> None:
        await broker.write_cell(_cell(self.name), b"", ttl=self._lasts)

    async def withdraw(self, broker: Cells) -> None:
        """Remove the presence, which gives back the slots that were taken under it. Raises BrokerError."""
        name, self._until = self.name, 0.0
        cell = await broker.read_cell(_cell(name)) if name else None
        if cell is not None:
            await broker.drop_cell(cell)


async def is_present(broker: Cells, name: str) -> bool:
    """Return whether the worker whose presence has that name lives, as far as is known. Raises BrokerError."""
    return await broker.read_cell(_cell(name)) is not None


def _cell(name: str) -> str:
    return f"present.{name}"
