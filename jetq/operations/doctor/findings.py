"""What the facts about a deployment mean: what is wrong or weak in it, each thing as a sentence with what to do.

Nothing is asked here. The codes are stable: scripts may look for them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Literal

from msgspec import Struct

from jetq.model.deployment_facts import ConsumerFacts, Monitored, ServerFacts, StreamFacts, Survey, Usage
from jetq.model.queue_info import QueueInfo
from jetq.model.worker_status import WorkerStatus
from jetq.settings import OPEN_TO_NEW
from jetq.units import size, span

__all__ = ["Durability", "Finding", "Fleet", "about_dead", "about_fleet", "about_server", "about_store", "durability"]

Severity = Literal["problem", "warning", "note"]

SMALL_PAYLOAD = 256 * 1024
"""Bytes below which ordinary arguments, or a dead letter with its traceback, may not fit into a message."""

CLOCK = 1.0
"""Seconds by which two clocks may differ: the times that users' code makes go by one of them, and all other times by
the other."""

LOW, FULL = 0.8, 0.95

_TEMPORARY = {"/tmp", "/var/tmp", "/private/tmp"}


class Finding(Struct, frozen=True):
    """One thing found.

    severity: "problem": jobs do not run or are in danger; "warning": something is weak or about to be wrong; "note":
    something that may well be meant. `about`: the queue, stream, worker or server.
    """

    severity: Severity
    code: str
    about: str
    message: str
    hint: str = ""


class Durability(Struct, frozen=True):
    """What a stored job survives. kind: "memory", "single", "synced" (a single copy, with each message synced to the
    disk) or "replicated"."""

    kind: Literal["memory", "single", "synced", "replicated"]
    text: str


class Fleet(Struct, frozen=True):
    """What is known of one queue's jobs and workers.

    waiting: the tasks of jobs, taken from the oldest, and of recurring schedules. asked: when the workers were asked,
    in unix seconds by the server's clock. overdue: how many jobs should have been started long ago.
    """

    queue: QueueInfo
    workers: tuple[WorkerStatus, ...]
    waiting: frozenset[str] = frozenset()
    asked: float = 0.0
    overdue: int = 0


def durability(streams: Sequence[StreamFacts], monitored: Sequence[Monitored], wanted: int) -> Durability:
    """Return what a job survives in the weakest of the jobs' streams, or, without streams, in new ones with `wanted`
    replicas."""
    jobs = [stream for stream in streams if stream.role == "jobs" and stream.state == "stands"]
    if any(stream.storage == "memory" for stream in jobs):
        return Durability("memory", "none: jobs are kept in memory, and a restart of the server loses them")
    copies = min((stream.replicas for stream in jobs), default=wanted)
    if copies > 1:
        lost = (copies - 1) // 2
        return Durability(
            "replicated",
            f"{copies} copies on disk: survives the loss of {lost} server{'' if lost == 1 else 's'}",
        )
    if not monitored:
        return Durability(
            "single",
            "one copy on disk: survives the death of the server's process; a power cut may take what was not yet "
            "synced (the last 2 minutes unless sync_interval says otherwise; --monitor asks)",
        )
    interval = max(each.sync_interval for each in monitored)
    if interval == 0:
        return Durability(
            "synced", "one copy on disk, synced for each message: survives a power cut, not the disk's end"
        )
    return Durability(
        "single",
        f"one copy on disk: survives the death of the server's process; a power cut may take the last {span(interval)}",
    )


# --- the server


def about_server(server: ServerFacts, usage: Sequence[Usage], monitored: Sequence[Monitored]) -> Iterator[Finding]:
    """Yield findings about the server's limits, its clock, and who can listen in."""
    where = server.address
    if server.max_payload < SMALL_PAYLOAD:
        yield Finding(
            "warning",
            "small-payload",
            where,
            f"a message may have {size(server.max_payload)} at most: larger arguments are refused where they are "
            "enqueued, and tracebacks of dead letters are cut",
            "raise max_payload in the server's configuration; its default is 1 MiB",
        )
    if not server.local and not server.encrypted:
        yield Finding(
            "warning",
            "clear-text",
            where,
            "the connection is not encrypted: whoever is on the way reads credentials and arguments",
            "set up TLS at the server, and a tls:// URL or tls_ca here",
        )
    if (server.exposed or not server.local) and not server.authenticated:
        yield Finding(
            "warning",
            "no-authentication",
            where,
            "the server lets anyone in: whoever reaches it can read, add and remove jobs",
            "give its configuration users (`jetq setup acl` prints the permissions they need), or start it with "
            "`-a 127.0.0.1` if it is for this machine alone",
        )
    if abs(server.clock) - server.clock_error > CLOCK:
        yield _clock("this machine", server.clock, "the server's", where)
    for use in [*usage, *(each.storage for each in monitored)]:
        yield from _about_usage(use)
    for each in monitored:
        if _TEMPORARY & {str(parent) for parent in PurePath(each.directory).parents}:
            yield Finding(
                "warning",
                "temporary-store",
                each.url,
                f"its jobs are in {each.directory}, which a restart of the machine may clear",
                "give it another: `nats-server -js -sd /var/lib/nats`, or store_dir in its configuration",
            )


