"""The verdict of a chaos run: what became of every job, from the producers' and the tasks' own notes alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from tests.apps.ledger import Entry

__all__ = ["Attempt", "Disturbance", "Verdict", "check"]

Outcome = Literal["stored", "rejected", "unknown"]


@dataclass(frozen=True)
class Attempt:
    """One job that a producer tried to store: `stored`, surely not (`rejected`), or nobody knows."""

    id: str
    n: int
    task: str
    outcome: Outcome


@dataclass(frozen=True)
class Disturbance:
    """A fault that allows a job to run again: of one process, or with `pid` 0 of the server. Unix seconds."""

    kind: str
    pid: int
    since: float
    until: float


@dataclass
class Verdict:
    """Jobs by what became of them.

    ok: finished. dead: in the dead letters, as they should. recovered: finished though nobody knew that they were
    stored. never: neither known to be stored nor seen. left: finished, and standing all the same since the server was
    killed, which is a limit (docs/explanation/faults.md). lost: stored and gone. doubled: ran again while their worker
    lived and nothing was disturbed. repeated: ran again, with a reason. unexpected: dead though they should not be, or
    run though they were surely not stored, or never enqueued at all.
    """

    attempted: int = 0
    stored: int = 0
    ok: int = 0
    dead: int = 0
    recovered: int = 0
    never: int = 0
    rejected: int = 0
    left: int = 0
    repeated: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether everything is as promised."""
        return not (self.lost or self.doubled or self.unexpected)

    def table(self) -> str:
        """The counts, and the first few of what should not be."""
        lines = [f"{name:12}{_count(value):>8,}" for name, value in vars(self).items()]
        lines += [f"  repeated: {count} {why}" for why, count in self.repeated.most_common()]
        for name in ("lost", "doubled", "unexpected"):
            lines += [f"  {name}: {each}" for each in getattr(self, name)[:10]]
        return "\n".join(lines)


def _count(value: int | list[str] | Counter[str]) -> int:
    if isinstance(value, Counter):
        return value.total()
    return len(value) if isinstance(value, list) else value


def check(
    attempts: Sequence[Attempt],
    entries: Sequence[Entry],
    *,
    dead: Collection[str],
    standing: Collection[str],
    doomed: Collection[str],
    disturbances: Sequence[Disturbance],
    lease: float,
) -> Verdict:
    """Sort every job. dead, standing: ids in the dead letters and still in the queue. doomed: tasks that always fail.
    lease: seconds after which a worker that is cut off has lost its jobs."""
    verdict = Verdict(attempted=len(attempts))
    finished = {entry.id: entry.at for entry in entries if entry.event == "finish"}
    killed = max((each.since for each in disturbances if each.kind == "server killed"), default=0.0)
    left = {id for id, at in finished.items() if id in standing and at < killed}
    known = {attempt.id: attempt for attempt in attempts}
    for attempt in attempts:
        _sort(verdict, attempt, finished, dead, set(standing) - left, doomed)
    verdict.left = len(left)
    for id in {entry.id for entry in entries} | set(dead):
        if id not in known:
            verdict.unexpected.append(f"{id} was never enqueued")
        elif known[id].outcome == "rejected":
            verdict.unexpected.append(f"{id} was rejected, and is there all the same")
    for id, why in _repeats(entries, disturbances, lease):
        if why:
            verdict.repeated[why] += 1
        else:
            verdict.doubled.append(id)
    return verdict


def _sort(
    verdict: Verdict,
    attempt: Attempt,
    finished: Collection[str],
    dead: Collection[str],
    standing: Collection[str],
    doomed: Collection[str],
) -> None:
    id, fails = attempt.id, attempt.task in doomed
    verdict.stored += attempt.outcome == "stored"
    if id in dead and not fails:
        verdict.unexpected.append(f"{id} of {attempt.task} is dead")
    elif id in standing:
        verdict.unexpected.append(f"{id} of {attempt.task} was not run in time")
    elif id in dead:
        verdict.dead += 1
    elif id in finished and attempt.outcome == "unknown":
        verdict.recovered += 1
    elif id in finished:
        verdict.ok += 1
    elif attempt.outcome == "stored":
        verdict.lost.append(f"{id} of {attempt.task}")
    elif attempt.outcome == "unknown":
        verdict.never += 1
    else:
        verdict.rejected += 1


def _repeats(
    entries: Sequence[Entry], disturbances: Sequence[Disturbance], lease: float
) -> Iterable[tuple[str, str | None]]:
    """Every start of an attempt that had been started before, and what allows it."""
    runs: Mapping[tuple[str, int], list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.event == "start":
            runs[entry.id, entry.attempt].append(entry)
    for (id, number), starts in runs.items():
        for first, again in pairwise(starts):
            reasons = [each for each in disturbances if _allows(each, first, again, lease)]
            reason = max(reasons, key=lambda each: (each.pid != 0, each.since)).kind if reasons else None
            told = f"{id}, attempt {number}: pid {first.pid} and {again.at - first.at:.2f} s later pid {again.pid}"
            yield told, reason


def _allows(disturbance: Disturbance, first: Entry, again: Entry, lease: float) -> bool:
    """Whether it fell into the time from the first start to the second; or before it, while the worker held the job.

    A server that was killed forgets what it had handed out, and gives it to another worker while the first one, which
    may hold it back for a limit, begins it within its lease.
    """
    if disturbance.pid not in (0, first.pid):
        return False
    held = lease if disturbance.pid == 0 else 1.0
    return disturbance.since <= again.at and disturbance.until >= first.at - held
