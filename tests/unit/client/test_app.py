"""The app: which one a task finds, what is stored, and what the handles tell, on the memory broker."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw

import jetq
from jetq import Jetq, Job, default_app, task
from jetq.broker import Broker
from jetq.client.registry import IMPORTED
from jetq.encoding.headers import read_meta
from jetq.errors import (
    ArgumentError,
    BrokerUnavailable,
    DefinitionError,
    EnqueueError,
    JobNotFound,
    NoResult,
    NotStored,
    PayloadTooLarge,
    Rejected,
    ResultError,
    ResultExpired,
    ResultTimeout,
    SettingsError,
    TaskFailed,
)
from jetq.memory import MemoryBroker, MemoryStore
from jetq.model.failure import Failure
from jetq.model.job import DEFAULT_META, Debounce, EnqueueReceipt, JobRecord, Meta, StoredJob
from jetq.model.job_context import CURRENT, Current, JobContext
from jetq.model.result import ResultRecord
from tests.apps.fresh import no_app_yet, own_tasks


class Watched(MemoryBroker):
    """Fails as told by `faults`, by job id, and counts its batches."""

    faults: dict[str, Exception]
    batches: list[int]
    records: list[JobRecord]

    async def enqueue(
        self,
        job: JobRecord,
        *,
        due: float | None = None,
        timeout: float | None = None,
        debounce: Debounce | None = None,
    ) -> EnqueueReceipt:
        if job.id in self.faults:
            raise self.faults[job.id]
        stored = await super().enqueue(job, due=due, timeout=timeout, debounce=debounce)
        self.records.append(job)
        return stored

    async def enqueue_many(
        self,
        jobs: Any,
        *,
        due: float | None = None,
        timeout: float | None = None,
        debounce: Debounce | None = None,
    ) -> Any:
        self.batches.append(len(jobs))
        return await super().enqueue_many(jobs, due=due, timeout=timeout, debounce=debounce)


class World:
    """An app on the memory broker, and a look into its store."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.faults: dict[str, Exception] = {}
        self.batches: list[int] = []
        self.records: list[JobRecord] = []
        self.app = self.adopt(Jetq())

    def adopt(self, app: Jetq) -> Jetq:
        app.session.connect = self.connect
        return app

    async def connect(self, *, patient: bool = False) -> Broker:
        broker = Watched(self.store)
        broker.faults, broker.batches, broker.records = self.faults, self.batches, self.records
        return broker

    def found(self, job: Job[Any]) -> StoredJob:
        async def find() -> StoredJob | None:
            return await (await self.app.session.broker()).find(job.queue, job.id)

        found = self.app.session.run(find)
        assert found is not None
        return found

    def meta(self, job: Job[Any]) -> Meta:
        return read_meta(self.found(job).delivery.headers)

    def end(self, job: Job[Any], value: Any = None, failure: Failure | None = None, *, task: str | None = None) -> None:
        """Let a worker have finished `job`."""
        result = ResultRecord(
            id=job.id,
            state="succeeded" if failure is None else "dead",
            task=task or job.task,
            queue=job.queue,
            attempt=1,
            sequence=1,
            at=time.time(),
            value=Raw(msgspec.json.encode(value)),
            failure=failure,
        )

        async def settle() -> None:
            broker = await self.app.session.broker()
            await broker.put_result(result, 60.0)

        self.app.session.run(settle)

    def vanish(self, job: Job[Any]) -> None:
        """Let `job` be gone from its queue, as when a worker has settled it."""

        async def settle() -> None:
            broker = await self.app.session.broker()
            found = await broker.find(job.queue, job.id)
            assert found is not None
            broker.finish(found.delivery)

        self.app.session.run(settle)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """No app of other tests; and what a test defines is forgotten."""
    no_app_yet(monkeypatch)
    own_tasks(monkeypatch, and_those_of_others=True)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.app.session.close()


def add(x: int, y: int = 1) -> int:
    return x + y


def note(text: str) -> None: ...


def test_the_first_app_is_the_default_and_a_second_is_not() -> None:
    first, second = Jetq(), Jetq()
    assert default_app() is first is not second


def test_without_one_the_environment_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JETQ_NAMESPACE", "from-env")
    assert default_app() is default_app()
    assert default_app().settings.namespace == "from-env"