def about_dead(queue: str, dead: int, most: int, within: float | None) -> Iterator[Finding]:
    """Yield a finding if `queue` has `dead` dead letters and that is more than `most`. `within`: the last seconds in
    which the jobs died; None for all dead letters."""
    if dead > most:
        yield Finding(
            "problem",
            "many-dead",
            queue,
            f"more than {most} jobs are dead" + ("" if within is None else f" that died in the last {span(within)}"),
            f"see `jetq dlq list -q {queue}`; replay them once their cause is mended, or `jetq dlq purge` them",
        )


def _clock(whose: str, ahead: float, of: str, about: str) -> Finding:
    return Finding(
        "warning",
        "clock",
        about,
        f"the clock of {whose} is {span(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} {of}: jetq goes by the "
        "server's, but times that your code makes itself, like `at=datetime.now(UTC)`, are off by as much",
        "keep the clocks in step with NTP",
    )


def _about_usage(use: Usage) -> Iterator[Finding]:
    if use.limit is None:
        return
    if use.bytes and use.limit == 0:
        yield Finding(
            "problem", "storage-full", use.what, "it may store nothing", "give the account JetStream storage on disk"
        )
        return
    used, limit = (size(use.used), size(use.limit)) if use.bytes else (str(use.used), str(use.limit))
    if not use.bytes and use.used >= use.limit:
        yield Finding(
            "note", "limit-reached", use.what, f"{used} of {limit} are used: no new ones can be made", "raise the limit"
        )
    elif use.bytes and use.used >= use.limit * LOW:
        full = use.used >= use.limit * FULL
        yield Finding(
            "problem" if full else "warning",
            "storage-full" if full else "storage-low",
            use.what,
            f"{used} of {limit} are used: once it is full, jobs are refused where they are enqueued",
            "remove old dead letters (`jetq dlq purge`), or give it more room",
        )


# --- streams and consumers


def about_store(survey: Survey, declared: Collection[str]) -> Iterator[Finding]:
    """Yield findings about streams and consumers. `declared`: the queues that the app names."""
    yield from _about_permissions(survey)
    yield from _about_account(survey)
    yield from _about_queues(survey, declared)
    for consumer in survey.consumers:
        yield from _about_consumer(consumer)
    yield from _about_roomless(survey)
    yield from _about_drift(survey)


def _about_permissions(survey: Survey) -> Iterator[Finding]:
    for what, subject in survey.denied:
        yield Finding(
            "problem",
            "no-permission",
            subject,
            f"the NATS user may not {what}",
            "`jetq setup acl` prints the permissions that producers and workers need",
        )
    for what, subject in survey.unseen:
        yield Finding(
            "warning",
            "not-examined",
            subject,
            f"the NATS user may not {what}",
            "workers and producers do without; run `jetq doctor` as a user who may, to have it examined",
        )


def _about_account(survey: Survey) -> Iterator[Finding]:
    if survey.wants_max_bytes:
        yield Finding(
            "problem",
            "no-max-bytes",
            "the account",
            "it wants a bound in bytes of every stream, and jetq has none to give: no queue can be made",
            "set max_bytes (JETQ_MAX_BYTES), the bytes that each stream may have",
        )
    for name in survey.twofold:
        yield Finding(
            "problem",
            "two-domains",
            name,
            "two JetStream domains in the reach of this account have such a stream: each job is stored in both, and "
            "run twice",
            "set jetstream_domain (JETQ_JETSTREAM_DOMAIN) to the same domain everywhere and remove the stream in the "
            "other, or give one side another account or namespace",
        )


