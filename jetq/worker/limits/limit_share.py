"""A worker's share of the slots of a limit: how many of the fleet's runs of one task or key belong to this worker.

One cell maps workers to the number of slots that each holds. The cell is updated by compare-and-set, so that the sum
never exceeds the limit. A holder counts while its presence is stored; a worker that finds no free slot looks which
holders are gone. Workers with too few slots send a notice, and workers with more slots give one up when a job ends. The
cell makes the limit safe; the notices only make the shares fair. A notice that is lost costs a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from jetq.broker.cells import Cells
from jetq.errors import BrokerError
from jetq.worker.limits.presence import Presence, is_present
from jetq.worker.limits.shared_cell import TRIES, SharedCell

__all__ = ["LimitShare"]

_LOOK_EVERY = 1.0
"""Seconds after which a worker that found too few slots looks again, if no signal comes."""

_SHORT_FOR = 2.5
"""Seconds for which another worker counts as short of slots after its last notice."""

_STARVES_FOR = 0.5
"""Seconds after which a worker without any slot gets one from another worker, when there are fewer slots than
workers."""

_LEFT_TO_OTHERS_FOR = 0.05
"""Seconds for which a worker that gave up a slot leaves it to others."""

_FENCE_FOR = 60.0
"""Seconds for which an empty cell is stored. The only purpose of the empty cell is to refuse a first write that arrives
late."""

_decode = msgspec.json.Decoder(dict[str, int]).decode


class LimitShare:
    """The number of `limit` slots that this worker holds, by the cell `name`.

    tell: tells the other workers how many slots this worker has when it needs more, or None when it has given one up.
    `held` is true at every moment: `held` is raised after the cell was written, and lowered before the cell is written.
    """

    def __init__(
        self, broker: Cells, presence: Presence, name: str, limit: int, broadcast: Callable[[int | None], None]
    ) -> None:
        self._broker = broker
        self._presence = presence
        self.limit = limit
        self._broadcast = broadcast
        self._loop = asyncio.get_running_loop()
        self._held = 0
        self._holder = ""
        self._holders = SharedCell[dict[str, int]](broker, name, _decode, {})
        self._is_unsure = False
        self._look_at = 0.0
        self._rest_until = 0.0
        self._starved_since = 0.0
        self._short: dict[str, tuple[int, float]] = {}

    @property
    def held(self) -> int:
        """How many jobs may run in this worker."""
        return self._held if self._holder == self._presence.name and self._presence.valid else 0

    @property
    def holds_none(self) -> bool:
        """Whether this worker surely holds no slot."""
        return not self._held and not self._is_unsure

    def misses(self, wanted: int) -> bool:
        """Return whether this worker holds fewer slots than `wanted` and than the limit allows."""
        return self.held < min(wanted, self.limit)

    @property
    def look_again_at(self) -> float:
        """When to look again for slots that are still missing, by the loop's clock."""
        return max(self._look_at, self._rest_until)

    # --- fairness

    def on_notice(self, worker: str, has: int | None) -> None:
        """Note that another worker has only `has` slots and needs more, or with None that the worker has given one
        up."""
        if has is None:
            self._look_at = 0.0
            return
        if not self._shortest():
            self._starved_since = self._loop.time()
        self._short[worker] = (has, self._loop.time() + _SHORT_FOR)

    def _shortest(self) -> tuple[int, str] | None:
        now = self._loop.time()
        for worker in [worker for worker, (_, until) in self._short.items() if until < now]:
            del self._short[worker]
        return min(((has, worker) for worker, (has, _) in self._short.items()), default=None)

    def fair(self, running: int, wanted: int) -> int:
        """Return how many of `wanted` slots to hold: one less than now if another worker is worse off, and never less
        than are `running`."""
        held = self.held
        if not self._short or (shortest := self._shortest()) is None:
            return wanted
        least = shortest[0]
        starves = least == 0 and self._loop.time() - self._starved_since > _STARVES_FOR
        if held - least >= 2 or (held == 1 and starves):
            return min(wanted, max(running, held - 1))
        return wanted

    # --- the cell

    async def adjust(self, running: int, wanted: int) -> None:
        """Come as near to `wanted` slots as is possible now; `running` of the held slots are in use. Raises
        BrokerError."""
        # First, because other workers take slots back from a holder that has no presence.
        await self._appear()
        target = min(self.fair(running, wanted), self.limit)
        now = self._loop.time()
        if target == self.held and not self._is_unsure:
            self._look_at = now + _LOOK_EVERY if self.misses(wanted) else 0.0
            return
        if target > self.held and now < self.look_again_at and not self._is_unsure:
            return
        gives = target < self._held
        if gives:
            # Lowered before the cell is written: once the cell says so, another worker may use the slot.
            self._held = target
            self._yield_to_shortest(wanted)
        fence = self._is_unsure
        if fence:
            await self._holders.read()
        self._is_unsure = True  # until the content of the cell is known: a write may be stored although it raised
        reached = await self._agree(target, fence=fence)
        self._is_unsure = False
        self._look_at = 0.0 if reached else self._loop.time() + _LOOK_EVERY
        if not reached:
            self._broadcast(self._held)
        elif gives and self._short:
            self._broadcast(None)

    async def _appear(self) -> None:
        if not self._presence.valid or self._holder != self._presence.name:
            self._held = 0
            await self._presence.establish(self._broker)
            self._holder = self._presence.name

    def _yield_to_shortest(self, wanted: int) -> None:
        if wanted > self._held and (shortest := self._shortest()) is not None:
            has, worker = shortest
            self._short[worker] = (has + 1, self._short[worker][1])
            self._rest_until = self._loop.time() + _LEFT_TO_OTHERS_FOR
            self._starved_since = self._loop.time()

    async def _agree(self, target: int, *, fence: bool) -> bool:
        """Write that this worker holds `target` slots, or as many as are free. Return whether this worker holds
        `target` now.

        fence: write in any case, because an earlier write or removal may still be on its way. The new write makes the
        broker refuse the earlier one.
        """
        me = self._holder
        fresh = looked = False
        for _ in range(TRIES):
            holders = self._holders.value
            others = {worker: count for worker, count in holders.items() if worker != me}
            mine = max(min(target, self.limit - sum(others.values())), min(self._held, target))
            if mine < target and not fresh:
                await self._holders.read()
                fresh = True
                continue
            if mine < target and not looked:
                looked = True
                if await self._remove_gone(others):
                    continue
            is_written = mine == holders.get(me, 0) and not fence
            if is_written or await self._write(others | ({me: mine} if mine else {})):
                if mine and not self._held:
                    self._starved_since = self._loop.time()
                self._held = mine
                return mine == target
            await self._holders.read()
            fresh = True
        raise BrokerError(f"who has the slots of {self._holders.name} changes too fast")

    async def _write(self, holders: dict[str, int]) -> bool:
        if not holders and self._holders.is_stored:
            return await self._holders.remove()
        return await self._holders.write(holders, ttl=None if holders else _FENCE_FOR)

    async def _remove_gone(self, others: dict[str, int]) -> bool:
        """Release the slots of workers that are gone. Return whether there were any such workers."""
        gone = {worker for worker in others if not await is_present(self._broker, worker)}
        if gone:
            left = {worker: count for worker, count in self._holders.value.items() if worker not in gone}
            if not await self._write(left):
                await self._holders.read()
        return bool(gone)
