"""A queue that is removed while producers store: what was confirmed to one of them stands afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from jetq.errors import TopologyError
from jetq.jetstream import connect_broker
from jetq.jetstream.broker import JetStreamBroker
from jetq.jetstream.streams.api import ApiError
from jetq.model.job import EnqueueReceipt, JobRecord
from jetq.model.names import new_job_id
from jetq.settings import Settings
from tests.e2e.project import Project

pytestmark = pytest.mark.anyio

QUEUE = "mial"


def job(id: str | None = None) -> JobRecord:
    return JobRecord(id or new_job_id(), "tests.mail", QUEUE, b"{}", fresh=id is None)


async def two(url: str) -> tuple[JetStreamBroker, JetStreamBroker]:
    """Two brokers of one new namespace."""
    settings = Settings(servers=(url,), namespace=f"removed-{token_hex(4)}")
    brokers = await connect_broker(settings, name="one"), await connect_broker(settings, name="other")
    assert isinstance(brokers[0], JetStreamBroker) and isinstance(brokers[1], JetStreamBroker)
    return brokers


def before(broker: JetStreamBroker, request: str, act: Callable[[], Awaitable[Any]]) -> None:
    """Have `act` done before the broker's next request of the JetStream API whose name begins like that."""
    plain = broker.api.request

    async def asked(name: str, body: Any = None) -> dict[str, Any]:
        if name.startswith(request):
            broker.api.request = plain  # type: ignore[method-assign]
            await act()
        return await plain(name, body)

    broker.api.request = asked  # type: ignore[method-assign]


async def test_what_is_confirmed_to_producers_while_their_queue_is_removed_stands(nats_url: str) -> None:
    remover, producer = await two(nats_url)
    removed = 0
    for _ in range(5):
        await producer.setup(QUEUE)
        storing = [asyncio.create_task(producer.enqueue(job())) for _ in range(3)]
        removed += await remover.remove_queue(QUEUE)
        confirmed = [(await each).id for each in storing]
        assert sorted(found.delivery.id for found in await remover.stored_jobs(QUEUE)) == sorted(confirmed)
        await remover.purge(QUEUE)
    await remover.close()
    await producer.close()


async def test_a_job_that_comes_before_the_queue_is_closed_keeps_it(nats_url: str) -> None:
    remover, producer = await two(nats_url)
    await producer.setup(QUEUE)
    before(remover, "STREAM.UPDATE", lambda: producer.enqueue(job("early")))

    assert await remover.remove_queue(QUEUE) is False

    assert [found.delivery.id for found in await remover.stored_jobs(QUEUE)] == ["early"]
    assert await producer.setup(QUEUE) == ()
    assert (await producer.enqueue(job())).disposition == "new"
    await remover.close()
    await producer.close()


async def test_a_job_that_comes_after_it_is_closed_makes_it_anew(nats_url: str) -> None:
    remover, producer = await two(nats_url)
    await producer.setup(QUEUE)
    storing: list[asyncio.Task[EnqueueReceipt]] = []

    async def store() -> None:
        storing.append(asyncio.create_task(producer.enqueue(job("late"))))
        await asyncio.wait(storing, timeout=0.3)

    before(remover, f"STREAM.DELETE.{remover.subjects.jobs(QUEUE)}", store)

    assert await remover.remove_queue(QUEUE) is True

    assert (await storing[0]).disposition == "new"
    assert [found.delivery.id for found in await remover.stored_jobs(QUEUE)] == ["late"]
    await remover.close()
    await producer.close()


@pytest.mark.parametrize("holds", [False, True])
async def test_a_removal_that_was_cut_short_is_announced_and_ended_by_a_repeat(nats_url: str, holds: bool) -> None:
    remover, producer = await two(nats_url)
    await remover.setup(QUEUE)
    if holds:
        await remover.enqueue(job("held"))
    for stream, config in (await remover._own_streams(QUEUE)).items():
        await remover._close(QUEUE, stream, config)

    with pytest.raises(TopologyError) as caught:
        await producer.enqueue(job())
    assert "jetq queue rm" in (caught.value.hint or "")
    assert [info.name for info in await producer.queues()] == [QUEUE]

    assert await remover.remove_queue(QUEUE) is not holds

    await producer.enqueue(job("next"))
    standing = [found.delivery.id for found in await producer.stored_jobs(QUEUE)]
    assert standing == (["held", "next"] if holds else ["next"])
    assert await producer.setup(QUEUE) == ()
    assert (await producer.queues())[0].dead == 0
    await remover.close()
    await producer.close()