def _about_queues(survey: Survey, declared: Collection[str]) -> Iterator[Finding]:
    queues = {stream.queue for stream in survey.streams if stream.role == "jobs" and stream.state != "missing"}
    for stream in survey.streams:
        if stream.queue and stream.queue not in queues:
            if stream.role == "jobs" and stream.queue in declared:
                yield Finding(
                    "note",
                    "no-queue",
                    stream.queue,
                    "the queue is not made yet: its first job or worker makes it",
                    f"`jetq setup -q {stream.queue}` makes it now",
                )
        elif queues:
            yield from _about_stream(stream, clustered=survey.server.clustered)


def _about_roomless(survey: Survey) -> Iterator[Finding]:
    for queue, ids in survey.roomless:
        yield Finding(
            "problem",
            "no-room",
            queue,
            f"jobs are dead and stay in the queue, because the server takes no dead letters of their size: "
            f"{', '.join(ids)}",
            "raise max_payload of the server; within a quarter of an hour they are in the dead letters",
        )


def _about_drift(survey: Survey) -> Iterator[Finding]:
    for drift in survey.drift:
        if drift.field != "storage":
            yield Finding(
                "warning",
                "drift",
                drift.thing,
                f"{drift.field} is {drift.found!r}, jetq needs {drift.wanted!r}",
                "change it with `nats stream edit` or `nats consumer edit`, or jetq's settings; not the ack_wait of a "
                "consumer to a few seconds while jobs run: what was not renewed lately is handed out again at once"
                if drift.field == "ack_wait"
                else "change it with `nats stream edit` or `nats consumer edit`, or jetq's settings",
            )


def _about_stream(stream: StreamFacts, *, clustered: bool) -> Iterator[Finding]:
    name = stream.name
    if stream.state == "foreign":
        yield Finding(
            "problem",
            "foreign-stream",
            name,
            "a stream of that name is there and is not jetq's",
            "rename it, or give jetq another namespace (JETQ_NAMESPACE)",
        )
    elif stream.state == "silent":
        yield Finding(
            "problem",
            "no-leader",
            name,
            "it does not answer: too few of the servers that hold it are there",
            "see `nats server report jetstream`",
        )
    elif stream.state == "missing":
        if stream.role == "dead-letters":  # the other streams are made at their first use
            yield Finding(
                "warning",
                "no-stream",
                name,
                "the stream for the queue's dead letters is missing, with all that was in it",
                f"`jetq setup -q {stream.queue}` makes it, and so does the next dead letter",
            )
    elif stream.storage == "memory":
        yield Finding(
            "problem",
            "memory-storage",
            name,
            f"it is kept in memory: a restart of the server loses its {stream.messages} messages",
            "make it anew with file storage",
        )
    elif clustered and stream.replicas == 1:
        yield Finding(
            "warning",
            "single-copy",
            name,
            "one server of the cluster holds it: when that one is away, so are its jobs",
            f"JETQ_REPLICAS=3 for new ones, and `nats stream edit {name} --replicas 3` for this one",
        )
    if stream.dropped:
        yield Finding(
            "problem",
            "jobs-dropped",
            name,
            "it was full, and the server removed its oldest jobs to make room",
            f"raise its room (`nats stream edit {name} --max-bytes`); whoever enqueues past jetq's limit fills it",
        )
    if stream.max_bytes is not None and stream.role in ("jobs", "dead-letters", "state", "flows"):
        yield from _about_room(stream, stream.max_bytes)
    if stream.offline:
        yield Finding(
            "warning",
            "replica-offline",
            name,
            f"of its {stream.replicas} copies those on {', '.join(stream.offline)} are away",
            "bring these servers back",
        )