def test_the_first_app_after_the_environments_was_used_is_an_error() -> None:
    made = default_app()
    with pytest.raises(DefinitionError, match="before this first Jetq"):
        Jetq()
    assert default_app() is made


def test_an_unknown_setting_is_an_error_where_written() -> None:
    with pytest.raises(SettingsError, match="ack_wait"):
        Jetq(ack_wiat=3)  # type: ignore[call-arg]


def test_a_task_goes_to_the_running_jobs_app(world: World) -> None:
    other = World.__new__(World)
    other.store, other.faults, other.batches, other.records = MemoryStore(), {}, [], []
    other.app = other.adopt(Jetq())
    noted = task(note)
    context = JobContext(
        id="1", attempt=1, max_attempts=1, task="t", queue="q", enqueued_at=None, deadline=None, worker="w"  # type: ignore[arg-type]
    )  # fmt: skip
    token = CURRENT.set(Current(lambda: context, other.app))
    try:
        noted.delay("a")
    finally:
        CURRENT.reset(token)
    noted.delay("b")
    other.app.session.close()
    assert [record.body for record in other.records] == [b'{"text":"a"}']
    assert [record.body for record in world.records] == [b'{"text":"b"}']


def test_an_apps_own_task_goes_to_it(world: World) -> None:
    mine = Jetq()
    assert default_app() is world.app
    other = World.__new__(World)
    other.store, other.faults, other.batches, other.records = MemoryStore(), {}, [], []
    noted = other.adopt(mine).task(note)
    noted.delay("a")
    mine.session.close()
    assert len(other.records) == 1
    assert set(mine.tasks) - set(IMPORTED) == {noted.name}
    assert noted.name not in world.app.tasks


# --- what is stored


def test_a_plain_job_has_the_default_meta(world: World) -> None:
    job = task(add).delay(2, y=3)
    (record,) = world.records
    assert record.meta is DEFAULT_META
    assert (record.id, record.task, record.queue, record.body) == (job.id, job.task, "default", b'{"x":2,"y":3}')
    assert (job.status(), job.disposition) == ("queued", "new")


def test_options_travel_with_the_job(world: World) -> None:
    before = time.time()
    job = task(add).options(queue="slow", delay=timedelta(minutes=1), max_attempts=9, timeout=None).delay(2)
    assert (job.queue, job.status()) == ("slow", "scheduled")
    meta = world.meta(job)
    assert (meta.max_attempts, meta.timeout, meta.result_ttl) == (9, None, msgspec.UNSET)
    assert meta.enqueued is not None
    assert before <= meta.enqueued <= time.time()
    due = world.found(job).due
    assert due is not None
    assert meta.enqueued + 60 == pytest.approx(due)


def test_the_same_id_again_stores_nothing_new(world: World) -> None:
    added = task(add).options(id="once")
    assert [added.delay(1).disposition, added.delay(1).disposition] == ["new", "existing"]


def test_what_does_not_fit_is_not_sent(world: World) -> None:
    with pytest.raises(ArgumentError, match="y: expected int, got str"):
        task(add).delay(2, "three")  # type: ignore[arg-type]
    with pytest.raises(PayloadTooLarge, match="the limit is"):
        task(note).delay("x" * 2_000_000)
    assert not world.records


@pytest.mark.anyio
async def test_the_a_twins_use_the_running_loops_connection(world: World) -> None:
    job = await task(add).adelay(1)
    assert await job.astatus() == "queued"
    jobs = await task(name="again")(add).adelay_many([])
    assert jobs == []
    assert "jetq-session" not in {thread.name for thread in threading.enumerate()}
    await world.app.session.aclose()


# --- many at once


def test_many_are_stored_in_order_and_in_batches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["jetq.client.call"], "_BATCH", 10)
    added = task(add)
    pulled: list[int] = []

    def calls() -> Iterator[jetq.Call[int]]:
        for x in range(25):
            pulled.append(len(world.records))
            yield added.bind(x)

    jobs = added.delay_many(calls())
    assert [record.id for record in world.records] == [job.id for job in jobs]
    assert [record.body for record in world.records] == [b'{"x":%d}' % x for x in range(25)]
    assert world.batches == [10, 10, 5]
    assert pulled == [0] * 10 + [10] * 10 + [20] * 5