async def test_nobody_makes_a_stream_that_the_server_still_deletes(nats_url: str) -> None:
    """Guarantee: a queue that is made just after it was removed takes jobs: the server has let go of its files."""
    remover, producer = await two(nats_url)
    await remover.setup(QUEUE)
    assert await remover.remove_queue(QUEUE)
    names = remover.subjects
    deleted = names.removed(names.jobs(QUEUE))
    assert await remover.api.last_message(names.state, deleted) is not None

    await producer.enqueue(job())

    assert await remover.api.last_message(names.state, deleted) is None
    await remover.close()
    await producer.close()


async def test_a_consumer_that_the_server_still_deletes_is_made_anew(nats_url: str) -> None:
    """Guarantee: who finds the consumer gone makes it, also before the server has let go of the old one's files."""
    makers = await two(nats_url)
    names, api = makers[0].subjects, makers[1].api
    consumer = f"{names.jobs(QUEUE)}.{names.consumer(QUEUE, 'normal')}"
    await makers[0].setup(QUEUE)

    async def make(broker: JetStreamBroker) -> None:
        for _ in range(500):
            await broker.topology.queue(QUEUE)

    making = [asyncio.create_task(make(broker)) for broker in makers]
    while not all(task.done() for task in making):
        with suppress(ApiError):
            await api.request(f"CONSUMER.DELETE.{consumer}")
        await asyncio.sleep(0.002)
    await asyncio.gather(*making)

    assert await makers[0].setup(QUEUE) == ()
    for broker in makers:
        await broker.close()


async def test_a_stream_of_others_is_left_alone(nats_url: str) -> None:
    remover, producer = await two(nats_url)
    names = remover.subjects
    foreign = {"name": names.jobs(QUEUE), "subjects": names.job_subjects(QUEUE)}
    await producer.api.request(f"STREAM.CREATE.{names.jobs(QUEUE)}", foreign)

    with pytest.raises(TopologyError):
        await remover.remove_queue(QUEUE)

    assert await producer.api.stream_info(names.jobs(QUEUE)) is not None
    await remover.close()
    await producer.close()


# --- the command


TASKS = """
from jetq import task

@task(queue="mial", key="{x}", cron="0 9 * * *")
def mail(x: int = 1) -> None:
    pass
"""


def test_the_command_says_what_keeps_a_queue_and_removes_an_empty_one(nats_url: str, tmp_path: Path) -> None:
    project = Project(tmp_path, NATS_URL=nats_url, JETQ_NAMESPACE=f"removed-{token_hex(4)}")
    project.write("tasks.py", TASKS)

    missing = project.jetq("queue", "rm", "mial")
    assert (missing.returncode, "there is no queue mial" in missing.stderr) == (2, True)

    with project.running("worker", "tasks") as worker:
        worker.wait_for("ready")
        served = project.jetq("queue", "rm", "mial", "-y")
        assert (served.returncode, "is served by the worker" in served.stderr) == (1, True)

    assert project.jetq("call", "--no-wait", "tasks.mail", "1").returncode == 0
    full = project.jetq("queue", "rm", "mial", "-y")
    assert (full.returncode, "queue mial is not empty: 1 ready" in full.stderr) == (1, True), full.stderr
    assert "jetq queue purge mial" in full.stderr

    assert project.jetq("queue", "purge", "mial", "-y").returncode == 0
    asked = project.jetq("queue", "rm", "mial", input="n\n")
    assert (asked.returncode, "and its schedules tasks.mail for good?" in asked.stderr) == (1, True), asked.stderr
    assert "mial" in project.jetq("queue", "ls").stdout
    assert project.jetq("queue", "rm", "mial", input="y\n").stdout == "removed queue mial\n"
    assert "mial" not in project.jetq("queue", "ls").stdout
