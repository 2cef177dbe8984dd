"""The least that a NATS user must be allowed to publish and subscribe to, as a producer or a worker of given tasks.

Making streams and consumers is no part of it: `jetq setup` does that, as a user who may. That each set suffices, that
none of it is idle and that nothing else works is held by tests/integration/security/test_permissions.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from jetq.jetstream.streams.subjects import ACK_PREFIX, Names, api_prefix, task_token
from jetq.model.job import LEVELS, Level
from jetq.model.names import NO_KEY

__all__ = ["Enqueued", "Permissions", "of_producer", "of_worker"]


class Enqueued(Struct, frozen=True):
    """A task as it is enqueued. keys: its jobs may have one. levels: its queue has high and low ones too."""

    queue: str
    task: str
    keys: bool = False
    levels: bool = False


class Permissions(Struct, frozen=True):
    """Subjects, each perhaps with wildcards. responses: also to publish one answer to whoever asks."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    responses: bool = False


def of_producer(names: Names, inbox: str, tasks: Iterable[Enqueued], *, domain: str | None = None) -> Permissions:
    """To enqueue `tasks` with any option and to wait for their results. domain: that of JetStream, if it is named."""
    api = api_prefix(domain)
    tasks = list(tasks)
    publish = [f"{inbox}.>", f"{api}.INFO", f"{api}.STREAM.MSG.GET.{names.results}"]
    for queue in sorted({each.queue for each in tasks}):
        of_queue = [each for each in tasks if each.queue == queue]
        levels = any(each.levels for each in of_queue)
        publish += _looks(names, api, queue, levels=levels)
        for each in sorted(of_queue, key=lambda each: each.task):
            publish += _jobs_of(names, each)
        publish += [f"{api}.STREAM.MSG.GET.{names.jobs(queue)}", f"{api}.DIRECT.GET.{names.dead_letters(queue)}"]
        publish.append(names.questions(queue))
        if any(each.keys for each in of_queue):
            publish.append(f"{api}.DIRECT.GET.{names.jobs(queue)}")
    if any(each.keys for each in tasks):
        publish += [f"{api}.STREAM.INFO.{names.results}", *_state(names, api)]
    return Permissions(tuple(publish), (f"{inbox}.>", names.result("*")))


def of_worker(names: Names, inbox: str, queues: Mapping[str, bool], *, domain: str | None = None) -> Permissions:
    """To run whatever stands in `queues`; of each, whether it has levels. domain: that of JetStream, if it is named."""
    api = api_prefix(domain)
    publish = [f"{inbox}.>", f"{api}.INFO", names.result("*"), names.cell(">"), names.signal("limits")]
    publish += [f"{api}.STREAM.INFO.{names.results}", f"{api}.STREAM.MSG.GET.{names.results}", *_state(names, api)]
    publish += [f"{api}.DIRECT.GET.{names.state}", f"{api}.STREAM.PURGE.{names.state}"]
    publish += [names.record(">"), *_records(names, api)]
    handover = [names.signal("able"), names.signal("hand.*"), names.questions("hand.*")]
    publish += handover
    subscribe = [f"{inbox}.>", names.cell("pause.*"), names.cell("lines.*"), names.signal("limits"), *handover]
    for queue, levels in sorted(queues.items()):
        jobs, dead = names.jobs(queue), names.dead_letters(queue)
        publish += [*_looks(names, api, queue, levels=levels), f"{names.namespace}.{queue}.>"]
        publish += [f"{api}.STREAM.MSG.GET.{jobs}", f"{api}.STREAM.MSG.GET.{dead}", f"{api}.DIRECT.GET.{jobs}"]
        publish += [f"{api}.STREAM.MSG.DELETE.{jobs}", f"{api}.CONSUMER.INFO.{jobs}.{names.consumer(queue, 'high')}"]
        for level in _levels(levels):
            consumer = f"{jobs}.{names.consumer(queue, level)}"
            publish += [f"{api}.CONSUMER.MSG.NEXT.{consumer}", f"{ACK_PREFIX}{consumer}.>"]
        subscribe += [names.cancelled(queue), names.questions(queue), names.cell(f"off.{queue}.*")]
    return Permissions(tuple(publish), tuple(subscribe), responses=True)


def _looks(names: Names, api: str, queue: str, *, levels: bool) -> list[str]:
    """To see whether a queue stands as it should, and what was handed out."""
    streams = [f"{api}.STREAM.INFO.{stream}" for stream in (names.jobs(queue), names.dead_letters(queue))]
    consumers = [f"{api}.CONSUMER.INFO.{names.jobs(queue)}.{names.consumer(queue, each)}" for each in _levels(levels)]
    return [*streams, *consumers]


def _jobs_of(names: Names, task: Enqueued) -> list[str]:
    key = "*" if task.keys else NO_KEY
    kinds = ["later", *("run" if level == "normal" else f"run-{level}" for level in _levels(task.levels))]
    return [f"{names.namespace}.{task.queue}.{kind}.{task_token(task.task)}.{key}.*" for kind in kinds] + (
        [names.throttle(task.queue, task.task, "*")] if task.keys else []
    )


def _state(names: Names, api: str) -> list[str]:
    return [f"{api}.STREAM.{verb}.{names.state}" for verb in ("INFO", "MSG.GET", "MSG.DELETE")]


def _records(names: Names, api: str) -> list[str]:
    return [
        f"{api}.{verb}.{names.records}" for verb in ("STREAM.INFO", "STREAM.MSG.GET", "STREAM.MSG.DELETE", "DIRECT.GET")
    ]


def _levels(levels: bool) -> tuple[Level, ...]:
    return LEVELS if levels else ("normal",)
