"""A worker's share of the slots of a limit: how many of the fleet's runs of one task or key are its own.

Who has how many stands in one cell, which is written only by who has read what it replaces, so that the sum never
exceeds the limit. A holder counts while its presence stands; whoever finds no slot free looks who is gone. Workers with
too few say so, and those with more let go of one when a job ends: what the cell holds is safe, and signals only make it
fair. A signal that is lost costs a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from jetq.broker import Broker
from jetq.errors import BrokerError
from jetq.model.cell import Cell
from jetq.worker.limits.presence import Presence, is_present

__all__ = ["Slots"]

_LOOK_EVERY = 1.0
"""Seconds after which a worker that found too few slots looks again, if no signal comes."""

_HEARD = 2.5
"""Seconds for which a worker that has too few counts as such after its last word."""

_TURN = 0.5
"""Seconds after which a slot goes to a worker that has none, when there are fewer slots than workers."""

_REST = 0.05
"""Seconds for which who let go of a slot leaves it to others."""

_FENCE = 60.0
"""Seconds for which an empty cell stands that is there only to refuse a first write that comes late."""

_TRIES = 20

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, int]).decode


class Slots:
    """How many of `limit` slots this worker holds, in the cell `name`. tell: tells the other workers that this
    one has too few, namely so many, or with None that it has let go of one.

    `held` is true at every moment: it is raised after the cell was written, and lowered before.
    """

    def __init__(
        self, broker: Broker, presence: Presence, name: str, limit: int, tell: Callable[[int | None], None]
    ) -> None:
        self._broker = broker
        self._presence = presence
        self._name = name
        self.limit = limit
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._held = 0
        self._holder = ""
        self._cell: Cell | None = None
        self._unsure = False
        self._look_at = 0.0
        self._rest_until = 0.0
        self._turn_since = 0.0
        self._short: dict[str, tuple[int, float]] = {}

    @property
    def held(self) -> int:
        """How many jobs may run here."""
        return self._held if self._holder == self._presence.name and self._presence.valid else 0

    @property
    def settled(self) -> bool:
        """Whether it is known that none is held."""
        return not self._held and not self._unsure

    def misses(self, wanted: int) -> bool:
        """Whether there are fewer than that, and than the limit allows."""
        return self.held < min(wanted, self.limit)

    @property
    def waits_for(self) -> float:
        """When to look again for those that are still missing, by the loop's clock."""
        return max(self._look_at, self._rest_until)

    # --- fairness

    def heard(self, worker: str, has: int | None) -> None:
        """Another worker says that it has too few: `has`; or, with None, that it has let go of one."""
        if has is None:
            self._look_at = 0.0
            return
        if not self._shortest():
            self._turn_since = self._loop.time()
        self._short[worker] = (has, self._loop.time() + _HEARD)

    def _shortest(self) -> tuple[int, str] | None:
        now = self._loop.time()
        for worker in [worker for worker, (_, until) in self._short.items() if until < now]:
            del self._short[worker]
        return min(((has, worker) for worker, (has, _) in self._short.items()), default=None)

    def fair(self, running: int, wanted: int) -> int:
        """How many to hold, of `wanted`: one less than now if another worker is worse off. Never less than run."""
        held = self.held
        if not self._short or (shortest := self._shortest()) is None:
            return wanted
        least = shortest[0]
        turn_is_over = least == 0 and self._loop.time() - self._turn_since > _TURN
        if held - least >= 2 or (held == 1 and turn_is_over):
            return min(wanted, max(running, held - 1))
        return wanted

    # --- the cell

    async def adjust(self, running: int, wanted: int) -> None:
        """Come as near to `wanted` slots as may be now, of which `running` are in use. Raises BrokerError."""
        await self._appear()
        target = min(self.fair(running, wanted), self.limit)
        now = self._loop.time()
        if target == self.held and not self._unsure:
            self._look_at = now + _LOOK_EVERY if self.misses(wanted) else 0.0
            return
        if target > self.held and now < self.waits_for and not self._unsure:
            return
        gives = target < self._held
        if gives:
            self._held = target
            self._yield_to_shortest(wanted)
        fence = self._unsure
        if fence:
            await self._read()
        self._unsure = True  # until the cell is known to say so
        reached = await self._agree(target, fence=fence)
        self._unsure = False
        self._look_at = 0.0 if reached else self._loop.time() + _LOOK_EVERY
        if not reached:
            self._tell(self._held)
        elif gives and self._short:
            self._tell(None)

    async def _appear(self) -> None:
        if not self._presence.valid or self._holder != self._presence.name:
            self._held = 0
            await self._presence.establish(self._broker)
            self._holder = self._presence.name

    def _yield_to_shortest(self, wanted: int) -> None:
        if wanted > self._held and (shortest := self._shortest()) is not None:
            has, worker = shortest
            self._short[worker] = (has + 1, self._short[worker][1])
            self._rest_until = self._loop.time() + _REST
            self._turn_since = self._loop.time()

    async def _agree(self, target: int, *, fence: bool) -> bool:
        """Write how many this worker holds: `target`, or as many as are free. Whether it is `target`.

        fence: write in any case, because an earlier write or removal may still be on its way, and is refused then.
        """
        me = self._holder
        fresh = looked = False
        for _ in range(_TRIES):
            holders = self._holders()
            others = {worker: count for worker, count in holders.items() if worker != me}
            mine = max(min(target, self.limit - sum(others.values())), min(self._held, target))
            if mine < target and not fresh:
                await self._read()
                fresh = True
                continue
            if mine < target and not looked:
                looked = True
                if await self._remove_gone(others):
                    continue
            stands = mine == holders.get(me, 0) and not fence
            if stands or await self._write(others | ({me: mine} if mine else {})):
                if mine and not self._held:
                    self._turn_since = self._loop.time()
                self._held = mine
                return mine == target
            await self._read()
            fresh = True
        raise BrokerError(f"who has the slots of {self._name} changes too fast")

    def _holders(self) -> dict[str, int]:
        if self._cell is None:
            return {}
        try:
            return _decode(self._cell.value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return {}  # not written by jetq, and the next write puts that right

    async def _read(self) -> None:
        self._cell = await self._broker.read_cell(self._name)

    async def _write(self, holders: dict[str, int]) -> bool:
        if not holders and self._cell is not None:
            written = await self._broker.drop_cell(self._cell)
            self._cell = None if written else self._cell
            return written
        value = _encode(holders)
        expected = 0 if self._cell is None else self._cell.version
        version = await self._broker.write_cell(self._name, value, expected=expected, ttl=None if holders else _FENCE)
        if version is None:
            return False
        self._cell = Cell(self._name, value, version)
        return True

    async def _remove_gone(self, others: dict[str, int]) -> bool:
        """Give back what workers hold that are gone. Whether there was such a one."""
        gone = {worker for worker in others if not await is_present(self._broker, worker)}
        if gone:
            left = {worker: count for worker, count in self._holders().items() if worker not in gone}
            if not await self._write(left):
                await self._read()
        return bool(gone)