def test_a_generator_runs_on_the_callers_thread_and_may_enqueue(world: World) -> None:
    added = task(add)
    threads = set()

    def calls() -> Iterator[jetq.Call[int]]:
        threads.add(threading.current_thread())
        yield added.bind(int(added.delay(1).disposition == "existing") + 1)

    assert len(world.app.delay_many(calls())) == 1
    assert threads == {threading.current_thread()}


def test_each_call_keeps_its_own_due_time_and_options(world: World) -> None:
    added = task(add)
    now, later, slow = world.app.delay_many(
        [added.bind(1), added.options(delay=60).bind(2), added.options(queue="slow").bind(3)]
    )
    assert [now.status(), later.status(), slow.status()] == ["queued", "scheduled", "queued"]
    assert slow.queue == "slow"


def test_options_of_the_task_apply_to_the_calls(world: World) -> None:
    added = task(add)
    jobs = added.options(queue="bulk", delay=60).delay_many([added.bind(1), added.options(queue="own").bind(2)])
    assert [job.queue for job in jobs] == ["bulk", "own"]
    assert [job.status() for job in jobs] == ["scheduled", "scheduled"]
    with pytest.raises(DefinitionError, match="id names one job"):
        added.options(id="a").delay_many([added.bind(1)])


@pytest.mark.parametrize(
    ("faults", "kind"),
    [
        ({"j1": Rejected("no"), "j3": PayloadTooLarge("big")}, Rejected),
        ({"j1": Rejected("no"), "j3": NotStored("late")}, NotStored),
        ({"j0": BrokerUnavailable("gone")}, Rejected),
    ],
)
def test_those_that_are_not_stored_are_named(world: World, faults: dict[str, Exception], kind: type[Exception]) -> None:
    world.faults.update(faults)
    added = task(add)
    with pytest.raises(EnqueueError) as caught:
        added.delay_many(added.options(id=f"j{n}").bind(n) for n in range(5))
    assert type(caught.value) is kind
    assert caught.value.job_ids == tuple(faults)
    assert f"{len(faults)} jobs are not stored, or not surely, and {5 - len(faults)} are" in str(caught.value)
    assert caught.value.__cause__ is next(iter(faults.values()))


def test_a_later_batch_that_finds_no_broker_says_what_is_stored(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["jetq.client.call"], "_BATCH", 2)
    world.faults.update({"j2": BrokerUnavailable("gone"), "j3": BrokerUnavailable("gone")})
    added = task(add)
    with pytest.raises(EnqueueError, match="2 jobs are not stored, or not surely, and 2 are: gone") as caught:
        added.delay_many(added.options(id=f"j{n}").bind(n) for n in range(9))
    assert caught.value.job_ids == ("j2", "j3")


def test_none_stored_for_want_of_a_broker_is_just_that(world: World) -> None:
    async def down(*, patient: bool = False) -> Broker:
        raise BrokerUnavailable("nothing listens", hint="start it")

    world.app.session.connect = down
    with pytest.raises(BrokerUnavailable) as caught:
        task(add).delay_many([task(add).bind(1)])
    assert str(caught.value) == "nothing listens\nhint: start it"


# --- without the code


def test_send_needs_no_code(world: World) -> None:
    job = world.app.send("billing.charge", {"amount": 3}, queue="billing", delay=60)
    assert (job.task, job.queue, job.status()) == ("billing.charge", "billing", "scheduled")
    assert world.records[0].body == b'{"amount":3}'
    with pytest.raises(DefinitionError, match="task name"):
        world.app.send("billing charge", {})
    with pytest.raises(ArgumentError, match=r"billing\.charge: amount: cannot encode"):
        world.app.send("billing.charge", {"amount": threading.Lock()})
    assert len(world.records) == 1


def test_send_checks_what_it_knows(world: World) -> None:
    task(name="known", queue="own")(add)
    assert world.app.send("known", {"x": 1}).queue == "own"
    with pytest.raises(ArgumentError, match=r"known.*x: expected int, got str"):
        world.app.send("known", {"x": "a"})
    with pytest.raises(ArgumentError, match="unexpected argument 'z'"):
        world.app.send("known", {"x": 1, "z": 1})


