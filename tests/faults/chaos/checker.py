"""The verdict of a chaos run: what became of every job, from the producers' and the tasks' own notes alone."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from tests.apps.ledger import Entry

__all__ = ["Attempt", "Disturbance", "Letter", "Outcome", "Repeat", "Verdict", "check"]

Outcome = Literal["stored", "rejected", "unknown"]

BODY = "body:"
"""What the ledger's word for the digest of large data begins with."""


@dataclass(frozen=True)
class Attempt:
    """One job that a producer tried to store: `stored`, surely not (`rejected`), or nobody knows.

    words: what the producer was told, try by try. digest: of the large data that the job carries.
    """

    id: str
    n: int
    task: str
    outcome: Outcome
    words: tuple[str, ...] = ()
    digest: str | None = None


@dataclass(frozen=True)
class Repeat:
    """An enqueue of other arguments, number `n` among them, under the id of a job that was stored. `ended`: when what
    became of it was known, Unix seconds. `word`: "new", "existing", or the error."""

    id: str
    n: int
    outcome: Outcome
    word: str
    ended: float


@dataclass(frozen=True)
class Letter:
    """A dead letter: when the job died, Unix seconds, and the digest of large data that it carries."""

    at: float
    digest: str | None = None


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
    stored. never: neither known to be stored nor seen. left: finished or dead, and standing all the same since the
    server was killed, which is a limit (docs/explanation/faults.md). large: came with large data as that was sent.
    again: repeats of an id that changed nothing. lost: stored and gone. doubled: ran again while their worker lived and
    nothing was disturbed. repeated: ran again, with a reason. unexpected: dead though they should not be, or there
    though they were surely not stored or never enqueued at all, or not with the arguments that they should have.
    """

    attempted: int = 0
    stored: int = 0
    ok: int = 0
    dead: int = 0
    recovered: int = 0
    never: int = 0
    rejected: int = 0
    left: int = 0
    large: int = 0
    again: int = 0
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
    repeats: Sequence[Repeat],
    entries: Sequence[Entry],
    *,
    dead: Mapping[str, Letter],
    standing: Collection[str],
    doomed: Collection[str],
    disturbances: Sequence[Disturbance],
    lease: float,
) -> Verdict:
    """Sort every job. dead: the dead letters by id. standing: ids that are still in a queue. doomed: tasks that always
    fail. lease: seconds after which a worker that is cut off has lost its jobs."""
    verdict = Verdict(attempted=len(attempts))
    known = {attempt.id: attempt for attempt in attempts}
    own = [entry for entry in entries if entry.id in known and entry.n == known[entry.id].n]
    finished = {entry.id: entry.at for entry in own if entry.event == "finish"}
    killed = max((each.since for each in disturbances if each.kind == "server killed"), default=0.0)
    ended = {id: letter.at for id, letter in dead.items()}
    ended |= {entry.id: entry.at for entry in reversed(own) if entry.event == "finish"}  # the first of each
    left = {id for id, at in ended.items() if id in standing and at < killed}
    started = {entry.id for entry in own}
    for attempt in attempts:
        if attempt.outcome == "rejected":
            _check_ghost(verdict, attempt, started, dead, standing)
        else:
            _sort(verdict, attempt, finished, dead, set(standing) - left, doomed)
    verdict.left = len(left)
    enqueued = {(each.id, each.n) for each in attempts} | {(each.id, each.n) for each in repeats}
    for id, n in {(entry.id, entry.n) for entry in entries} - enqueued:
        verdict.unexpected.append(f"{id} was never enqueued" + (f" with number {n}" if id in known else ""))
    verdict.unexpected += [f"{id} was never enqueued" for id in dead if id not in known]
    _check_data(verdict, known, own, dead)
    _check_repeats(verdict, known, repeats, entries)
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
    else:
        verdict.never += 1


def _check_ghost(
    verdict: Verdict, attempt: Attempt, started: Collection[str], dead: Collection[str], standing: Collection[str]
) -> None:
    """What a producer was told to be surely not stored must be nowhere."""
    places = {"ran": started, "is dead": dead, "stands": standing}
    found = [where for where, ids in places.items() if attempt.id in ids]
    if found:
        words = ", ".join(attempt.words) or "rejected"
        verdict.unexpected.append(f"{attempt.id} was surely not stored ({words}), and {' and '.join(found)}")
    else:
        verdict.rejected += 1


def _check_data(
    verdict: Verdict, known: Mapping[str, Attempt], own: Iterable[Entry], dead: Mapping[str, Letter]
) -> None:
    """Large data must arrive as it was sent, wherever it arrives."""
    arrived: dict[str, set[str | None]] = defaultdict(set)
    finished: set[str] = set()
    for entry in own:
        if entry.event.startswith(BODY):
            arrived[entry.id].add(entry.event.removeprefix(BODY))
        elif entry.event == "finish":
            finished.add(entry.id)
    for id, attempt in known.items():
        if attempt.digest is not None:
            if id in dead:
                arrived[id].add(dead[id].digest)
            elif id not in finished and not arrived[id]:
                continue
            if arrived[id] == {attempt.digest}:
                verdict.large += 1
            else:
                verdict.unexpected.append(f"{id} of {attempt.task} arrived with other data than it was sent with")


def _check_repeats(
    verdict: Verdict, known: Mapping[str, Attempt], repeats: Iterable[Repeat], entries: Iterable[Entry]
) -> None:
    """While a job stands or runs an enqueue under its id changes nothing; afterwards it may store another."""
    starts: dict[tuple[str, int], float] = {}
    ends: dict[tuple[str, int], float] = {}
    for entry in entries:
        if entry.event in ("start", "finish"):
            (starts if entry.event == "start" else ends).setdefault((entry.id, entry.n), entry.at)
    for each in repeats:
        job = (each.id, each.n)
        started, over = starts.get(job), ends.get((each.id, known[each.id].n), math.inf)
        told = f"the repeat {each.n} of {each.id} ({each.word})"
        if started is not None and each.outcome == "rejected":
            verdict.unexpected.append(f"{told} was surely not stored, and ran")
        elif started is not None and started < over:
            verdict.unexpected.append(f"{told} ran while the first stood or ran")
        elif (started is not None or each.word == "new") and each.outcome == "stored" and each.ended < over:
            verdict.unexpected.append(f"{told} was stored while the first stood or ran")
        elif each.word == "new" and job not in ends:
            verdict.lost.append(told)
        else:
            verdict.again += started is None


def _repeats(
    entries: Sequence[Entry], disturbances: Sequence[Disturbance], lease: float
) -> Iterable[tuple[str, str | None]]:
    """Every start of an attempt that had been started before, and what allows it."""
    runs: Mapping[tuple[str, int, int], list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.event == "start":
            runs[entry.id, entry.n, entry.attempt].append(entry)
    for (id, _, number), starts in runs.items():
        for first, again in pairwise(starts):
            # A job that is handed out again waits for its turn among the suspects of its worker, for as long as the
            # others run: so it may have been handed out any time since its first start.
            held = lease if first is starts[0] else max(lease, first.at - starts[0].at)
            reasons = [each for each in disturbances if _allows(each, first, again, held)]
            reason = max(reasons, key=lambda each: (each.pid != 0, each.since)).kind if reasons else None
            told = f"{id}, attempt {number}: pid {first.pid} and {again.at - first.at:.2f} s later pid {again.pid}"
            yield told, reason


def _allows(disturbance: Disturbance, first: Entry, again: Entry, held: float) -> bool:
    """Whether it fell into the time from the first start to the second; or before it, while the worker held the job.

    A server that was killed or stopped forgets what it had just handed out, and gives it to another worker. Both
    renew it until its turn comes: for a limit, or among the suspects. held: for how many seconds before the first start
    the first worker may have held it.
    """
    if disturbance.pid not in (0, first.pid):
        return False
    return disturbance.since <= again.at and disturbance.until >= first.at - (held if disturbance.pid == 0 else 1.0)
