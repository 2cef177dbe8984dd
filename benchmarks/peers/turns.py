"""One contestant's turn: every case that it can do, on a fresh server, with its ledger."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.roster import Contestant, Job
from benchmarks.peers.servers import Servers

PROGRAMS = Path(__file__).parent / "contestants"

ENQUEUE = {"loop": "enqueue, 100 coroutines", "threads": "enqueue, 100 threads"}
ONE_BY_ONE = {"loop": "enqueue one by one, awaited", "threads": "enqueue one by one, sync"}
DRAIN = {"loop": "drain, no-op async", "threads": "drain, no-op in threads"}
P50, P99 = "idle latency, p50", "idle latency, p99"
CASES = (*ENQUEUE.values(), *ONE_BY_ONE.values(), *DRAIN.values(), P50, P99)


@dataclass(frozen=True)
class Size:
    """How much is measured in a turn. slots: of coroutines; threads: the slots where functions run in threads."""

    count: int
    callers: int
    slots: int
    threads: int
    latencies: int

    @property
    def single(self) -> int:
        """Jobs that are stored one by one."""
        return max(50, self.count // 5)


@dataclass(frozen=True)
class Measure:
    """One figure: jobs per second, or seconds in the cases of latency. Where there is none, the problem says why."""

    case: str
    value: float | None
    problem: str = ""


class Failed(Exception):
    """A command of a contestant did not do its work; the text says why, in one line."""


def turn(contestant: Contestant, python: Path, servers: Servers, directory: Path, size: Size) -> Iterator[Measure]:
    """Measure `contestant`, each kind of job on a server of its own."""
    for job in contestant.jobs:
        with servers.started(contestant.server, directory / job) as url:
            yield from _Program(contestant, python, url, job, size).measures()


@dataclass(frozen=True)
class _Program:
    contestant: Contestant
    python: Path
    url: str
    job: Job
    size: Size

    def measures(self) -> Iterator[Measure]:
        """A failure ends this kind of job: what is stored by then would spoil what follows."""
        size, sync = self.size, self.job not in self.contestant.callers
        case = ENQUEUE[self.job]
        try:
            stored = self._do("enqueue", size.count, "--callers", str(size.callers))
            if not sync:
                yield Measure(case, stored["rate"])
            case = DRAIN[self.job]
            yield Measure(case, self._drained(size.count))
            if not sync:
                case = ONE_BY_ONE[self.job]
                stored = self._do("enqueue-one", size.single)
                self._drained(size.single)
                yield Measure(case, stored["rate"])
            if self.job == self.contestant.jobs[0]:
                case = P50
                waits = self._ran("latency", size.latencies)
                yield Measure(P50, waits["p50"])
                yield Measure(P99, waits["p99"])
        except Failed as error:
            yield Measure(case, None, str(error))

    def _drained(self, count: int) -> float:
        rate: float = self._ran("drain", count)["rate"]
        return rate

    def _ran(self, command: str, count: int) -> dict[str, Any]:
        """What running jobs gave, its ledger checked."""
        answer = self._do(command, count, "--slots", str(self._slots()))
        ledger = answer["ledger"]
        if ledger["lost"] or ledger["doubled"]:
            raise Failed(f"{command}: of {ledger['jobs']} jobs {ledger['lost']} lost, {ledger['doubled']} run twice")
        return answer

    def _slots(self) -> int:
        return self.size.slots if self.job == "loop" else self.size.threads

    def _do(self, command: str, count: int, *more: str) -> dict[str, Any]:
        """One command of the contestant's program, and the JSON of its last line."""
        program = PROGRAMS / f"{self.contestant.program}.py"
        words = [str(self.python), str(program), command, "--url", self.url, "--count", str(count), "--job", self.job]
        within = 60.0 + count / 100
        try:
            done = subprocess.run([*words, *more], capture_output=True, text=True, timeout=within, env=_environment())
        except subprocess.TimeoutExpired:
            raise Failed(f"{command}: not done within {within:g} s") from None
        if done.returncode:
            raise Failed(f"{command}: {_last_line(done.stderr) or f'exit code {done.returncode}'}")
        try:
            answer: dict[str, Any] = json.loads(_last_line(done.stdout))
        except json.JSONDecodeError:
            raise Failed(f"{command}: no answer; {_last_line(done.stderr)}") from None
        return answer


def _environment() -> dict[str, str]:
    """Nothing of this one that would lead a contestant to other packages, servers or settings."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "JETQ_", "NATS_"))}


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
