"""Dead letters: finding them, and making living jobs of them again. In values, over the port; printing is the CLI's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from msgspec.structs import replace

from jetq.broker import Broker
from jetq.errors import JobNotFound
from jetq.model import DEFAULT_META, DeadEntry, JobRecord
from jetq.names import check_queue
from jetq.wire import BadHeader, read_meta

__all__ = ["count_dead", "find_dead", "list_dead", "purge_dead", "replay", "revived"]


async def list_dead(
    broker: Broker, *, queue: str | None = None, task: str | None = None, limit: int | None = None
) -> Sequence[DeadEntry]:
    """Dead letters of one queue or all, of one task if given, at most `limit`: by queue, oldest first."""
    entries: list[DeadEntry] = []
    for name in await _queues(broker, queue):
        if limit is not None and len(entries) >= limit:
            break
        rest = None if limit is None else limit - len(entries)
        entries += await broker.dead(name, task=task, limit=rest)
    return entries


async def find_dead(broker: Broker, id: str, *, queue: str | None = None) -> DeadEntry:
    """The newest dead letter of job `id`, looked for in every queue unless one is given. Raises JobNotFound."""
    for name in await _queues(broker, queue):
        if entries := await broker.dead(name, id=id):
            return entries[-1]
    where = "any queue" if queue is None else f"queue {queue}"
    raise JobNotFound(f"there is no dead letter of job {id} in {where}", hint="jetq dlq list shows what is there")


async def count_dead(broker: Broker, *, queue: str | None = None) -> int:
    """How many dead letters one queue or all hold."""
    return sum(info.dead for info in await broker.queues() if queue in (None, info.name))


async def purge_dead(
    broker: Broker, *, ids: Sequence[str] = (), task: str | None = None, queue: str | None = None
) -> int:
    """Drop the dead letters of some jobs, else of a task, else all, of one queue or every one: how many."""
    dropped = 0
    for name in await _queues(broker, queue):
        if not ids:
            dropped += await broker.purge_dead(name, task=task)
        for id in ids:
            dropped += await broker.purge_dead(name, id=id)
    return dropped


async def replay(broker: Broker, entries: Iterable[DeadEntry]) -> tuple[int, list[str]]:
    """Put the jobs of `entries` back into their queues: how many, and the ids of those that stand there already."""
    replayed, standing = 0, []
    for entry in entries:
        if await broker.replay(entry, revived(entry)):
            replayed += 1
        else:
            standing.append(entry.letter.id)
    return replayed, standing


def revived(entry: DeadEntry) -> JobRecord:
    """The job of `entry` as it is stored again: same id, bytes, overrides and history, and its attempts before it anew.

    The history stays bounded because every further attempt's error cuts it again.
    """
    letter = entry.letter
    overrides = DEFAULT_META
    with suppress(BadHeader):  # a header nobody can read is what made some jobs dead: without it they can run
        overrides = read_meta(letter.headers)
    meta = replace(
        overrides,
        attempt=1,
        enqueued=letter.enqueued,
        errors=letter.errors,
        errors_dropped=letter.errors_dropped,
        snoozes=letter.snoozes,
        replays=letter.replays + 1,
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


async def _queues(broker: Broker, queue: str | None) -> Sequence[str]:
    """The queues that hold dead letters, by name; `queue` alone if it is given."""
    if queue is not None:
        return [check_queue(queue)]
    return [info.name for info in await broker.queues() if info.dead]
