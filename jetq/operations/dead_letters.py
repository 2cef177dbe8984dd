"""Finding dead letters, and making living jobs of them again. All in values, over the port; the command line prints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct
from msgspec.structs import replace

from jetq.encoding.headers import check_letter, meta_to_rewrite
from jetq.errors import DefinitionError, JobNotFound, NewerVersion
from jetq.model.dead_letter import DeadEntry, DeadLetter
from jetq.model.failure import DeadReason, stable_type_name
from jetq.model.job import JobRecord
from jetq.model.names import check_queue, check_task

if TYPE_CHECKING:
    from jetq.broker.dead_letters import DeadLetters
    from jetq.broker.queues import Queues

    class _Broker(DeadLetters, Queues, Protocol):
        """The part of the broker that is needed here."""


__all__ = [
    "EVERY",
    "DeadFilter",
    "LetterRef",
    "Replay",
    "check_readable",
    "count_dead",
    "each_dead",
    "edited",
    "find_dead",
    "purge_dead",
    "refs_of",
    "replay",
    "replay_edited",
    "revived",
]

_PAGE = 100
"""How many dead letters are read in one go: with the largest bodies 100 MiB, mostly some KiB."""


class DeadFilter(Struct, frozen=True):
    """Says which dead letters are meant: those that fit everything given here; all if nothing is given."""

    queue: str | None = None
    """Only dead letters of this queue; None for every queue."""

    ids: tuple[str, ...] = ()
    """Only those of these jobs, the newest dead letter of each; empty for every job."""

    task: str | None = None
    """Only those of this task."""

    reason: DeadReason | None = None
    """Only those that are dead for this reason."""

    error: str | None = None
    """Only those that died of this exception, as `module.Name` or `Name`."""

    since: float | None = None
    """Only jobs that died at this time or later, in unix seconds."""

    until: float | None = None
    """Only jobs that died before this time, in unix seconds."""

    limit: int | None = None
    """At most so many dead letters; None for no bound."""

    def fits(self, letter: DeadLetter) -> bool:
        """Return whether `letter` is meant, as far as the letter alone can tell."""
        return (
            (self.task is None or letter.task == self.task)
            and (self.reason is None or letter.reason == self.reason)
            and (self.error is None or f".{letter.failure.type}".endswith(f".{stable_type_name(self.error)}"))
            and (self.since is None or letter.at >= self.since)
            and (self.until is None or letter.at < self.until)
        )

    @property
    def by_name(self) -> bool:
        """Whether queue, ids and task alone say which letters are meant, so that the broker knows them without looking
        into them."""
        if self.task is not None:
            with suppress(DefinitionError):
                check_task(self.task)
                return replace(self, queue=None, task=None) == EVERY
            return False  # strays share an address
        return replace(self, queue=None, ids=()) == EVERY


EVERY = DeadFilter()


class LetterRef(Struct, frozen=True):
    """Where a dead letter is stored."""

    queue: str
    task: str
    id: str
    sequence: int


# --- finding


async def each_dead(broker: _Broker, which: DeadFilter = EVERY) -> AsyncIterator[DeadEntry]:
    """Yield the dead letters that `which` means, by queue, oldest first, read as they are asked for.

    Raises JobNotFound for an id without a dead letter.
    """
    left = which.limit
    if left == 0:
        return
    async for entry in _of_jobs(broker, which) if which.ids else _of_queues(broker, which):
        if which.fits(entry.letter):
            yield entry
            left = None if left is None else left - 1
            if left == 0:
                return


async def _of_jobs(broker: _Broker, which: DeadFilter) -> AsyncIterator[DeadEntry]:
    for id in dict.fromkeys(which.ids):
        yield await find_dead(broker, id, queue=which.queue)


async def _of_queues(broker: _Broker, which: DeadFilter) -> AsyncIterator[DeadEntry]:
    for name in await _queues(broker, which.queue):
        after = 0
        while page := await broker.dead(name, task=which.task, after=after, limit=_PAGE):
            for entry in page:
                yield entry
            after = page[-1].sequence


async def refs_of(broker: _Broker, which: DeadFilter = EVERY) -> list[LetterRef]:
    """Return where the dead letters that `which` means are stored now. Places are much smaller than letters. Letters
    that come later are not among them."""
    return [
        LetterRef(entry.letter.queue, entry.letter.task, entry.letter.id, entry.sequence)
        async for entry in each_dead(broker, which)
    ]


async def find_dead(broker: _Broker, id: str, *, queue: str | None = None) -> DeadEntry:
    """Return the newest dead letter of job `id`, looked for in every queue unless `queue` is given. Raises
    JobNotFound."""
    for name in await _queues(broker, queue):
        if entries := await broker.dead(name, id=id):
            return entries[-1]
    where = "any queue" if queue is None else f"queue {queue}"
    raise JobNotFound(f"there is no dead letter of job {id} in {where}", hint="jetq dlq list shows what is there")


async def count_dead(broker: Queues, *, queue: str | None = None) -> int:
    """Return how many dead letters `queue` holds, or all queues together without `queue`."""
    return sum(info.dead for info in await broker.queues() if queue in (None, info.name))


async def purge_dead(broker: _Broker, which: DeadFilter = EVERY) -> int:
    """Drop the dead letters that `which` means, and return how many were dropped. Of a job given by id alone, all dead
    letters are dropped."""
    if not which.by_name:
        return sum([await broker.delete_dead(entry) async for entry in each_dead(broker, which)])
    dropped = 0
    for name in await _queues(broker, which.queue):
        if not which.ids:
            dropped += await broker.purge_dead(name, task=which.task)
        for id in which.ids:
            dropped += await broker.purge_dead(name, id=id)
    return dropped


# --- replaying


async def replay(broker: DeadLetters, entries: Iterable[DeadEntry]) -> tuple[int, list[str]]:
    """Put the jobs of `entries` back into their queues. Return how many, and the ids of the jobs that are stored there
    already. Raises NewerVersion."""
    replayed, existing = 0, []
    for entry in entries:
        if await broker.replay(entry, revived(entry)):
            replayed += 1
        else:
            existing.append(entry.letter.id)
    return replayed, existing


class Replay:
    """Puts the jobs of some dead letters back into their queues, one after another, `every` seconds or at once.

    Each letter is read again just before its replay, because that may be hours later. A letter that is gone was
    replayed or purged meanwhile. A letter with a newer letter of its job was left by a replay that was cut short. Both
    are passed over. A job that dies again meanwhile is passed over too, because none of the places is that of its new
    letter.

    replayed, passed: how many so far. existing: ids of jobs that are stored in their queue already. strays: ids of
    messages that were no job. newer: ids of jobs that only a newer jetq can read. left: how many are to come.
    """

    def __init__(self, broker: DeadLetters, refs: Sequence[LetterRef], *, every: float = 0.0) -> None:
        self._broker = broker
        self._refs = refs
        self._every = every
        self._stopped = asyncio.Event()
        self.left = len(refs)
        self.replayed = 0
        self.passed = 0
        self.existing: list[str] = []
        self.strays: list[str] = []
        self.newer: list[str] = []

    def stop(self) -> None:
        """End after the job that is being put back."""
        self._stopped.set()

    async def run(self, on_step: Callable[[Replay], None]) -> None:
        """Put the jobs back until all are done or `stop` is called, and call `on_step` after each job. Raises
        BrokerError; the letter of the job that could not be stored then stays, and so do the letters to come."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        for ref in self._refs:
            await self._wait(due - loop.time())
            if self._stopped.is_set():
                return
            due = max(due, loop.time()) + self._every
            await self._put_back(ref)
            self.left -= 1
            on_step(self)

    async def _wait(self, seconds: float) -> None:
        if seconds > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), seconds)

    async def _put_back(self, ref: LetterRef) -> None:
        entry = await _letter_at(self._broker, ref)
        if entry is None:
            self.passed += 1
        elif not ref.task:
            self.strays.append(ref.id)
        else:
            await self._replay(entry)

    async def _replay(self, entry: DeadEntry) -> None:
        try:
            job = revived(entry)
        except NewerVersion:
            self.newer.append(entry.letter.id)
            return
        if await self._broker.replay(entry, job):
            self.replayed += 1
        else:
            self.existing.append(entry.letter.id)


