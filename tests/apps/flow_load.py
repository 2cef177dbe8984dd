"""Many workflows at once, stored while servers and workers fail, and what must be seen of each of them at the end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

from msgspec import Struct

from jetq import Work, each, group
from jetq.client.app import replaced_default
from jetq.encoding.sealer import Sealer
from jetq.errors import BrokerError
from jetq.operations.workflows.creating import WATCH
from jetq.operations.workflows.handling import open_life, status, wait_for_value
from tests.apps.harness import QUEUE, Harness
from tests.apps.ledger import Entry
from tests.apps.step_tasks import double, number, total, upto

__all__ = ["KINDS", "Load"]

_SEALER = Sealer(None)


class Kind(Struct, frozen=True):
    """Workflows that differ by a number. work: the one of a number, whose last join is the step `join`. value: what it
    gives. jobs: how many members it has."""

    work: Callable[[int], Work[Any]]
    value: Callable[[int], int]
    jobs: int


KINDS = {
    "chord": Kind(
        lambda n: (group(number.bind(n + i) for i in range(10)) | total).named("join"), lambda n: 10 * n + 45, jobs=11
    ),
    "unknown": Kind(lambda n: (each(double, upto.bind(6).out) | total).named("join"), lambda n: 30, jobs=8),
    "columns": Kind(
        lambda n: (
            group(group(number.bind(n + i) | double for i in range(3)) | total for _ in range(3)) | total
        ).named("join"),
        lambda n: 18 * n + 18,
        jobs=22,
    ),
}  # fmt: skip
"""One of each way in which a step waits for others: for all of a step, for an unknown number, for a member, for a
page."""


class Load:
    """Workflows of each kind in turn. A creation that fails is repeated under its id."""

    def __init__(self, h: Harness, kinds: Collection[str] = tuple(KINDS)) -> None:
        self._h = h
        self._kinds = list(kinds)
        self._stored: dict[str, tuple[Kind, int]] = {}
        self._ending = False
        self._next = 0

    @property
    def stored(self) -> int:
        """How many workflows are stored."""
        return len(self._stored)

    @property
    def ids(self) -> list[str]:
        """The ids of the workflows that are stored, in the order of their storing."""
        return list(self._stored)

    async def store(self, *, at_once: int = 5) -> None:
        """Store workflows until `end` is called."""
        self._ending = False

        async def one_by_one() -> None:
            while not self._ending:
                n, self._next = self._next, self._next + 1
                await self._store(n)
                await asyncio.sleep(0.2)  # the machine also runs the servers and the workers

        with replaced_default(self._h.app):
            await asyncio.gather(*(one_by_one() for _ in range(at_once)))

    def end(self) -> None:
        """Store no further workflow."""
        self._ending = True

    async def _store(self, n: int) -> None:
        name = self._kinds[n % len(self._kinds)]
        kind, id = KINDS[name], f"{name}-{n}"
        while True:
            try:
                await kind.work(n).adelay(id=id)
            except BrokerError:
                await asyncio.sleep(0.05)
            else:
                self._stored[id] = (kind, n)
                return

    async def until_ended(self, timeout: float) -> None:
        """Until each workflow has its value, and no job but those of watches is stored."""
        waiting, jobs = set(self._stored), ["unknown"]
        try:
            async with asyncio.timeout(timeout):
                while waiting or jobs:
                    for id in list(waiting):
                        if await status(self._h.broker, _SEALER, id) != "running":
                            waiting.remove(id)
                    stored = await self._h.broker.stored_jobs(QUEUE)
                    jobs = [job.delivery.id for job in stored if job.delivery.task != WATCH]
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"not over after {timeout:g} s: {sorted(waiting)}, jobs {jobs}") from None

    async def check(
        self, killed: Collection[int] = (), others: Collection[str] = (), *, leaders_changed: bool = False
    ) -> None:
        """Hold that each workflow has its own value, that its last join began after all else, and that nothing ran
        again but what a killed process, one of the pids `killed`, had begun. others: lives of workflows that are none
        of these. leaders_changed: a new leader of a consumer may not know that a job was just handed out, and hands it
        out to another worker; so it only holds that no worker has run a job twice."""
        by_life: dict[str, list[Entry]] = {}
        for entry in self._h.ledger.entries():
            by_life.setdefault(entry.id.partition(":")[0], []).append(entry)
        for id, (kind, n) in self._stored.items():
            assert await wait_for_value(self._h.broker, _SEALER, id, 5.0) == str(kind.value(n)).encode(), id
            _, found = await open_life(self._h.broker, _SEALER, id)
            _check_runs(id, kind, by_life.pop(found.life), killed, leaders_changed)
        assert by_life.keys() <= set(others)  # no run is of a workflow that nobody has stored


def _check_runs(id: str, kind: Kind, runs: Sequence[Entry], killed: Collection[int], leaders_changed: bool) -> None:
    ran = Counter(entry.id for entry in runs)
    assert len(ran) == kind.jobs, (id, ran)
    last = {entry.id: entry for entry in runs}
    again = [entry for entry in runs if entry is not last[entry.id] and entry.pid not in killed]
    if leaders_changed:
        by_worker = Counter((entry.id, entry.pid) for entry in runs)
        again = [entry for entry in again if by_worker[entry.id, entry.pid] > 1]
    assert not again, (id, again, [entry for entry in runs if entry.id == again[0].id])
    steps = [entry.id.split(":")[1] for entry in runs]
    before = {job for job in ran if ":join:" not in job}
    assert before <= {entry.id for entry in runs[: steps.index("join")]}, (id, runs)
