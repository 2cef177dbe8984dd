"""Who stores a member, and stalls for longer than the server knows its id: before it stores, in the middle of it, and
until the workflow is closed. Nothing runs twice, and of a closed workflow nothing runs and nothing stays."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from jetq import Jetq, Work, each, group
from jetq.broker import Broker
from jetq.client.app import replaced_default
from jetq.client.workflows.workflow import Workflow
from jetq.encoding.sealer import Sealer
from jetq.model.job import JobRecord
from jetq.model.workflows import names
from jetq.operations.workflows import creating
from jetq.operations.workflows.closing import close
from jetq.operations.workflows.creating import WATCH
from jetq.operations.workflows.firing import feed, fire
from jetq.operations.workflows.handling import open_life, status, wait_for_value
from jetq.operations.workflows.life import Life
from jetq.testing.faulty import Verb, faulty
from tests.apps import flow_tasks
from tests.apps.flow_tasks import WORKS, Expected
from tests.apps.forgetting import SUSPECTS_SOON, WINDOW, forget_soon
from tests.apps.harness import QUEUE, Harness, harness
from tests.apps.ledger import Ledger
from tests.apps.staying import let_pass
from tests.apps.step_tasks import double, number, total
from tests.apps.workers import WorkerProcess
from tests.apps.working import fresh_app, share, tasks_of, working
from tests.servers import NatsServerFactory

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

STALLED = 61.0
"""Seconds. A member that is stored so long after it was found to be due is a suspect."""

SEALER = Sealer(None)


# --- one firer, which the test holds back


@pytest.fixture
async def app(nats_url: str) -> AsyncIterator[Jetq]:
    """An app with the tasks of the works, whose server soon forgets the ids of jobs."""
    app = fresh_app(nats_url)
    share(app, *tasks_of(flow_tasks))
    broker = await app.session.broker()
    await broker.setup(QUEUE)
    await forget_soon(broker)
    yield app
    await app.session.aclose()


class Hold:
    """A fault: calls for which `holds` is true wait until the test lets them go on. Before, the time of this broker is
    behind by `STALLED`: so long the call seems to have waited."""

    def __init__(self, verb: str, holds: Callable[..., bool]) -> None:
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()
        self._verb, self._holds = verb, holds

    def __call__(self, broker: Broker, name: str, verb: Verb) -> Verb:
        if name == "now":
            return lambda: verb() - (0.0 if self.go_on.is_set() else STALLED)
        return self._waiting(verb) if name == self._verb else verb

    def _waiting(self, verb: Verb) -> Verb:
        @functools.wraps(verb)
        async def waits(*args: Any, **kwargs: Any) -> Any:
            if self._holds(*args, **kwargs):
                self.reached.set()
                await self.go_on.wait()
            return await verb(*args, **kwargs)

        return waits


def hold(app: Jetq, verb: str, holds: Callable[..., bool]) -> Hold:
    """Hold back what the workers of `app` ask of the broker."""
    connect, held = app.session.connect, Hold(verb, holds)

    async def connect_held(*, patient: bool = False) -> Broker:
        return faulty(await connect(patient=patient), [held])

    app.session.connect = connect_held
    return held


async def stored(app: Jetq, work: Work[Any]) -> tuple[Workflow[Any], Life]:
    """Store a workflow. It, and it as another process knows it."""
    with replaced_default(app):
        flow = await work.adelay()
    life, _ = await open_life(await app.session.broker(), SEALER, flow.id)
    assert life is not None
    return flow, life


async def members(broker: Broker) -> list[str]:
    """The members that stand, as step and number."""
    jobs = await broker.stored_jobs(QUEUE)
    return sorted(job.delivery.id.partition(":")[2] for job in jobs if job.delivery.task != WATCH)


async def until_members(broker: Broker, *expected: str) -> None:
    """Until these stand and no other."""
    async with asyncio.timeout(60):
        while await members(broker) != sorted(expected):
            await asyncio.sleep(0.02)


def open_for_long(work: Work[Any]) -> Work[Any]:
    """`work`, and a step after it that nobody runs."""
    return work | double.options(queue="idle")


async def test_a_join_that_is_stored_late_before_it_was_stored_does_not_run_twice(app: Jetq, ledger: Ledger) -> None:
    _, life = await stored(app, open_for_long(group(number.bind(n) for n in range(3)) | total))
    broker = life.broker
    async with working(app, queues=[QUEUE]):
        await ledger.wait(lambda ledger: ledger.count("total") == {3: 1}, 60.0)
        await until_members(broker)  # type: ignore[arg-type]
        await let_pass(2 * WINDOW)
        await broker.pause(QUEUE)  # type: ignore[attr-defined]
        await fire(life, "total", 0, looked=broker.now() - STALLED)
        await until_members(broker, "total:0")  # type: ignore[arg-type]
        await broker.resume(QUEUE)  # type: ignore[attr-defined]
        await until_members(broker)  # type: ignore[arg-type]
    assert ledger.count("total") == {3: 1}


async def test_a_member_that_stands_is_not_stored_beside_itself(app: Jetq, ledger: Ledger) -> None:
    _, life = await stored(app, group(number.bind(n) for n in range(3)) | total)
    await let_pass(2 * WINDOW)
    await fire(life, "number", 1, looked=life.broker.now() - STALLED)
    async with working(app, queues=[QUEUE]):
        await ledger.wait(lambda ledger: ledger.count("total") == {3: 1}, 60.0)
        await until_members(life.broker)  # type: ignore[arg-type]
    assert ledger.count("number") == {0: 1, 1: 1, 2: 1}


async def test_a_firer_that_stalls_between_its_mark_and_its_look_starts_no_second_join(
    nats_url: str, app: Jetq, ledger: Ledger
) -> None:
    """Guarantee: the time from which a late firer is a suspect is one before its mark, wherever it stalls."""
    _, life = await stored(app, open_for_long(group(number.bind(n) for n in range(3)) | total))
    page = names.marks_of_page(life.id, "number", 0)
    workers = Jetq(nats_url, namespace=app.settings.namespace)
    share(workers, *tasks_of(flow_tasks))
    held = hold(workers, "standing_entries", lambda where, **_: where == page)
    async with working(workers, queues=[QUEUE]):
        async with asyncio.timeout(60):
            await held.reached.wait()
        await fire(life, "total", 0, looked=life.broker.now())  # as by another that has looked
        await ledger.wait(lambda ledger: ledger.count("total") == {3: 1}, 60.0)
        async with asyncio.timeout(60):
            while "total:0" in await members(life.broker):  # type: ignore[arg-type]
                await asyncio.sleep(0.02)
        await let_pass(2 * WINDOW)
        held.go_on.set()
        await until_members(life.broker)  # type: ignore[arg-type]
    assert ledger.count("total") == {3: 1}


class Half:
    """A fault: who stores members stalls when half of them are stored."""

    def __init__(self) -> None:
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()

    def __call__(self, broker: Broker, name: str, verb: Verb) -> Verb:
        if name != "enqueue_many":
            return verb

        @functools.wraps(verb)
        async def halves(jobs: Sequence[JobRecord], **options: Any) -> Any:
            half = len(jobs) // 2
            first = await verb(jobs[:half], **options)
            self.reached.set()
            await self.go_on.wait()
            return [*first, *await verb(jobs[half:], **options)]

        return halves


async def test_a_feeder_that_stalls_in_the_middle_stores_no_member_that_runs_twice(app: Jetq, ledger: Ledger) -> None:
    _, life = await stored(app, open_for_long(each(number, list(range(20))) | total))
    broker: Any = life.broker
    await broker.purge(QUEUE)  # as if the creator had died after the plan
    await broker.purge_entries(names.fed(life.id, "number"))
    await let_pass(2 * WINDOW)
    half = Half()
    slow = Life(faulty(broker, [half]), SEALER, life.workflow, life.home, life.plan, life.sequence)
    feeding = asyncio.create_task(feed(slow, "number", looked=broker.now() - STALLED + 1.0))
    await half.reached.wait()
    async with working(app, queues=[QUEUE]):
        await feed(life, "number", looked=broker.now())
        await ledger.wait(lambda ledger: ledger.count("total") == {190: 1}, 60.0)
        await until_members(broker)
        await let_pass(1.0 + 2 * WINDOW)
        await broker.pause(QUEUE)
        half.go_on.set()
        await feeding
        await until_members(broker, *(f"number:{n}" for n in range(10, 20)))
        await broker.resume(QUEUE)
        await until_members(broker)
    assert ledger.count("number") == {n: 1 for n in range(20)}
    assert ledger.count("total") == {190: 1}


class Behind:
    """A fault: the replica that answers has the plan as it was at first."""

    def __init__(self, plan: Any) -> None:
        self._plan = plan

    def __call__(self, broker: Broker, name: str, verb: Verb) -> Verb:
        if name != "read_entry":
            return verb

        @functools.wraps(verb)
        async def read_entry(where: str, *, surely: bool = False) -> Any:
            if where == self._plan.name and not surely:
                return self._plan
            return await verb(where, surely=surely)

        return read_entry


@pytest.mark.parametrize("again", [False, True])
async def test_of_a_closed_workflow_nothing_runs_also_if_a_replica_is_behind(
    nats_url: str, app: Jetq, ledger: Ledger, again: bool
) -> None:
    """Guarantee: a member that is stored after the close is dropped, and leaves nothing."""
    flow, life = await stored(app, each(number, [1, 1, 1]) | total)
    broker: Any = life.broker
    plan = await broker.read_entry(names.plan(life.home, life.workflow), surely=True)
    await broker.purge(QUEUE)
    assert await flow.acancel() == "cancelled"
    await broker.purge(QUEUE)
    assert await close(life, "cancelled", broker.now()) == 0.0
    workers = Jetq(nats_url, namespace=app.settings.namespace)
    share(workers, *tasks_of(flow_tasks))
    connect = workers.session.connect

    async def connect_behind(*, patient: bool = False) -> Broker:
        return faulty(await connect(patient=patient), [Behind(plan)])

    workers.session.connect = connect_behind
    await let_pass(2 * WINDOW)
    await fire(life, "total", 0, looked=broker.now(), again=again)
    assert await members(broker) == ["total:0"]
    async with working(workers, queues=[QUEUE]):
        await until_members(broker)
    assert not ledger.entries()
    assert not (await broker.standing_entries("flow.>")).names


# --- a worker process that is stopped at each step


AT_ONCE = 3
"""Points that are tried side by side, each in a namespace of its own."""

ALL = os.environ.get("JETQ_TEST_SWEEP") == "all"
SWEPT = (
    [(name, closed) for name in WORKS for closed in (False, True)] if ALL else [("columns", False), ("unknown", True)]
)
EVERY = 1 if ALL else 4
"""Every so many points are tried."""


def _worker(h: Harness, more: dict[str, str]) -> WorkerProcess:
    env = {
        "JETQ_NAMESPACE": h.app.settings.namespace,
        **SUSPECTS_SOON,
        "JETQ_TEST_WATCH": "1",
        **more,
    }
    return WorkerProcess(h.url, h.ledger, ack_wait=1.0, concurrency=1, env=env, modules="tests.apps.flow_tasks")


def _is_stopped(worker: WorkerProcess) -> bool:
    return Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


async def _until(holds: Callable[[], Awaitable[bool]], h: Harness) -> None:
    try:
        async with asyncio.timeout(90):
            while not await holds():
                await asyncio.sleep(0.05)
    except TimeoutError:
        jobs = [(job.delivery.id, job.state) for job in await h.broker.stored_jobs(QUEUE)]
        raise AssertionError(f"not over: jobs {jobs}, {(await h.broker.standing_entries('flow.>')).names}") from None


async def _is_over(h: Harness, expected: Expected, closed: bool) -> bool:
    """Whether the workflow has ended, and only its watch is left; or is also closed."""
    jobs = [job for job in await h.broker.stored_jobs(QUEUE) if closed or job.delivery.task != WATCH]
    if jobs or await status(h.broker, SEALER, "flow") != expected.state:
        return False
    return not closed or not (await h.broker.standing_entries("flow.>")).names


async def _store(h: Harness, expected: Expected, one_by_one: asyncio.Lock) -> None:
    await forget_soon(h.broker)
    async with one_by_one:
        with replaced_default(h.app):
            await expected.work().adelay(id="flow")


@pytest.mark.parametrize(("name", "closed"), SWEPT)
async def test_a_worker_that_is_stopped_at_any_step_and_goes_on_late_doubles_nothing(
    name: str, closed: bool, nats_server: NatsServerFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee: a worker that stalls for longer than the server knows an id starts nothing a second time, whether the
    workflow is open (`closed` is False) or closed when it goes on."""
    monkeypatch.setattr(creating, "FIRST_TURN", 1.0 if closed else 600.0)
    expected, server, one_by_one = WORKS[name], nats_server(), asyncio.Lock()
    points = await _points(server.url, tmp_path, expected, one_by_one)
    assert len(points) > len(expected.runs)
    gate = asyncio.Semaphore(AT_ONCE)

    async def point(at: int) -> None:
        async with gate:
            own = tmp_path / f"point-{at}"
            own.mkdir()
            async with harness(server.url, own, ack_wait=1.0, namespace=f"n{at}") as h:
                await _store(h, expected, one_by_one)
                await _stop_and_go_on(h, expected, at, closed, f"stopped {points[at - 1]}, call {at}")

    async with asyncio.TaskGroup() as all_points:
        for at in range(1, len(points) + 1, EVERY):
            all_points.create_task(point(at))


