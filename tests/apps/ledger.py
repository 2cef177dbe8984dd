"""Reading the ledger that the tasks of `ledger_tasks` write."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.apps.noting import whole_lines


@dataclass(frozen=True)
class Entry:
    event: str
    n: int
    attempt: int
    pid: int
    at: float
    id: str

    @property
    def nominal(self) -> int:
        """The time for which a schedule's job is, which its id ends in."""
        stamp = datetime.strptime(self.id.rpartition(":")[2], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        return int(stamp.timestamp())


class Ledger:
    """The lines written so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def entries(self, event: str | None = None) -> list[Entry]:
        found = []
        for line in whole_lines(self.path):
            name, n, attempt, pid, at, id = line.split()
            if event is None or name == event:
                found.append(Entry(name, int(n), int(attempt), int(pid), float(at), id))
        return found

    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size

    def count(self, event: str) -> Counter[int]:
        """How often `event` was noted, by job number."""
        return Counter(entry.n for entry in self.entries(event))

    async def wait(self, condition: Callable[[Ledger], bool], timeout: float = 30.0) -> None:
        """Until `condition` holds. Fails the test with what stands in the ledger otherwise."""
        try:
            async with asyncio.timeout(timeout):
                while not condition(self):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            tail = "\n".join(self.path.read_text().splitlines()[-20:])
            raise AssertionError(f"the ledger did not get there in {timeout:g} s; its end:\n{tail}") from None