async def replay_edited(broker: DeadLetters, entry: DeadEntry, body: bytes) -> bool:
    """Put the job of `entry` back with other arguments. Return False, and change nothing, if a job of its id or key is
    stored.

    Raises JobNotFound if the letter was replayed or purged meanwhile, or the job died again; NewerVersion.
    """
    letter = entry.letter
    if await _letter_at(broker, LetterRef(letter.queue, letter.task, letter.id, entry.sequence)) is None:
        raise JobNotFound(
            f"the dead letter of job {letter.id} is not there any more", hint=f"jetq job show {letter.id}"
        )
    return await broker.replay(entry, edited(entry, body))


async def _letter_at(broker: DeadLetters, ref: LetterRef) -> DeadEntry | None:
    """Return the letter at `ref`, if the letter is still stored there and is the newest of its job; else None."""
    of_job = await broker.dead(ref.queue, id=ref.id, task=ref.task or None, after=ref.sequence - 1)
    return of_job[0] if len(of_job) == 1 and of_job[0].sequence == ref.sequence else None


def revived(entry: DeadEntry) -> JobRecord:
    """Return the job of `entry` as it is stored again: with the same id, bytes, overrides and history, and its attempts
    counted from 1 anew.

    The history stays bounded because the error of every further attempt cuts the history again. Raises NewerVersion for
    a job or letter that a newer jetq has written.
    """
    letter = check_readable(entry)
    # Some jobs are dead because of a header that nobody can read: without that header they can run.
    overrides = meta_to_rewrite(letter.headers)
    meta = replace(
        overrides,
        attempt=1,
        enqueued=letter.enqueued,
        errors=letter.errors,
        errors_dropped=letter.errors_dropped,
        snoozes=letter.snoozes,
        replays=letter.replays + 1,
        edits=letter.edits,
        unknown_since=None,
        expires=None,
        crashes=0,
    )
    return JobRecord(
        id=letter.id,
        task=letter.task,
        queue=letter.queue,
        body=entry.body,
        key=letter.key,
        meta=meta,
        level=letter.level,
    )


def check_readable(entry: DeadEntry) -> DeadLetter:
    """Return the letter of `entry`, unless something would be lost when its job is written anew. Raises NewerVersion
    then."""
    check_letter(entry.letter)
    meta_to_rewrite(entry.letter.headers)
    return entry.letter


def edited(entry: DeadEntry, body: bytes) -> JobRecord:
    """Return the job of `entry` as `revived` makes it, with other arguments. Raises NewerVersion."""
    job = revived(entry)
    return replace(job, body=body, meta=replace(job.meta, edits=job.meta.edits + 1))


async def _queues(broker: Queues, queue: str | None) -> Sequence[str]:
    """Return the queues that hold dead letters, by name; `queue` alone if it is given."""
    if queue is not None:
        return [check_queue(queue)]
    return [info.name for info in await broker.queues() if info.dead]
