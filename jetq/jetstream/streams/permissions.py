"""The least that a NATS user must be allowed to publish and subscribe to, as a producer or a worker of given tasks, or
to cancel or retry their workflows.

Making streams and consumers is not included: `jetq setup` does that, as a user with the permission.
tests/integration/security/test_permissions.py and test_workflow_permissions.py hold that each set suffices, that no
permission in it is idle, and that nothing else works.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from jetq.jetstream.streams.subjects import ACK_PREFIX, Subjects, task_token
from jetq.jetstream.transport.api_prefix import api_prefix
from jetq.model.job import LEVELS, Level
from jetq.model.names import NO_KEY

__all__ = ["Enqueued", "Permissions", "of_canceller", "of_operator", "of_producer", "of_worker"]


class Enqueued(Struct, frozen=True):
    """A task as it is enqueued. `keys`: its jobs may have a key. `levels`: its queue also has high and low jobs."""

    queue: str
    task: str
    keys: bool = False
    levels: bool = False


class Permissions(Struct, frozen=True):
    """Subjects, perhaps with wildcards. `responses`: the user may also publish one answer to each request."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    responses: bool = False


def of_producer(
    subjects: Subjects,
    inbox: str,
    tasks: Iterable[Enqueued],
    *,
    watch: str | None = None,
    plans_for: Iterable[str] = (),
    domain: str | None = None,
) -> Permissions:
    """Return what a user needs to enqueue `tasks` with any option and to wait for their results.

    watch: the task that watches over workflows, if the user also stores workflows, which begin with these tasks.
    plans_for: other queues in which their later steps may be. `domain` is that of JetStream, if it has a name.
    """
    api = api_prefix(domain)
    tasks = list(tasks)
    publish = [f"{inbox}.>", f"{api}.INFO", f"{api}.STREAM.MSG.GET.{subjects.results}"]
    publish += _enqueueing(subjects, api, tasks)
    if watch is not None:
        own = {each.queue for each in tasks}
        for queue in sorted(own):
            publish += [subjects.entry(f"plan.{queue}.*"), _watch_in(subjects, queue, "later", watch)]
        publish += [subjects.entry(f"flow.*.allow.{queue}") for queue in sorted(own | {*plans_for})]
    if any(each.keys for each in tasks):
        publish += [f"{api}.STREAM.INFO.{subjects.results}", *_state(subjects, api)]
    if watch is not None:
        publish += [subjects.entry("flow.*.page.>"), subjects.entry("flow.*.fed.*"), *_ledger(subjects, api)]
    subscribe = [f"{inbox}.>", subjects.result("*")]
    if watch is not None:
        subscribe.append(subjects.entry("flow.*.state.*"))  # as wait_for_value does
    return Permissions(tuple(publish), tuple(subscribe))


def of_worker(
    subjects: Subjects,
    inbox: str,
    queues: Mapping[str, bool],
    *,
    enqueues: Iterable[Enqueued] = (),
    domain: str | None = None,
) -> Permissions:
    """Return what a user needs to run everything that is stored in `queues`, which gives for each queue whether it has
    levels.

    enqueues: tasks of other queues that the user may enqueue as a producer of them, because the code of its tasks does,
    or because they are later steps of workflows. `domain` is that of JetStream, if it has a name.
    """
    api = api_prefix(domain)
    publish = [f"{inbox}.>", f"{api}.INFO", subjects.result("*"), subjects.cell(">"), subjects.signal("limits")]
    publish += [
        f"{api}.STREAM.INFO.{subjects.results}",
        f"{api}.STREAM.MSG.GET.{subjects.results}",
        *_state(subjects, api),
    ]
    publish += [f"{api}.DIRECT.GET.{subjects.state}", f"{api}.STREAM.PURGE.{subjects.state}"]
    publish += [subjects.record(">"), *_records(subjects, api)]
    publish += [*_advancing(subjects, api), *_ledger(subjects, api)]
    handover = [subjects.signal("able"), subjects.signal("hand.*"), subjects.questions("hand.*")]
    publish += handover
    subscribe = [f"{inbox}.>", subjects.cell("pause.*"), subjects.cell("lines.*"), *handover]
    subscribe += [subjects.signal("limits"), subjects.signal("workflow")]
    for queue, levels in sorted(queues.items()):
        jobs, dead = subjects.jobs(queue), subjects.dead_letters(queue)
        publish += [*_looks(subjects, api, queue, levels=levels), f"{subjects.namespace}.{queue}.>"]
        # The worker that gets the time of a schedule is the creator of its workflow.
        publish += [subjects.entry(f"plan.{queue}.*"), subjects.entry(f"flow.*.allow.{queue}")]
        publish.append(f"{api}.DIRECT.GET.{dead}")
        publish += [f"{api}.STREAM.MSG.GET.{jobs}", f"{api}.STREAM.MSG.GET.{dead}", f"{api}.DIRECT.GET.{jobs}"]
        publish += [f"{api}.STREAM.MSG.DELETE.{jobs}", f"{api}.CONSUMER.INFO.{jobs}.{subjects.consumer(queue, 'high')}"]
        for level in _levels(levels):
            consumer = f"{jobs}.{subjects.consumer(queue, level)}"
            publish += [f"{api}.CONSUMER.MSG.NEXT.{consumer}", f"{ACK_PREFIX}{consumer}.>"]
        subscribe += [subjects.cancelled(queue), subjects.questions(queue), subjects.cell(f"off.{queue}.*")]
    if elsewhere := [each for each in enqueues if each.queue not in queues]:
        publish += _enqueueing(subjects, api, elsewhere)
        subscribe.append(subjects.result("*"))
    return Permissions(tuple(publish), tuple(subscribe), responses=True)


