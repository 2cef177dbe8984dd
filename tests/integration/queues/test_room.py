"""Streams with a bound in bytes: for accounts that want it, and full ones, which refuse in words and drop nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import nats
import pytest

from jetq import Jetq, current_job
from jetq.broker import Broker
from jetq.errors import EnqueueError, Rejected, TopologyError
from jetq.operations.doctor.examination import examine
from tests.apps.working import fresh_app, working
from tests.servers import NatsServer, NatsServerFactory

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
BODY = "x" * 20_000
BOUND = """
accounts {
  A: {
    jetstream: { max_file: 20MB, max_bytes_required: true, max_streams: 0, max_consumers: 0 }
    users: [{ user: a, password: a }]
  }
  B: { jetstream: { max_mem: 10MB, max_file: 0 }, users: [{ user: b, password: b }] }
}
"""


@pytest.fixture
def bound(nats_server: NatsServerFactory) -> NatsServer:
    return nats_server(BOUND)


def url_of(server: NatsServer, user: str) -> str:
    return server.url.replace("nats://", f"nats://{user}:{user}@")


async def record(text: str) -> int:
    return len(text)


@asynccontextmanager
async def broker_of(app: Jetq) -> AsyncIterator[Broker]:
    try:
        yield await app.session.broker()
    finally:
        await app.session.aclose()


async def streams(url: str) -> dict[str, dict[str, Any]]:
    client = await nats.connect(url)
    found = json.loads((await client.request("$JS.API.STREAM.LIST", b"", timeout=5)).data)["streams"]
    await client.close()
    return {each["config"]["name"].partition("_")[2]: each for each in found or ()}


async def codes(app: Jetq) -> dict[str, str]:
    async with broker_of(app) as broker:
        report = await examine(broker, {"default": ["record"]}, replicas=1)
    return {finding.code: f"{finding.about}: {finding.message}" for finding in report.findings}


async def test_an_account_that_wants_bounds_is_told_apart_and_given_them(bound: NatsServer) -> None:
    url = url_of(bound, "a")
    without = fresh_app(url)
    async with broker_of(without) as broker:
        with pytest.raises(TopologyError, match="wants to be told of every stream how many bytes") as refused:
            await broker.setup("default")
    assert "JETQ_MAX_BYTES" in str(refused.value.hint)
    assert "no-max-bytes" in await codes(without)

    app = fresh_app(url, max_bytes=4 * MIB, state_max_bytes=MIB)
    task = app.task(name="record")(record)
    async with working(app, queues=["default"]):
        assert await (await task.adelay("abc")).aresult(timeout=60) == 3
    found = {kind: info["config"] for kind, info in (await streams(url)).items()}
    assert {kind: (each["max_bytes"], each["discard"]) for kind, each in found.items()} == {
        "DEFAULT_JOBS": (4 * MIB, "old"),
        "DEFAULT_DLQ": (4 * MIB, "new"),
        "JETQ_RESULTS": (4 * MIB, "old"),
        "JETQ_STATE": (MIB, "new"),
    }
    assert not {"no-max-bytes", "limit-reached", "drift", "stream-full"} & set(await codes(app))


async def test_doctor_knows_which_limits_of_0_are_none(bound: NatsServer) -> None:
    app = fresh_app(url_of(bound, "a"), max_bytes=MIB)
    async with broker_of(app) as broker:
        await broker.setup("default")
    assert "limit-reached" not in await codes(app)
    found = await codes(fresh_app(url_of(bound, "b")))
    assert found["storage-full"] == "storage of the account: it may store nothing"


async def fill(task: Any) -> list[Any]:
    """Enqueue until the queue is full."""
    jobs: list[Any] = []
    while True:
        try:
            jobs.append(await task.adelay(BODY))
        except Rejected as error:
            assert "is full: its jobs have" in error.message
            assert "max_bytes" in str(error.hint)
            assert error.job_ids
            return jobs


async def test_a_full_queue_refuses_new_jobs_and_its_own_are_retried_buried_and_run(nats_url: str) -> None:
    """Guarantee: a queue with max_bytes refuses an enqueue at once when it is full, and loses no job of its own."""
    app = fresh_app(nats_url, max_bytes=MIB, dead_letter_max_bytes=10 * MIB, result_max_bytes=10 * MIB)
    runs: dict[str, int] = {}

    async def once_more(text: str) -> int:
        id = current_job().id
        runs[id] = runs.get(id, 0) + 1
        if runs[id] == 1:
            raise ValueError("once more")
        if len(runs) % 3 == 0:
            raise LookupError("dead")
        return len(text)

    task = app.task(name="once_more", wait=0.1, max_attempts=2)(once_more)
    soon = [await task.options(delay=1).adelay(BODY) for _ in range(5)]
    jobs = soon + await fill(task)
    async with broker_of(app) as broker:
        (info,) = await broker.queues()
        assert info.ready + info.scheduled == len(jobs) >= 30
    assert (await codes(app))["stream-full"].endswith("new jobs are refused")
    with pytest.raises(Rejected, match="is full"):
        await asyncio.to_thread(task.delay, BODY)
    with pytest.raises(EnqueueError, match="2 jobs are not stored"):
        await task.adelay_many([task.bind(BODY), task.bind(BODY)])
    async with working(app, concurrency=20):
        async with asyncio.timeout(60):
            states = [await each.astatus() for each in jobs]
            while set(states) - {"succeeded", "dead"}:
                await asyncio.sleep(0.1)
                states = [await each.astatus() for each in jobs]
        assert set(runs) == {job.id for job in jobs}
        await task.adelay(BODY)
    assert "jobs-dropped" not in await codes(app)
    await asyncio.to_thread(app.session.close)


async def test_many_producers_at_once_do_not_overfill_it(nats_url: str) -> None:
    app = fresh_app(nats_url, max_bytes=4 * MIB)
    task = app.task(name="record")(record)
    others = [Jetq(nats_url, namespace=app.settings.namespace) for _ in range(11)]  # which do not know the setting
    tasks = [task, *(other.task(name="record")(record) for other in others)]
    await task.adelay(BODY)

    def produce(task: Any) -> list[Any]:
        async def all_of_it() -> list[Any]:
            return await fill(task)

        return asyncio.run(all_of_it())

    jobs = await asyncio.gather(*(asyncio.to_thread(produce, each) for each in tasks))
    async with broker_of(app) as broker:
        (info,) = await broker.queues()
        assert info.ready == sum(map(len, jobs)) + 1 >= 140
    assert "jobs-dropped" not in await codes(app)


async def test_many_at_once_are_refused_as_far_as_they_have_no_room(nats_url: str) -> None:
    app = fresh_app(nats_url, max_bytes=2 * MIB)
    task = app.task(name="record")(record)
    with pytest.raises(EnqueueError) as refused:
        await task.adelay_many([task.bind(BODY) for _ in range(400)])
    async with broker_of(app) as broker:
        (info,) = await broker.queues()
        assert info.ready == 400 - len(refused.value.job_ids) >= 40
    assert "jobs-dropped" not in await codes(app)


async def test_jobs_that_the_server_dropped_are_told_by_doctor(nats_url: str) -> None:
    app = fresh_app(nats_url, max_bytes=MIB)
    task = app.task(name="record")(record)
    await fill(task)
    client = await nats.connect(nats_url)
    for n in range(20):  # past jetq
        await client.request(f"{app.settings.namespace}.default.run.record.-.x{n}", BODY.encode(), timeout=5)
    await client.close()
    assert "jobs-dropped" in await codes(app)


async def test_anothers_consumer_in_jetqs_place_is_named(nats_url: str) -> None:
    app = fresh_app(nats_url)
    async with broker_of(app) as broker:
        await broker.setup("default")
    stream = f"{app.settings.namespace.upper()}_DEFAULT_JOBS"
    client = await nats.connect(nats_url)
    await client.request(f"$JS.API.CONSUMER.DELETE.{stream}.default", timeout=5)
    config = {"name": "debug", "durable_name": "debug", "ack_policy": "explicit", "deliver_policy": "all"}
    request = json.dumps({"stream_name": stream, "config": config, "action": "create"}).encode()
    await client.request(f"$JS.API.CONSUMER.CREATE.{stream}.debug", request, timeout=5)
    await client.close()
    async with broker_of(app) as broker:
        with pytest.raises(TopologyError, match=r"debug takes the same jobs") as refused:
            await broker.setup("default")
    assert f"nats consumer rm {stream} debug" in str(refused.value.hint)
    assert "debug stands in its place" in (await codes(app))["no-consumer"]


async def test_a_full_account_refuses_with_a_hint(nats_server: NatsServerFactory) -> None:
    server = nats_server("accounts { C: { jetstream: { max_file: 1MB }, users: [{ user: c, password: c }] } }")
    task = (app := fresh_app(url_of(server, "c"))).task(name="record")(record)
    with pytest.raises(Rejected, match="resource limits exceeded") as refused:
        for _ in range(100):
            await task.adelay(BODY)
    assert "more storage" in str(refused.value.hint)
    await app.session.aclose()
