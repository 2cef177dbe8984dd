"""Jobs that some workers of a queue cannot run go to the one that can, at once and untouched."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import nats
import pytest

from jetq import Jetq, NewerVersion, Worker
from jetq.encoding import headers
from jetq.encoding.headers import OFF_HEADER, Off, off_headers, read_off
from jetq.model.job import JobRecord, Meta, StoredJob
from jetq.model.outcome import Needs
from jetq.operations.dead_letters import Replay, refs_of, replay
from tests.apps.working import fresh_app, until, until_state, working

pytestmark = pytest.mark.anyio


def sibling(app: Jetq, url: str) -> Jetq:
    return Jetq(url, namespace=app.settings.namespace)


def old_app(app: Jetq, url: str) -> Jetq:
    """Code that knows `known(n)` only."""
    old = sibling(app, url)

    @old.task(name="known")
    async def known(n: int) -> int:
        return n

    return old


def new_app(app: Jetq, url: str, ran: list[Any]) -> Jetq:
    """Code that knows `known(n, more)` and `fresh(n)`."""
    new = sibling(app, url)

    @new.task(name="known")
    async def known(n: int, more: str = "") -> int:
        ran.append((n, more))
        return n

    @new.task(name="fresh")
    async def fresh(n: int) -> int:
        ran.append(n)
        return n

    return new


@asynccontextmanager
async def workers(*apps: Jetq, **options: Any) -> AsyncIterator[list[Worker]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(working(app, queues=["default"], **options)) for app in apps]


async def until_put_off(app: Jetq, *ids: str) -> list[StoredJob]:
    """Until each of these jobs stands as put off."""
    broker = await app.session.broker()
    found: list[StoredJob] = []
    async with asyncio.timeout(30):
        for id in ids:
            while (each := await broker.find("default", id)) is None or OFF_HEADER not in each.delivery.headers:
                await asyncio.sleep(0.02)
            found.append(each)
    return found


@pytest.mark.parametrize("task", ["fresh", "known"])
async def test_new_jobs_go_to_the_one_new_worker_among_old_ones(task: str, nats_url: str) -> None:
    """Guarantee: however many workers cannot run a job, one that can gets it in a moment."""
    app = fresh_app(nats_url)
    ran: list[Any] = []
    async with workers(*(old_app(app, nats_url) for _ in range(4)), new_app(app, nats_url, ran)):
        more = {} if task == "fresh" else {"more": "x"}
        for n in range(30):
            await app.asend(task, {"n": n, **more}, queue="default")
        await until(lambda: len(ran) >= 30)
    assert sorted(ran) == (list(range(30)) if task == "fresh" else [(n, "x") for n in range(30)])
    await app.session.aclose()


LONG = 3600.0


async def put_off_for_long(app: Jetq, id: str, needs: Needs, body: bytes) -> None:
    """As a worker leaves it that cannot run it, but for the time at which it comes by itself."""
    broker = await app.session.broker()
    await broker.setup("default")
    job = JobRecord(id, needs.task, "default", body, meta=Meta(enqueued=1.0), as_is=off_headers({}, Off(since=1.0)))
    await broker.enqueue(job, due=time.time() + LONG)
    await broker.write_cell(f"off.default.{id}", msgspec.json.encode(needs), ttl=LONG)


async def test_a_worker_that_starts_later_takes_what_was_put_off(nats_url: str) -> None:
    app = fresh_app(nats_url)
    ran: list[Any] = []
    await put_off_for_long(app, "a", Needs("fresh"), b'{"n":1}')
    await put_off_for_long(app, "b", Needs("known", arguments=("more",)), b'{"n":2,"more":"x"}')
    await put_off_for_long(app, "c", Needs("nobodys"), b"{}")
    async with workers(old_app(app, nats_url), new_app(app, nats_url, ran)):
        await until(lambda: len(ran) >= 2)
        broker = await app.session.broker()
        found = await broker.find("default", "c")
        assert found is not None and found.due is not None and found.due > time.time() + LONG / 2
    assert sorted(ran, key=str) == [(2, "x"), 1]
    await app.session.aclose()


async def test_a_worker_warns_of_a_job_that_its_code_cannot_run_and_says_why(
    nats_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = fresh_app(nats_url)
    async with workers(old_app(app, nats_url)):
        unknown = await app.asend("shop.nobodys", {}, queue="default")
        lacking = await app.asend("known", {"n": 1, "more": "x"}, queue="default")
        await until_put_off(app, unknown.id, lacking.id)
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert {text.partition("; ")[0] for text in said} == {
        f"shop.nobodys {unknown.id}: this worker does not know its task, which nothing it imports defines",
        f"known {lacking.id}: this worker has its task without the arguments 'more'",
    }
    assert all("the job is put off for one that can run it, for " in text for text in said)
    await app.session.aclose()


async def test_a_full_worker_calls_them_up_as_it_has_room(nats_url: str) -> None:
    app = fresh_app(nats_url)
    ran: list[Any] = []
    new = new_app(app, nats_url, ran)
    go, running = asyncio.Event(), []

    @new.task(name="holds")
    async def holds(n: int) -> None:
        running.append(n)
        assert len(running) == 1, "more than it has slots"
        await go.wait()
        running.remove(n)
        ran.append(n)

    async with workers(new, concurrency=1), workers(*(old_app(app, nats_url) for _ in range(2))):
        jobs = [await app.asend("holds", {"n": n}, queue="default") for n in range(8)]
        await until(lambda: running)
        held = running[0]
        await until_put_off(app, *(job.id for n, job in enumerate(jobs) if n != held))
        go.set()
        await until(lambda: len(ran) >= 8, timeout=60.0)
    assert sorted(ran) == list(range(8))
    await app.session.aclose()


async def test_a_job_that_was_handed_over_is_kept_by_its_new_holder(nats_url: str) -> None:
    """Guarantee: it runs once however long it takes: its lease is the new holder's to renew."""
    app = fresh_app(nats_url, ack_wait=1.0)
    ran: list[Any] = []
    new = new_app(app, nats_url, ran)

    @new.task(name="long")
    async def long(n: int) -> None:
        ran.append(n)
        await asyncio.sleep(2.5)

    async with workers(*(old_app(app, nats_url) for _ in range(4)), new):
        jobs = [await app.asend("long", {"n": n}, queue="default") for n in range(12)]
        await until(lambda: len(ran) >= 12)
        broker = await app.session.broker()
        async with asyncio.timeout(30):
            for job in jobs:
                while await broker.find("default", job.id) is not None:
                    await asyncio.sleep(0.05)
    assert sorted(ran) == list(range(12))
    await app.session.aclose()