def of_canceller(
    subjects: Subjects, inbox: str, queues: Mapping[str, bool], watch: str, *, domain: str | None = None
) -> Permissions:
    """Return what a user needs to look at workflows, and to cancel those whose first call is in one of `queues`, which
    gives for each queue whether it has levels.

    watch: the task that watches over workflows. `domain` is that of JetStream, if it has a name.
    """
    api = api_prefix(domain)
    publish = [f"{inbox}.>", f"{api}.INFO", subjects.entry("flow.*.state.stop"), subjects.signal("workflow")]
    publish += _ledger(subjects, api)
    for queue, levels in sorted(queues.items()):
        publish += [*_looks(subjects, api, queue, levels=levels), f"{api}.STREAM.MSG.GET.{subjects.jobs(queue)}"]
        publish.append(_watch_in(subjects, queue, "run", watch))
    return Permissions(tuple(publish), (f"{inbox}.>",))


def of_operator(
    subjects: Subjects,
    inbox: str,
    queues: Mapping[str, bool],
    *,
    enqueues: Iterable[Enqueued] = (),
    domain: str | None = None,
) -> Permissions:
    """Return what a user needs to retry workflows whose steps are in `queues`, beside what `of_worker` returns: to
    replay dead letters there, and to tell workers of it."""
    api, worker = api_prefix(domain), of_worker(subjects, inbox, queues, enqueues=enqueues, domain=domain)
    publish = [*worker.publish, subjects.signal("workflow"), f"{api}.STREAM.MSG.DELETE.{subjects.results}"]
    publish += [f"{api}.STREAM.PURGE.{subjects.dead_letters(queue)}" for queue in sorted(queues)]
    return Permissions(tuple(publish), worker.subscribe, responses=worker.responses)


def _enqueueing(subjects: Subjects, api: str, tasks: Iterable[Enqueued]) -> list[str]:
    """Return the subjects to publish on to enqueue `tasks`, beside those that are of no queue."""
    publish, tasks = list[str](), list(tasks)
    for queue in sorted({each.queue for each in tasks}):
        of_queue = [each for each in tasks if each.queue == queue]
        levels = any(each.levels for each in of_queue)
        publish += _looks(subjects, api, queue, levels=levels)
        for each in sorted(of_queue, key=lambda each: each.task):
            publish += _jobs_of(subjects, each)
        publish += [f"{api}.STREAM.MSG.GET.{subjects.jobs(queue)}", f"{api}.DIRECT.GET.{subjects.dead_letters(queue)}"]
        publish.append(subjects.questions(queue))
        if any(each.keys for each in of_queue):
            publish.append(f"{api}.DIRECT.GET.{subjects.jobs(queue)}")
    return publish


def _watch_in(subjects: Subjects, queue: str, kind: str, watch: str) -> str:
    """Return the subjects of the jobs that watch over workflows, scheduled or ready."""
    return f"{subjects.namespace}.{queue}.{kind}.{task_token(watch)}.{NO_KEY}.*"


def _looks(subjects: Subjects, api: str, queue: str, *, levels: bool) -> list[str]:
    """Return the subjects to publish on to see whether a queue is as it should be, and what was handed out."""
    streams = [f"{api}.STREAM.INFO.{stream}" for stream in (subjects.jobs(queue), subjects.dead_letters(queue))]
    consumers = [
        f"{api}.CONSUMER.INFO.{subjects.jobs(queue)}.{subjects.consumer(queue, each)}" for each in _levels(levels)
    ]
    return [*streams, *consumers]


def _jobs_of(subjects: Subjects, task: Enqueued) -> list[str]:
    key = "*" if task.keys else NO_KEY
    kinds = ["later", *("run" if level == "normal" else f"run-{level}" for level in _levels(task.levels))]
    return [f"{subjects.namespace}.{task.queue}.{kind}.{task_token(task.task)}.{key}.*" for kind in kinds] + (
        [subjects.throttle(task.queue, task.task, "*")] if task.keys else []
    )


def _state(subjects: Subjects, api: str) -> list[str]:
    return [f"{api}.STREAM.{verb}.{subjects.state}" for verb in ("INFO", "MSG.GET", "MSG.DELETE")]


def _records(subjects: Subjects, api: str) -> list[str]:
    return [
        f"{api}.{verb}.{subjects.records}"
        for verb in ("STREAM.INFO", "STREAM.MSG.GET", "STREAM.MSG.DELETE", "DIRECT.GET")
    ]


def _ledger(subjects: Subjects, api: str) -> list[str]:
    """Return the subjects to publish on to read what workflows have written down."""
    infos = [f"{api}.STREAM.INFO.{stream}" for stream in (subjects.flows, subjects.counts)]
    return [*infos, f"{api}.STREAM.MSG.GET.{subjects.flows}", f"{api}.DIRECT.GET.{subjects.flows}"]


def _advancing(subjects: Subjects, api: str) -> list[str]:
    """Return the subjects to publish on to write down what becomes of members, and to clear up after workflows."""
    # Pages too: a workflow of a schedule is stored by the worker that gets its time.
    of_life = ("page.>", "mark.>", "full.>", "size.*", "fed.*", "state.*")
    written = [*(subjects.entry(f"flow.*.{each}") for each in of_life), subjects.entry("count.>")]
    purges = [f"{api}.STREAM.PURGE.{stream}" for stream in (subjects.flows, subjects.counts)]
    return [*written, f"{api}.STREAM.MSG.DELETE.{subjects.flows}", *purges]


def _levels(levels: bool) -> tuple[Level, ...]:
    return LEVELS if levels else ("normal",)
