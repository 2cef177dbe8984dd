"""What becomes of a workflow where no worker does the rest: the watch mends it, and what can never run has failed."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from jetq import Failure, Jetq, TaskFailed, each, group, task
from jetq.broker import Broker
from jetq.encoding.headers import read_meta
from jetq.encoding.sealer import Sealer
from jetq.encoding.workflows import encode_plan
from jetq.errors import Denied, Rejected
from jetq.model.job import JobRecord, Place
from jetq.model.workflows import names
from jetq.operations.workflows import closing
from jetq.operations.workflows import life as life_module
from jetq.operations.workflows.closing import close
from jetq.operations.workflows.creating import WATCH
from jetq.operations.workflows.firing import member_job
from jetq.operations.workflows.handling import open_life
from jetq.operations.workflows.life import Life
from jetq.operations.workflows.marking import mark_value
from jetq.operations.workflows.watching import Turn, take_turn
from jetq.testing.faulty import Verb, faulty, raising
from jetq.worker.workflows import lives
from jetq.worker.workflows.lives import Lives
from tests.apps.fresh import no_app_yet, own_tasks
from tests.apps.working import fresh_app, working

pytestmark = pytest.mark.anyio

QUEUE = "default"
NO_CODEC = Sealer(None)

runs: Counter[str] = Counter()


class Tasks:
    number: Any
    fails: Any
    join: Any
    show: Any


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Tasks]]:
    own_tasks(monkeypatch)
    runs.clear()

    async def number(n: int) -> int:
        runs[f"number {n}"] += 1
        return n

    async def fails(n: int) -> int:
        raise ValueError(f"no {n}")

    async def join(parts: list[Any]) -> int:
        runs["join"] += 1
        return sum(not isinstance(part, dict) for part in parts)

    async def show(text: str) -> None:
        runs[text] += 1

    for fn in (number, fails, join, show):
        setattr(Tasks, fn.__name__, task(name=f"tests.{fn.__name__}", max_attempts=1)(fn))
    yield Tasks


@pytest.fixture
def app(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> Jetq:
    no_app_yet(monkeypatch)
    return fresh_app(nats_url)


class _Denying:
    """A fault: the jobs whose ids end in `denied` are refused for good."""

    def __init__(self, denied: str) -> None:
        self.denied = denied

    def __call__(self, broker: Broker, name: str, verb: Verb) -> Verb:
        if name != "enqueue_many":
            return verb

        @functools.wraps(verb)
        async def enqueue_many(jobs: Sequence[JobRecord], **options: Any) -> Any:
            answers = iter(await verb([job for job in jobs if not job.id.endswith(self.denied)], **options))
            return [Denied("not in that queue") if job.id.endswith(self.denied) else next(answers) for job in jobs]

        return enqueue_many


def _deny(app: Jetq, denied: str) -> None:
    connect = app.session.connect

    async def denying(*, patient: bool = False) -> Broker:
        return faulty(await connect(patient=patient), [_Denying(denied)])

    app.session.connect = denying


def _full(app: Jetq) -> None:
    """Let the first call that stores members be refused."""
    connect, full = app.session.connect, raising(lambda: Rejected("no room"), ["enqueue_many"], times=1)

    async def refusing(*, patient: bool = False) -> Broker:
        return faulty(await connect(patient=patient), [full])

    app.session.connect = refusing


async def _turn(broker: Broker) -> tuple[float, Turn] | None:
    """Take the first turn of the only watch."""
    (found,) = [job for job in await broker.stored_jobs(QUEUE) if job.delivery.task == WATCH]
    place = read_meta(found.delivery.headers).flow
    assert isinstance(place, Place)
    return await take_turn(broker, NO_CODEC, place, Turn(), broker.now())


async def _members(broker: Broker) -> list[str]:
    ids = [job.delivery.id for job in await broker.stored_jobs(QUEUE) if job.delivery.task != WATCH]
    return sorted(id.partition(":")[2] for id in ids)


async def _life(broker: Broker, workflow: str) -> Life:
    life, _ = await open_life(broker, NO_CODEC, workflow)
    assert life is not None
    return life


async def test_what_takes_the_place_of_the_last_value_ends_the_workflow(app: Jetq, tasks: type[Tasks]) -> None:
    async with working(app):
        flow = await tasks.fails.bind(1).or_else(7).finally_(tasks.show.bind("end")).adelay()
        assert await flow.aresult(10) == 7
        await settled_but_watches(app)
    assert runs["end"] == 1


async def test_the_watch_gives_what_takes_the_place_of_the_last_value(app: Jetq, tasks: type[Tasks]) -> None:
    flow = await tasks.fails.bind(1).or_else(7).adelay()
    broker = await app.session.broker()
    life = await _life(broker, flow.id)
    await broker.purge(QUEUE)
    await broker.write_entry(names.bad(life.id, "fails", 0, 0), b"{}", expected=0)
    await _watch(broker, life)
    assert await flow.aresult(1) == 7
    await app.session.aclose()


async def _watch(broker: Broker, life: Life, turn: Turn | None = None) -> tuple[float, Turn] | None:
    place = Place(life.workflow, life.home, life.id, "watch", 0, 1, 1, life.plan.deadline, 0, broker.now())
    return await take_turn(broker, NO_CODEC, place, turn or Turn(), broker.now())


async def test_a_turn_that_a_lying_leader_told_of_no_end_hides_it_from_no_later_one(
    app: Jetq, tasks: type[Tasks]
) -> None:
    """It took the newest entry, which is behind the end, and noted that the workflow runs."""
    flow = await (tasks.number.bind(1) | tasks.number).adelay()
    async with working(app):
        assert await flow.aresult(20) == 1
        await settled_but_watches(app)
    broker = await app.session.broker()
    life = await _life(broker, flow.id)
    newest = await broker.read_entry(names.life_of(life.id), surely=True)
    assert newest is not None
    assert await _watch(broker, life, Turn(1, newest.sequence)) is None
    assert await broker.read_entry(names.life_of(life.id), surely=True) is None  # it is closed


async def test_the_watch_stores_members_again_that_are_gone(app: Jetq, tasks: type[Tasks]) -> None:
    flow = await (group(tasks.number.bind(n) for n in range(3)) | tasks.join).adelay()
    broker = await app.session.broker()
    gone = next(job for job in await broker.stored_jobs(QUEUE) if job.delivery.id.endswith(":number:1"))
    assert await broker.remove(QUEUE, gone.delivery.sequence)
    assert await _members(broker) == ["number:0", "number:2"]
    await _turn(broker)
    assert await _members(broker) == ["number:0", "number:1", "number:2"]
    async with working(app):
        assert await flow.aresult(10) == 3
    assert runs == {"number 0": 1, "number 1": 1, "number 2": 1, "join": 1}


async def test_the_watch_counts_again_what_a_window_needs(app: Jetq, tasks: type[Tasks]) -> None:
    """Guarantee: a step with a window whose counts were lost is fed by its members again, not by the watch alone."""
    flow = await each(tasks.number, list(range(50))).window(10).adelay()
    broker = await app.session.broker()
    life = await _life(broker, flow.id)
    await broker.purge(QUEUE)
    for member in range(10):
        await mark_value(life, "number", member, b"1")
    await broker.count_up(names.count(life.id, "number", 0), 3)
    await _watch(broker, life)
    assert await broker.count_up(names.count(life.id, "number", 0), 0) == 10
    assert len(await _members(broker)) == 10
    await _watch(broker, life)
    assert await broker.count_up(names.count(life.id, "number", 0), 0) == 10
    await app.session.aclose()


async def test_the_watch_marks_who_has_a_letter_and_starts_no_join_early(app: Jetq, tasks: type[Tasks]) -> None:
    flow = await (group(tasks.fails.bind(n) for n in range(2)).settled() | tasks.join).adelay()
    async with working(app):
        assert await flow.aresult(10) == 0
        await settled_but_watches(app)
        broker = await app.session.broker()
        life = await _life(broker, flow.id)
        # As if both workers had died after the letter, and one letter was deleted, with which the job is lost.
        for what in ("mark", "state"):
            await broker.purge_entries(f"flow.{life.id}.{what}.>")
        await broker.purge_entries("count.>")
        await broker.pause(QUEUE)
        (_, second) = await broker.dead(QUEUE)
        assert await broker.delete_dead(second)
        await _turn(broker)
        standing = (await broker.standing_entries(f"flow.{life.id}.mark.>")).names
        assert len(standing) == 1
        assert "join:0" not in await _members(broker)
        await broker.resume(QUEUE)


async def settled_but_watches(app: Jetq) -> None:
    """Until only watches stand in the queue."""
    broker = await app.session.broker()
    async with asyncio.timeout(10):
        while await _members(broker):
            await asyncio.sleep(0.02)


async def test_a_value_without_items_fails_the_step_that_takes_them(app: Jetq, tasks: type[Tasks]) -> None:
    async with working(app):
        flow = await each(tasks.number, tasks.number.bind(3).out).adelay()
        with pytest.raises(TaskFailed, match="is no list"):
            await flow.aresult(10)


async def test_the_watch_fails_a_step_whose_items_are_none(app: Jetq, tasks: type[Tasks]) -> None:
    flow = await each(tasks.number, tasks.number.bind(3).out).adelay()
    broker = await app.session.broker()
    life = await _life(broker, flow.id)
    await broker.purge(QUEUE)
    await mark_value(life, "number", 0, b"3")
    await broker.write_entry(names.size(life.id, "number-2"), b"1", expected=0)  # as left by whoever died after it
    await _watch(broker, life)
    assert await flow.astatus() == "failed"
    await app.session.aclose()


async def test_a_member_that_is_refused_for_good_is_a_failure_that_the_join_takes(
    app: Jetq, tasks: type[Tasks]
) -> None:
    _deny(app, ":number:1")
    async with working(app):
        flow = await group(tasks.number.bind(n) for n in range(3)).settled().adelay()
        first, second, third = await flow.aresult(10)
    assert (first, third) == (0, 2)
    assert isinstance(second, Failure)
    assert second.reason == "forbidden"


async def test_a_callback_that_is_refused_for_good_keeps_no_workflow_open(app: Jetq, tasks: type[Tasks]) -> None:
    _deny(app, ":show:0")
    async with working(app):
        flow = await tasks.number.bind(1).finally_(tasks.show.bind("end")).adelay()
        assert await flow.aresult(10) == 1
        await settled_but_watches(app)
        assert await _turn(await app.session.broker()) is None
        assert await flow.aresult(1) == 1


async def test_a_workflow_whose_plan_has_changed_meanwhile_is_not_closed(
    app: Jetq, tasks: type[Tasks], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "KEEP_FAILED", 0.0)
    flow = await (tasks.number.bind(1) | tasks.fails).adelay()
    broker = await app.session.broker()
    life = await _life(broker, flow.id)
    await mark_value(life, "number", 0, b"1")
    await broker.write_entry(names.plan(life.home, flow.id), encode_plan(life.plan, flow.id, NO_CODEC))  # as a retry
    assert await close(life, "failed", broker.now() - 1.0) > 0
    assert await life.done("number", 0) == {0}
    await app.session.aclose()


async def test_a_worker_reads_a_life_again_after_some_seconds(
    app: Jetq, tasks: type[Tasks], monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = await tasks.number.bind(1).adelay()
    broker = await app.session.broker()
    life = await _life(broker, flow.id)
    place = Place(flow.id, life.home, life.id, "number", 0, 1, 1, life.plan.deadline, 0, broker.now())
    known = Lives(broker, NO_CODEC)
    first = await known.get(place)
    assert first is not None
    first.saw(10_000)
    assert await known.state(place) == "running"
    await broker.write_entry(names.stop(life.id), b"cancelled", expected=0)
    assert await known.state(place) == "running"
    monkeypatch.setattr(lives, "FRESH", -1.0)
    later = Lives(broker, NO_CODEC)
    assert await later.state(place) == "cancelled"
    renewed = await known.renewed(place)
    assert renewed is not None
    assert renewed.seen == 10_000  # what this worker knows to be written it does not forget
    await app.session.aclose()


async def test_the_steps_of_a_workflow_that_is_closed_are_told_as_before(app: Jetq, tasks: type[Tasks]) -> None:
    async with working(app):
        flow = await (tasks.number.bind(1) | tasks.number).adelay()
        assert await flow.aresult(10) == 1
        await settled_but_watches(app)
        before = [(each.state, each.done, each.failed, each.total) for each in (await flow.asteps()).values()]
        assert await _turn(await app.session.broker()) is None
        after = [(each.state, each.done, each.failed, each.total) for each in (await flow.asteps()).values()]
        assert before == after == [("succeeded", 1, 0, 1)] * 2


async def test_the_marks_of_many_members_are_read_page_by_page(
    app: Jetq, tasks: type[Tasks], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with working(app):
        flow = await (group(tasks.number.bind(n) for n in range(1_001)) | tasks.number).adelay()
        with pytest.raises(TaskFailed):
            await flow.aresult(20)
        life = await _life(await app.session.broker(), flow.id)
        at_once = await life.marks()
        monkeypatch.setattr(life_module, "MOST_AT_ONCE", 1_000)
        assert await life.marks() == at_once
        assert (len(at_once.ok["number"]), at_once.full["number"], at_once.fed) == (1_001, {0, 1}, {"number": 1_001})
        assert at_once.bad == {"number-2": {0}}


async def test_a_store_that_is_full_after_the_plan_leaves_a_workflow_that_the_watch_begins(
    app: Jetq, tasks: type[Tasks]
) -> None:
    _full(app)
    flow = await (group(tasks.number.bind(n) for n in range(3)) | tasks.join).adelay()
    assert flow.disposition == "stored"
    broker = await app.session.broker()
    assert not await _members(broker)
    await _turn(broker)
    assert await _members(broker) == ["number:0", "number:1", "number:2"]
    await app.session.aclose()


@pytest.mark.parametrize(("step", "member"), [("number", 1), ("number-3", 0)])
async def test_a_job_that_says_to_be_a_member_that_is_none_is_dead(
    step: str, member: int, app: Jetq, tasks: type[Tasks]
) -> None:
    async with working(app):
        flow = await (tasks.number.bind(1) | tasks.number).adelay()
        assert await flow.aresult(10) == 1
        broker = await app.session.broker()
        life = await _life(broker, flow.id)
        place = Place(flow.id, life.home, life.id, step, member, 1, 1, life.plan.deadline, 0, broker.now())
        await broker.enqueue(member_job(life, "number", member, b'{"n":1}', place))
        await settled_but_watches(app)
        (entry,) = await broker.dead(QUEUE)
        assert (entry.letter.id, entry.letter.reason) == (place.job_id, "undecodable")
        assert not (await broker.standing_entries(f"flow.{life.id}.mark.*.*.*.bad")).names
    assert runs == {"number 1": 2}