NEWER = '{"v": 3,  "compensates": [{"a":1}], "attempt": "of another kind"}'


async def test_a_job_of_a_newer_wire_version_waits_untouched_for_a_worker_that_reads_it(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee: header and body go through each pause byte for byte; who cannot read them changes nothing."""
    app = fresh_app(nats_url)
    ran: list[Any] = []
    broker = await app.session.broker()
    await broker.setup("default")
    client = await nats.connect(nats_url)
    body = b'{ "n": 5 }'
    subject = f"{app.settings.namespace}.default.run.fresh.-.newer"
    await client.jetstream().publish(subject, body, headers={"Jetq": NEWER, "Trace": "abc", "Nats-Msg-Id": "newer"})
    await client.close()
    async with workers(old_app(app, nats_url), new_app(app, nats_url, ran)):
        (found,) = await until_put_off(app, "newer")
        async with asyncio.timeout(30):  # once more
            while read_off(found.delivery.headers).looks < 2:
                (found,) = await until_put_off(app, "newer")
                await asyncio.sleep(0.05)
        stored = found.delivery.headers
        assert (stored["Jetq"], stored["Trace"], found.delivery.body) == (NEWER, "abc", body)
        job = app.job("newer", queue="default")
        assert await job.astatus() == "scheduled"
        with pytest.raises(NewerVersion, match="version 3"):
            await job.areschedule(delay=60)
        assert not ran
    monkeypatch.setattr(headers, "WIRE_VERSION", 3)
    monkeypatch.setattr(headers, "_decode_meta", lambda text: Meta(v=3))
    monkeypatch.setattr(headers, "with_others", lambda meta, text: meta)
    async with workers(new_app(app, nats_url, ran)):
        await until(lambda: ran)
    assert ran == [5]
    await app.session.aclose()


@pytest.mark.parametrize(
    ("reason", "headers", "task", "body"),
    [
        ("undecodable", {"Jetq": NEWER}, "known", b'{"n":1}'),
        ("unknown-task", {}, "fresh", b'{"n":1}'),
        ("bad-arguments", {}, "known", b'{"n":1,"more":"x"}'),
    ],
)
async def test_what_no_worker_can_run_is_dead_after_a_while_with_its_bytes(
    reason: str, headers: dict[str, str], task: str, body: bytes, nats_url: str, impatient: None
) -> None:
    app = fresh_app(nats_url)
    broker = await app.session.broker()
    await broker.setup("default")
    client = await nats.connect(nats_url)
    await client.jetstream().publish(f"{app.settings.namespace}.default.run.{task}.-.x", body, headers=headers)
    await client.close()
    async with workers(old_app(app, nats_url), old_app(app, nats_url)):
        await until_put_off(app, "x")
        async with asyncio.timeout(30):
            while not (dead := await broker.dead("default")):
                await asyncio.sleep(0.05)
    (entry,) = dead
    assert (entry.letter.reason, entry.body) == (reason, body)
    assert entry.letter.headers.items() >= headers.items()
    if "Jetq" in headers:
        with pytest.raises(NewerVersion):
            await replay(broker, [entry])
        work = Replay(broker, await refs_of(broker))
        await work.run(lambda _: None)
        assert (work.replayed, work.newer) == (0, ["x"])
        assert len(await broker.dead("default")) == 1
    else:
        assert await replay(broker, [entry]) == (1, [])
        found = await broker.find("default", "x")
        assert found is not None and OFF_HEADER not in found.delivery.headers
    await app.session.aclose()


async def test_wrong_values_are_dead_at_once(nats_url: str) -> None:
    app = fresh_app(nats_url)
    async with workers(old_app(app, nats_url)):
        broker = await app.session.broker()
        await app.asend("known", {"n": "three"}, queue="default")
        await until_dead(app)
        (entry,) = await broker.dead("default")
    assert entry.letter.reason == "bad-arguments"
    await app.session.aclose()


async def until_dead(app: Jetq) -> None:
    broker = await app.session.broker()
    async with asyncio.timeout(30):
        while not await broker.dead("default"):
            await asyncio.sleep(0.05)


async def test_a_job_that_was_put_off_keeps_its_place_and_can_be_cancelled_and_expires(nats_url: str) -> None:
    app = fresh_app(nats_url)
    new = new_app(app, nats_url, [])
    async with workers(old_app(app, nats_url)):
        job = await new.tasks["fresh"].options(key="k").adelay(1)
        await until_put_off(app, job.id)
        again = await new.tasks["fresh"].options(key="k").adelay(2)
        assert (again.id, again.disposition) == (job.id, "existing")
        assert await job.acancel() == "removed"
        assert await job.astatus() == "cancelled"
        late = await new.tasks["fresh"].options(expires=1).adelay(3)
        await until_state(late, "expired")
    await new.session.aclose()
    await app.session.aclose()
