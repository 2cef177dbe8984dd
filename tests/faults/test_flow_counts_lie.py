"""Counts that say too much, that are lost, or whose stream is deleted while a workflow runs: it may end later, and each
of its members runs once, none of them early."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

import pytest
from msgspec import Struct

from jetq import Jetq, Work, each, group
from jetq.client.app import replaced_default
from jetq.model.workflows import names
from jetq.operations.workflows import creating, watching
from tests.apps import step_tasks
from tests.apps.harness import QUEUE
from tests.apps.ledger import Ledger
from tests.apps.step_tasks import double, number, total, upto
from tests.apps.working import fresh_app, share, tasks_of, working

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

ENDED_WITHIN = 90.0
"""Seconds."""


class Case(Struct, frozen=True):
    """A work whose last step is `join`. value: what it gives. half: how many tasks have begun when the counts begin to
    lie. after: how many of the tasks must have begun before `join` does."""

    work: Callable[[], Work[Any]]
    value: int
    half: int
    before: int
    counts: list[tuple[str, int | None]]
    """The counts: step, and page, or None for the count of pages."""


CASES = {
    "chord": Case(
        lambda: group(number.bind(n) for n in range(20)) | total, 190, half=10, before=20, counts=[("number", 0)]
    ),
    "columns": Case(
        lambda: group(number.bind(n) | double for n in range(10)) | total,
        90,
        half=7,
        before=20,
        counts=[("double", 0)],
    ),
    "pages": Case(
        lambda: (group(group(number.bind(n) for n in range(5)) | total for _ in range(4)) | total).named("join"),
        40,
        half=11,
        before=24,
        counts=[("number", page) for page in range(4)] + [("number", None), ("total", 0)],
    ),
    "large": Case(
        lambda: each(number, [1] * 1_001) | total,
        1_001,
        half=900,
        before=1_001,
        counts=[("number", 0), ("number", 1), ("number", None)],
    ),
    "window": Case(lambda: each(number, [1] * 60).window(6) | total, 60, half=20, before=60, counts=[("number", 0)]),
    "unknown": Case(
        lambda: each(double, upto.bind(12).out).window(4) | total,
        132,
        half=6,
        before=13,
        counts=[("double", 0)],
    ),
}


@pytest.fixture
async def app(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Jetq]:
    """An app whose watches come soon, and with the tasks of the works."""
    for module in (creating, watching):
        monkeypatch.setattr(module, "FIRST_TURN", 0.5)
    app = fresh_app(nats_url)
    share(app, *tasks_of(step_tasks))
    yield app
    await app.session.aclose()


Lie = Literal["too high", "lost", "deleted"]


@pytest.mark.parametrize("lie", ["too high", "lost", "deleted"])
@pytest.mark.parametrize("name", CASES)
async def test_counts_that_lie_delay_a_workflow_and_change_nothing(
    name: str, lie: Lie, app: Jetq, ledger: Ledger
) -> None:
    case = CASES[name]
    broker: Any = await app.session.broker()
    with replaced_default(app):
        flow = await case.work().adelay()
    (life,) = {job.delivery.id.partition(":")[0] for job in await broker.stored_jobs(QUEUE)}
    async with working(app, queues=[QUEUE], concurrency=2):
        await ledger.wait(lambda ledger: len(ledger.entries()) >= case.half, 60.0)
        await broker.pause(QUEUE)
        await _lie(broker, lie, life, case)
        await broker.resume(QUEUE)
        assert await flow.aresult(ENDED_WITHIN) == case.value
    runs = ledger.entries()
    ran = Counter(entry.id for entry in runs)
    assert set(ran.values()) == {1}
    assert len(ran) == case.before + 1
    assert ran[runs[-1].id] == 1 and runs[-1].event == "total"
    assert runs[-1].n == case.value


async def _lie(broker: Any, lie: Lie, life: str, case: Case) -> None:
    if lie == "too high":
        for step, page in case.counts:
            count = names.page_count(life, step) if page is None else names.count(life, step, page)
            await broker.count_up(count, 1_001)
    elif lie == "lost":
        assert await broker.purge_entries(names.counts(life)) > 0
    else:
        await broker.api.request(f"STREAM.DELETE.{broker.subjects.counts}")