def _about_room(stream: StreamFacts, most: int) -> Iterator[Finding]:
    limit = round(most * OPEN_TO_NEW) if stream.role == "jobs" else most
    if stream.bytes < limit * LOW:
        return
    is_full = stream.bytes >= limit * FULL
    what = {"jobs": "new jobs are refused", "dead-letters": "jobs that die stay where they are"}
    yield Finding(
        "problem" if is_full else "warning",
        "stream-full" if is_full else "stream-low",
        stream.name,
        f"{size(stream.bytes)} of its {size(most)} (max_bytes) are used; at {size(limit)} "
        f"{what.get(stream.role, 'nothing more is written there')}",
        f"raise it (`nats stream edit {stream.name} --max-bytes`), or "
        + ("start more workers" if stream.role == "jobs" else "remove what is old"),
    )


def _about_consumer(consumer: ConsumerFacts) -> Iterator[Finding]:
    if not consumer.stands:
        yield Finding(
            "problem",
            "no-consumer",
            consumer.queue,
            f"consumer {consumer.name} of stream {consumer.stream} is missing: no worker gets a job of the queue"
            + (f"; {', '.join(consumer.others)} stands in its place" if consumer.others else ""),
            (f"`nats consumer rm {consumer.stream} {consumer.others[0]}`, then " if consumer.others else "")
            + f"`jetq setup -q {consumer.queue}` makes it",
        )
    if consumer.passed:
        yield Finding(
            "problem",
            "passed-over",
            consumer.queue,
            f"consumer {consumer.name} counts jobs as done that stand, and will never hand them out: "
            f"{', '.join(consumer.passed)}",
            f"stop the workers, `nats consumer rm {consumer.stream} {consumer.name}`, `jetq setup -q {consumer.queue}`",
        )


# --- jobs and workers


def about_fleet(
    fleets: Sequence[Fleet], declared: Mapping[str, Collection[str]], own_version: str
) -> Iterator[Finding]:
    """Yield findings about jobs that nobody will run, and about the workers. `declared`: the app's tasks by queue."""
    for fleet in fleets:
        yield from _about_jobs(fleet, declared.get(fleet.queue.name, ()))
    answers = {worker.worker: (worker, fleet.asked) for fleet in fleets for worker in fleet.workers}
    for worker, asked in answers.values():
        if worker.now is not None and abs(worker.now - asked) > CLOCK:
            yield _clock(worker.host, worker.now - asked, "the server's", worker.worker)
    workers = [worker for worker, _ in answers.values()]
    versions = sorted({worker.version for worker in workers if worker.version} | {own_version} - {""})
    if workers and len(versions) > 1:
        yield Finding(
            "warning",
            "versions",
            "workers",
            f"different versions of jetq are at work: {', '.join(versions)} (this one is {own_version})",
            "let the upgrade reach all of them; a new version reads what the one before wrote, and the other way round",
        )


def _about_jobs(fleet: Fleet, declared: Collection[str]) -> Iterator[Finding]:
    queue, name = fleet.queue, fleet.queue.name
    live = [worker for worker in fleet.workers if not worker.stopping]
    if queue.paused_until is not None:
        end = "" if math.isinf(queue.paused_until) else ", until the end that was given"
        yield Finding(
            "note", "paused", name, f"it is paused and hands out nothing{end}", f"`jetq queue resume {name}` ends that"
        )
    if not live:
        waits = queue.ready + queue.running
        yield Finding(
            "problem" if waits else "warning" if queue.scheduled or fleet.waiting else "note",
            "no-worker",
            name,
            f"no live worker serves it; {waits} jobs wait for one, and {queue.scheduled} are due later",
            f"`jetq worker ... -q {name}` starts one",
        )
    for task in sorted({*fleet.waiting, *declared}) if live else ():
        if all(worker.missing_tasks is not None and task in worker.missing_tasks for worker in live):
            waits_for = task in fleet.waiting
            yield Finding(
                "problem" if waits_for else "warning",
                "unknown-task",
                name,
                f"none of its {len(live)} workers knows task {task}"
                + (", and jobs of it wait" if waits_for else ", which is declared here"),
                "deploy workers that import the module of the task; until then its jobs wait, and then die",
            )
    if fleet.overdue:
        yield Finding(
            "warning",
            "overdue",
            name,
            f"{fleet.overdue} jobs that were put off should have been started by the server long ago",
            "a live worker of the queue starts them within a minute or so; was the store full?",
        )
    if queue.dead:
        yield Finding(
            "note", "dead-letters", name, f"{queue.dead} dead letters stand", f"`jetq dlq list -q {name}` shows them"
        )
