"""Workflows of every shape, on a server, sealed, and in memory: each gives its value, and each member runs once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

import pytest

from jetq import EncryptedPayloads, Failure, Jetq, SignedPayloads, Work, each, group, task
from jetq.testing import in_memory
from tests.apps.fresh import no_app_yet, own_tasks
from tests.apps.working import fresh_app, working

pytestmark = pytest.mark.anyio

runs: Counter[str] = Counter()


class Tasks:
    number: Any
    double: Any
    total: Any
    upto: Any
    join: Any
    fails: Any
    show: Any


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Tasks]]:
    own_tasks(monkeypatch)
    runs.clear()

    async def number(n: int) -> int:
        runs["number"] += 1
        return n

    async def double(n: int, times: int = 2) -> int:
        runs["double"] += 1
        return n * times

    async def total(numbers: list[int], title: str = "") -> int:
        runs["total"] += 1
        return sum(numbers)

    async def upto(n: int) -> list[int]:
        runs["upto"] += 1
        return list(range(n))

    async def join(parts: list[Any]) -> list[Any]:
        runs["join"] += 1
        return parts

    async def fails(n: int) -> int:
        runs["fails"] += 1
        raise ValueError(f"no {n}")

    async def show(text: str) -> None:
        runs[f"show {text}"] += 1

    for fn in (number, double, total, upto, join, fails, show):
        setattr(Tasks, fn.__name__, task(name=f"tests.{fn.__name__}", max_attempts=1)(fn))
    yield Tasks


KEYS = {"now": b"1" * 32}


@pytest.fixture(params=["server", "signed", "encrypted", "memory"])
def app(request: pytest.FixtureRequest, nats_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jetq]:
    no_app_yet(monkeypatch)
    match request.param:
        case "server":
            yield fresh_app(nats_url)
        case "signed":
            yield fresh_app(nats_url, payloads=SignedPayloads(KEYS))
        case "encrypted":
            yield fresh_app(nats_url, payloads=EncryptedPayloads(KEYS))
        case _:
            with in_memory() as tester:
                yield tester.app


async def value(app: Jetq, work: Work[Any]) -> Any:
    async with working(app):
        return await (await work.adelay()).aresult(20)


async def test_a_chain(app: Jetq, tasks: type[Tasks]) -> None:
    assert await value(app, tasks.number.bind(3) | tasks.double | tasks.double) == 12
    assert runs == {"number": 1, "double": 2}


async def test_a_chord(app: Jetq, tasks: type[Tasks]) -> None:
    assert await value(app, group(tasks.number.bind(n) | tasks.double for n in range(10)) | tasks.total) == 90
    assert runs == {"number": 10, "double": 10, "total": 1}


async def test_a_group_alone_gives_the_list(app: Jetq, tasks: type[Tasks]) -> None:
    assert await value(app, group(tasks.number.bind(n) for n in range(5))) == [0, 1, 2, 3, 4]


async def test_groups_in_a_group(app: Jetq, tasks: type[Tasks]) -> None:
    inner = (group(tasks.number.bind(n) for n in range(size)) | tasks.total for size in (0, 1, 4))
    assert await value(app, group(inner) | tasks.join) == [0, 0, 6]
    assert runs == {"number": 5, "total": 3, "join": 1}


@pytest.mark.parametrize("size", [0, 1, 7])
async def test_a_fan_out_of_unknown_size(app: Jetq, tasks: type[Tasks], size: int) -> None:
    work = each(tasks.double, tasks.upto.bind(size).out, times=3) | tasks.join
    assert await value(app, work) == [3 * n for n in range(size)]
    assert runs["double"] == size and runs["join"] == 1


async def test_any_graph(app: Jetq, tasks: type[Tasks]) -> None:
    a, b = tasks.number.bind(1), tasks.number.bind(2)
    c = tasks.double.bind(b.after(a).out)
    assert await value(app, tasks.total.bind([a.out, b.out, c.out, 10], title="x").named("end")) == 17


async def test_an_empty_group(app: Jetq, tasks: type[Tasks]) -> None:
    assert await value(app, group(cast("list[Work[int]]", [])) | tasks.total) == 0


async def test_settled(app: Jetq, tasks: type[Tasks]) -> None:
    works = [tasks.number.bind(1), tasks.fails.bind(2) | tasks.double, tasks.number.bind(3)]
    first, second, third = await value(app, group(works).settled())
    assert (first, third) == (1, 3)
    assert isinstance(second, Failure)
    assert "no 2" in second.message


async def test_or_else(app: Jetq, tasks: type[Tasks]) -> None:
    assert await value(app, (tasks.fails.bind(2) | tasks.double).or_else(7) | tasks.double) == 14


async def test_failure_and_callbacks(app: Jetq, tasks: type[Tasks]) -> None:
    work = (tasks.fails.bind(2) | tasks.double).on_failure(tasks.show.bind("f")).finally_(tasks.show.bind("e"))
    async with working(app):
        flow = await work.adelay()
        with pytest.raises(Exception, match="no 2"):
            await flow.aresult(20)
        async with asyncio.timeout(10):
            while runs["show f"] < 1 or runs["show e"] < 1:
                await asyncio.sleep(0.02)
        assert await flow.astatus() == "failed"
    assert runs == {"fails": 1, "show f": 1, "show e": 1}


async def test_finally_after_success(app: Jetq, tasks: type[Tasks]) -> None:
    work = tasks.number.bind(2).on_failure(tasks.show.bind("f")).finally_(tasks.show.bind("e"))
    async with working(app):
        flow = await work.adelay()
        assert await flow.aresult(20) == 2
        async with asyncio.timeout(10):
            while runs["show e"] < 1:
                await asyncio.sleep(0.02)
    assert runs == {"number": 1, "show e": 1}


async def test_each_with_more_members_than_a_page(app: Jetq, tasks: type[Tasks]) -> None:
    assert await value(app, each(tasks.number, range(1_001)) | tasks.total) == sum(range(1_001))
    assert runs == {"number": 1_001, "total": 1}


async def test_a_window_bounds_what_is_in_the_queue(app: Jetq, tasks: type[Tasks]) -> None:
    """Looked at by the members themselves: how many of them are stored, waiting or running."""
    most = 0
    broker = await app.session.broker()

    async def look(n: int) -> int:
        nonlocal most
        (info,) = [each for each in await broker.queues() if each.name == "narrow"]
        most = max(most, info.ready + info.running)
        return n

    looks = task(name="tests.look", queue="narrow")(look)
    async with working(app, concurrency=5):
        flow = await (each(looks, range(200)).window(10) | tasks.total).adelay()
        assert await flow.aresult(20) == sum(range(200))
    assert 1 <= most <= 10 + 2 * 5  # those that have left their mark are there until they are settled
