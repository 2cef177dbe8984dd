"""The broker refuses, does not answer, or loses its answer at each call that a worker makes for a workflow, one after
another: each workflow ends with its value, and each member runs once.
"""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Literal

import pytest

from jetq import Jetq
from jetq.broker import Broker
from jetq.client.app import replaced_default
from jetq.errors import BrokerError, BrokerUnavailable, NotStored, Rejected
from jetq.model.job import JobRecord
from jetq.operations.workflows.creating import WATCH
from jetq.testing.faulty import Verb, faulty
from jetq.worker.attempts import settlement
from tests.apps import flow_tasks
from tests.apps.flow_tasks import WORKS, Expected
from tests.apps.harness import QUEUE
from tests.apps.ledger import Ledger
from tests.apps.working import fresh_app, share, tasks_of, working

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(280)]

Way = Literal["full", "lost", "away"]

_WRITES = ("write_entry", "send_entry", "write_entries", "count_up", "enqueue_many", "put_result", "store_dead")
_READS = ("read_entry", "standing_entries")
_VERBS: dict[Way, tuple[str, ...]] = {
    "full": _WRITES,  # the store has no room, and nothing is stored
    "lost": (*_WRITES, "drop_entry"),  # it is done, and nobody is told
    "away": _READS,
}


class _Fault:
    """A fault: call number `at` of certain verbs goes wrong in a `way`, counted from when it is set."""

    def __init__(self, way: Way) -> None:
        self.way: Way = way
        self.calls: list[str] = []
        self.at = 0

    def set(self, at: int) -> None:
        self.calls, self.at = [], at

    def __call__(self, broker: Broker, name: str, verb: Verb) -> Verb:
        if name not in _VERBS[self.way]:
            return verb
        if name == "send_entry":
            return functools.partial(self._send_entry, verb)

        @functools.wraps(verb)
        async def fails(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            if len(self.calls) != self.at:
                return await verb(*args, **kwargs)
            if self.way == "lost":
                await verb(*args, **kwargs)
            if name == "enqueue_many":
                jobs: Sequence[JobRecord] = args[0]
                return [self._error()] * len(jobs)
            raise self._error()

        return fails

    def _send_entry(
        self, verb: Verb, name: str, body: bytes, on_done: Callable[[object], None], **options: Any
    ) -> bool:
        self.calls.append("send_entry")
        if len(self.calls) != self.at:
            return bool(verb(name, body, on_done, **options))
        if self.way == "lost":
            return bool(verb(name, body, lambda _: on_done(self._error()), **options))
        asyncio.get_running_loop().call_soon(on_done, self._error())
        return True

    def _error(self) -> BrokerError:
        says = "a test made this call go wrong"
        kinds: dict[Way, type[BrokerError]] = {"full": Rejected, "lost": NotStored, "away": BrokerUnavailable}
        return kinds[self.way](says)


@pytest.mark.parametrize("way", ["full", "lost", "away"])
@pytest.mark.parametrize("name", ["columns", "unknown", "pages", "settled", "failing", "expired"])
async def test_a_call_that_goes_wrong_at_any_step_loses_nothing_and_doubles_nothing(
    name: str, way: Way, nats_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee: a store without room at any step delays a workflow, and changes nothing."""
    monkeypatch.setattr(settlement, "FIRST_BACKOFF", 0.05)
    expected, fault, app = WORKS[name], _Fault(way), fresh_app(nats_url, ack_wait=1.0)
    connect = app.session.connect

    async def connect_faulty(*, patient: bool = False) -> Broker:
        return faulty(await connect(patient=patient), [fault])

    app.session.connect = connect_faulty
    looking = Jetq(nats_url, namespace=app.settings.namespace, ack_wait=1.0)  # without the fault
    share(app, *tasks_of(flow_tasks))
    async with working(app, queues=[QUEUE]), aclosing(looking.session):
        ledger = _ledger(tmp_path, 0, monkeypatch)
        await _run(looking, expected, ledger, fault, 0)
        calls = list(fault.calls)
        assert len(calls) > len(expected.runs)
        for at in range(1, len(calls) + 1):
            where = f"{calls[at - 1]}, call {at}"
            ledger = _ledger(tmp_path, at, monkeypatch)
            await _run(looking, expected, ledger, fault, at, where)
            ran = Counter((entry.event, entry.n) for entry in ledger.entries())
            assert ran == expected.runs, where
        broker = await looking.session.broker()
        letters = Counter(entry.letter.id for entry in await broker.dead(QUEUE))
        assert letters.total() == len(letters) == expected.letters * (len(calls) + 1)


def _ledger(directory: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    ledger = Ledger(directory / f"ledger-{at}")
    monkeypatch.setenv("JETQ_TEST_LEDGER", str(ledger.path))
    return ledger


async def _run(app: Jetq, expected: Expected, ledger: Ledger, fault: _Fault, at: int, where: str = "") -> None:
    """Store the workflow and let it run to its end, with the fault set meanwhile."""
    broker = await app.session.broker()
    await broker.pause(QUEUE)
    with replaced_default(app):
        flow = await expected.work().adelay(id=f"flow-{at}")
    fault.set(at)
    await broker.resume(QUEUE)
    try:
        async with asyncio.timeout(10):
            while await flow.astatus() != expected.state or await _works(app):
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not over: {where}, {await flow.astatus()}, {await _works(app)}") from None
    if expected.state == "succeeded":
        assert await flow.aresult(1) == expected.value, where


async def _works(app: Jetq) -> list[str]:
    """The jobs that stand in the queue and are no watch."""
    broker = await app.session.broker()
    return [job.delivery.id for job in await broker.stored_jobs(QUEUE) if job.delivery.task != WATCH]