async def _points(url: str, directory: Path, expected: Expected, one_by_one: asyncio.Lock) -> list[str]:
    calls = directory / "calls"
    async with harness(url, directory, ack_wait=1.0, namespace="first") as h:
        await _store(h, expected, one_by_one)
        with _worker(h, {"JETQ_TEST_STOPS": str(calls)}):
            await _until(lambda: _is_over(h, expected, False), h)
    return [line.split(" ", 1)[1] for line in calls.read_text().splitlines()]


async def _stop_and_go_on(h: Harness, expected: Expected, at: int, closed: bool, where: str) -> None:
    """Let a worker stop itself at a point, another one do the work, and the first one go on then."""
    calls = {"JETQ_TEST_STOPS": str(h.ledger.path.with_name("calls")), "JETQ_TEST_STOP_AT": str(at)}
    with _worker(h, calls) as first:

        async def stands_still() -> bool:
            return _is_stopped(first) or await _is_over(h, expected, False)

        await _until(stands_still, h)
        with _worker(h, {}) as second:
            await _until(lambda: _is_over(h, expected, closed), h)
            await let_pass(2 * WINDOW)
            first.process.send_signal(signal.SIGCONT)
            first.stop()
            assert await asyncio.to_thread(first.wait, 60.0) == 0, where
            await _until(lambda: _is_over(h, expected, closed), h)
            second.stop()
            assert await asyncio.to_thread(second.wait, 60.0) == 0, where
    _check(h, expected, first, where)
    if expected.state == "succeeded":
        value = await wait_for_value(h.broker, SEALER, "flow", 1.0)
        assert value == str(expected.value).replace(" ", "").encode(), where


def _check(h: Harness, expected: Expected, stopped: WorkerProcess, where: str) -> None:
    """The stopped worker has lost its leases, so the other one may run what it had begun: once."""
    runs = h.ledger.entries()
    assert {(entry.event, entry.n) for entry in runs} == set(expected.runs), where
    assert len({entry.id for entry in runs}) == sum(expected.runs.values()), where
    by_worker = Counter((entry.id, entry.pid == stopped.pid) for entry in runs)
    assert set(by_worker.values()) == {1}, (where, by_worker)
