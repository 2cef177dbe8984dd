"""A queue's stream never begins with a job: what stands first in it stays, nobody gets it, and nobody counts it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from secrets import token_hex

import pytest

from jetq.jetstream import connect_broker
from jetq.jetstream.broker import JetStreamBroker
from jetq.jetstream.streams.subjects import Subjects
from jetq.model.job import Delivery, JobRecord
from jetq.model.names import new_job_id
from jetq.settings import Settings
from tests.apps.working import until
from tests.servers import NatsServerFactory

pytestmark = pytest.mark.anyio

QUEUE = "default"


class LetterRef:
    """A namespace of its own, and its brokers."""

    def __init__(self, url: str, **settings: object) -> None:
        self.settings = Settings(servers=(url,), namespace=f"t{token_hex(4)}", **settings)  # type: ignore[arg-type]
        self.names = Subjects(self.settings.namespace)
        self.brokers: list[JetStreamBroker] = []

    async def broker(self) -> JetStreamBroker:
        self.brokers.append(await connect_broker(self.settings, name="test"))
        return self.brokers[-1]

    async def enqueue(self, broker: JetStreamBroker) -> str:
        id = new_job_id()
        await broker.enqueue(JobRecord(id=id, task="tests.record", queue=QUEUE, body=b"{}"))
        return id

    async def stands(self) -> list[str]:
        """The subjects of all that stands, in order."""
        api, stream = self.brokers[0].api, self.names.jobs(QUEUE)
        info = await api.stream_info(stream)
        assert info is not None
        found = [await api.message(stream, n) for n in range(1, info["state"]["last_seq"] + 1)]
        return [each.subject for each in found if each is not None]


@pytest.fixture
async def place(nats_url: str) -> AsyncIterator[LetterRef]:
    place = LetterRef(nats_url)
    yield place
    for broker in place.brokers:
        await broker.close()


async def test_it_stands_before_the_first_job_and_after_the_last(place: LetterRef) -> None:
    """Guarantee: the server finds the next job without a look at all that wait, however few run at once."""
    broker = await place.broker()
    ids = [await place.enqueue(broker) for _ in range(3)]
    assert (await place.stands())[0] == place.names.first(QUEUE)
    got: list[Delivery] = []
    feed = await broker.feed(QUEUE, got.append)
    feed.ask(10)
    await until(lambda: len(got) == 3)
    for delivery in got:
        broker.finish(delivery)
    await broker.confirm()
    await feed.stop()
    assert [delivery.id for delivery in got] == ids
    assert await place.stands() == [place.names.first(QUEUE)]


async def test_nobody_counts_it(place: LetterRef) -> None:
    broker = await place.broker()
    await broker.setup(QUEUE)
    (info,) = await broker.queues()
    assert (info.ready, info.running, info.scheduled) == (0, 0, 0)
    assert await broker.schedules(QUEUE) == []
    assert await broker.stored_jobs(QUEUE) == []


async def test_there_is_one_and_another_where_it_was_purged(place: LetterRef) -> None:
    for _ in range(3):
        await place.enqueue(await place.broker())
    assert len(await place.stands()) == 4

    await place.brokers[0].api.request(f"STREAM.PURGE.{place.names.jobs(QUEUE)}")
    await place.enqueue(await place.broker())
    assert (await place.stands())[0] == place.names.first(QUEUE)


async def test_who_may_not_place_it_does_without(nats_server: NatsServerFactory) -> None:
    server = nats_server(
        'authorization { users: [ { user: bob, password: pw, permissions: { publish: { deny: "*.*.last.>" } } } ] }'
    )
    place = LetterRef(server.url, user="bob", password="pw")
    broker = await place.broker()
    await place.enqueue(broker)
    assert len(await place.stands()) == 1
    await broker.close()