# --- results


def test_a_result_arrives_as_annotated(world: World) -> None:
    def where(name: str) -> Path:
        return Path(name)

    located = task(name="where")(where)
    job = located.delay("a")
    threading.Timer(0.05, world.end, (job, "a")).start()
    assert job.result(timeout=5) == Path("a")
    assert job.status() == "queued"  # this worker stored the result and did not come to settle it

    assert world.app.job(job.id).result(timeout=5) == Path("a")


def test_a_foreign_result_is_json(world: World) -> None:
    job = world.app.send("elsewhere.f", {})
    world.end(job, {"a": [1]})
    assert job.result() == {"a": [1]}
    assert world.app.job(job.id).result() == {"a": [1]}


def test_no_result_is_told_at_once(world: World) -> None:
    job = task(note).delay("a")
    with pytest.raises(NoResult, match=r"stores no results\nhint: give it @task\(result_ttl=3600\).*job.wait"):
        job.result(timeout=60)
    kept = task(note).options(result_ttl=60).delay("a")
    world.end(kept, None)
    kept.result(timeout=5)


class Refused(Exception):
    """Known here."""


def test_what_the_task_raised_is_raised(world: World) -> None:
    job = task(add).delay(1)
    world.end(job, failure=Failure(type=f"{__name__}.Refused", message="no", traceback="Traceback ...", args=("no",)))
    with pytest.raises(Refused, match=r"^no$") as caught:
        job.result()
    assert "Traceback ..." in str(caught.value.__cause__)
    world.end(job, failure=Failure(type="elsewhere.Odd", message="hm"))
    with pytest.raises(TaskFailed, match=r"elsewhere\.Odd: hm"):
        job.result()


def test_a_result_of_another_type_is_told(world: World) -> None:
    job = task(add).delay(1)
    world.end(job, "text")
    with pytest.raises(ResultError, match=r"is not what .* is annotated to return"):
        job.result()


def test_a_job_that_takes_longer_says_where_it_is(world: World) -> None:
    job = task(add).delay(1)
    began = time.monotonic()
    with pytest.raises(ResultTimeout, match=rf"job {job.id} is still queued after 0.05 s"):
        job.result(timeout=0.05)
    assert time.monotonic() - began < 2


def test_waiting_where_no_worker_is_says_so_once(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("jetq.client.waiting._FIRST_LOOK", 0.01)
    monkeypatch.setattr("jetq.client.waiting._LOOK_EVERY", 0.02)
    job = task(add).delay(1)
    with caplog.at_level(logging.WARNING, "jetq.client"), pytest.raises(ResultTimeout):
        job.result(timeout=0.3)
    assert [record.message for record in caplog.records] == ["waiting: queue 'default' has no live worker"]


def test_a_result_that_is_gone_is_told_before_the_timeout(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jetq.client.waiting._FIRST_LOOK", 0.01)
    job = task(add).delay(1)
    world.vanish(job)
    with pytest.raises(ResultExpired, match="is gone, or it was purged: results of this task are kept for 3600 s"):
        job.result(timeout=60)
    with pytest.raises(JobNotFound, match="there is no such job, or it is done and its result is gone"):
        world.app.job(job.id).result(timeout=60)


def test_status_through_a_life(world: World) -> None:
    job = task(add).options(delay=60).delay(1)
    assert job.status() == "scheduled"
    world.vanish(job)
    assert job.status() == "succeeded"
    with pytest.raises(JobNotFound, match="it never was, or it is done and kept no result"):
        world.app.job(job.id).status()
    world.end(job, failure=Failure(type="x.Y", message=""))
    assert world.app.job(job.id).status() == "dead"


def test_handles_check_their_names(world: World) -> None:
    with pytest.raises(DefinitionError, match="job id"):
        world.app.job("a b")
    with pytest.raises(DefinitionError, match="queue"):
        world.app.job("a", queue="A.b")


def test_two_loops_in_sequence(world: World) -> None:
    added = task(add)
    for _ in range(2):
        assert asyncio.run(added.adelay(1)).queue == "default"
    assert len(world.records) == 2
