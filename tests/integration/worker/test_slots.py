"""A slot is for a job's code: what it has returned is stored beside the next job, and not without bound."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from jetq import Jetq
from jetq.errors import BrokerError
from jetq.jetstream.streams.subjects import Subjects
from jetq.model.result import ResultRecord
from tests.apps.full_store import full_stream
from tests.apps.staying import stays_so_for
from tests.apps.working import fresh_app, settled, until, working

pytestmark = pytest.mark.anyio

SLOTS = 2
JOBS = 3 * SLOTS

Told = Callable[[BrokerError | None], None]


def answering(app: Jetq) -> list[int]:
    """Define a task whose result is kept. Its runs are written down."""
    ran: list[int] = []

    @app.task(name="t.answer", result_ttl=60)
    async def answer(n: int) -> int:
        ran.append(n)
        return n

    return ran


async def send(app: Jetq) -> None:
    for n in range(JOBS):
        await app.tasks["t.answer"].options(id=f"job{n}").adelay(n)


async def all_have_run_once(app: Jetq, ran: list[int]) -> None:
    """Each is gone, and has its result."""
    await settled(app)
    assert sorted(ran) == list(range(JOBS))
    assert [await app.job(f"job{n}").aresult() for n in range(JOBS)] == list(range(JOBS))


class SlowAnswers:
    """Keeps back what the broker answers to results, until `let_go`."""

    def __init__(self, send: Callable[[ResultRecord, float, Told], bool]) -> None:
        self._send = send
        self._kept: list[Callable[[], None]] = []
        self._keeping = True

    def send_result(self, result: ResultRecord, ttl: float, told: Told) -> bool:
        def answered(error: BrokerError | None) -> None:
            if self._keeping:
                self._kept.append(partial(told, error))
            else:
                told(error)

        return self._send(result, ttl, answered)

    def let_go(self) -> None:
        self._keeping = False
        for tell in self._kept:
            tell()


async def slow(app: Jetq, monkeypatch: pytest.MonkeyPatch) -> SlowAnswers:
    broker = await app.session.broker()
    answers = SlowAnswers(broker.send_result)
    monkeypatch.setattr(broker, "send_result", answers.send_result)
    return answers


async def test_while_results_are_being_stored_as_many_jobs_again_are_run(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = fresh_app(nats_url)
    ran = answering(app)
    answers = await slow(app, monkeypatch)
    async with working(app, concurrency=SLOTS):
        await send(app)
        await until(lambda: len(ran) == 2 * SLOTS)
        # Else there are more outcomes to be stored than slots.
        await stays_so_for(0.3, lambda: len(ran) == 2 * SLOTS)
        answers.let_go()
        await all_have_run_once(app, ran)


async def test_a_result_that_is_refused_keeps_its_slot_until_there_is_room(
    nats_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = fresh_app(nats_url)
    ran = answering(app)
    broker = await app.session.broker()
    await broker.setup("default")
    async with working(app, concurrency=SLOTS):
        async with full_stream(nats_url, Subjects(app.settings.namespace).results):
            await send(app)
            await until(lambda: caplog.text.count("is not settled yet") >= 2)
            assert len(ran) <= 2 * SLOTS
            assert "its result is not stored yet" in caplog.text
        await all_have_run_once(app, ran)


async def test_a_worker_that_stops_waits_until_results_are_stored(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = fresh_app(nats_url)
    ran = answering(app)
    answers = await slow(app, monkeypatch)
    async with working(app, concurrency=JOBS) as worker:
        await send(app)
        await until(lambda: len(ran) == JOBS)
        worker.stop()
        await stays_so_for(0.3, lambda: worker.running == JOBS)
        answers.let_go()
    await all_have_run_once(app, ran)
