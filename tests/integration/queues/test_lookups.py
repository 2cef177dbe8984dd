"""What the server is asked when somebody looks at queues: never to look through all that stands, however much it is."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from secrets import token_hex
from typing import Any

import pytest

from jetq.jetstream import connect_broker
from jetq.jetstream.broker import JetStreamBroker
from jetq.jetstream.streams.reading import each_message, matches
from jetq.jetstream.streams.subjects import Subjects
from jetq.model.dead_letter import DeadLetter
from jetq.model.failure import Failure
from jetq.model.job import Delivery, JobRecord
from jetq.model.names import key_token, keyed_id
from jetq.model.schedule import ScheduleRecord
from jetq.settings import Settings
from tests.apps.working import until

pytestmark = pytest.mark.anyio

QUEUE = "looked-at"
DRAINED, STANDING, DEAD = 400, 300, 60
AN_HOUR = 3600.0


def job(id: str, *, task: str = "tests.record", key: str | None = None) -> JobRecord:
    record = JobRecord(id=id, task=task, queue=QUEUE, body=b'{"id":"%s"}' % id.encode())
    if key is None:
        return record
    token = key_token(key)
    return JobRecord(id=keyed_id(id, token), task=task, queue=QUEUE, body=record.body, key=token)


def letter(delivery: Delivery) -> DeadLetter:
    return DeadLetter(
        id=delivery.id,
        task=delivery.task,
        queue=delivery.queue,
        key=delivery.key,
        reason="failed",
        failure=Failure(type="E", message="m"),
        attempt=1,
        at=1.0,
        enqueued=1.0,
        address=delivery.address,
        sequence=delivery.sequence,
    )


class Asked:
    """The requests that a broker sent to JetStream's API."""

    def __init__(self, broker: JetStreamBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests: list[tuple[str, dict[str, Any]]] = []
        connection = broker.connection
        request = connection.request

        async def noted(subject: str, payload: bytes = b"", **keywords: Any) -> Any:
            if subject.startswith("$JS.API.") and payload:
                self.requests.append((subject.removeprefix("$JS.API."), json.loads(payload)))
            return await request(subject, payload, **keywords)

        monkeypatch.setattr(connection, "request", noted)

    def of(self, word: str) -> list[tuple[str, dict[str, Any]]]:
        return [(subject, body) for subject, body in self.requests if word in body]


@pytest.fixture
async def broker(nats_url: str) -> AsyncIterator[JetStreamBroker]:
    broker = await connect_broker(Settings(servers=(nats_url,), namespace=f"t{token_hex(4)}"), name="test")
    yield broker
    await broker.close()


async def _work(broker: JetStreamBroker) -> None:
    """Let a queue be one that is in use: most of what was stored is done, some is dead, the rest stands."""
    await broker.enqueue_many([job(f"early-{n}") for n in range(5)], due=broker.now() + AN_HOUR)
    await broker.enqueue_many([job(f"done-{n}") for n in range(DRAINED)])
    got: list[Delivery] = []
    feed = await broker.feed(QUEUE, got.append)
    feed.ask(DRAINED)
    await until(lambda: len(got) == DRAINED, 30.0)
    for place, delivery in enumerate(got):
        if place < DEAD:
            await broker.store_dead(delivery, letter(delivery))
        broker.finish(delivery)
    await broker.confirm()
    await feed.stop()
    await broker.enqueue_many([job(f"stands-{n}", task=f"tests.t{n % 3}") for n in range(STANDING)])
    await broker.enqueue(job("keyed", key="k"), due=broker.now() + AN_HOUR)
    await broker.put_schedule(ScheduleRecord("nightly", QUEUE, "tests.t0", "0 0 3 * * *"), b"{}", 0)


def _is_wide(where: str) -> bool:
    """Whether a filter names neither an id nor a key."""
    return where.endswith(".>") or (where.split(".")[-1] == "*" and where.split(".")[-2] in ("*", "tests:t1"))


async def test_nobody_who_looks_has_the_server_look_through_all(
    broker: JetStreamBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee: a look at queues, jobs and dead letters holds up neither producers nor workers, however many stand."""
    await _work(broker)
    names = Subjects(broker.settings.namespace)
    first = {}
    for stream in (names.jobs(QUEUE), names.dead_letters(QUEUE)):
        info = await broker.api.stream_info(stream)
        assert info is not None
        first[stream] = info["state"]["first_seq"]
    asked = Asked(broker, monkeypatch)

    standing = [found.delivery.id for found in await broker.stored_jobs(QUEUE)]
    assert standing[:5] == [f"early-{n}" for n in range(5)]
    assert standing[5:-1] == [f"stands-{n}" for n in range(STANDING)]
    assert len(await broker.stored_jobs(QUEUE, limit=100)) == 100
    of_task = [found.delivery.id for found in await broker.stored_jobs(QUEUE, task="tests.t1")]
    assert of_task == [f"stands-{n}" for n in range(STANDING) if n % 3 == 1]
    assert len(await broker.stored_jobs(QUEUE, key=key_token("k"))) == 1
    assert await broker.overdue(QUEUE, 0) == ([], 0)
    assert [entry.letter.id for entry in await broker.dead(QUEUE)] == [f"done-{n}" for n in range(DEAD)]
    assert len(await broker.dead(QUEUE, id="done-7")) == 1
    assert [each.record.name for each in await broker.schedules(QUEUE)] == ["nightly"]
    assert await broker.find(QUEUE, "stands-7") is not None
    (queue,) = await broker.queues()
    assert (queue.ready, queue.scheduled, queue.dead) == (STANDING, 6, DEAD)
    survey = await broker.survey({QUEUE: "tests.t0"})
    assert [consumer.passed for consumer in survey.consumers] == [()]

    for subject, body in asked.of("next_by_subj"):
        stream = subject.rpartition(".")[2]
        if stream in first and _is_wide(body["next_by_subj"]):
            assert body["seq"] > first[stream], (subject, body)
    assert asked.of("batch") == asked.of("multi_last") == []
    kinds = {body["subjects_filter"].split(".")[2] for _, body in asked.of("subjects_filter")}
    assert kinds <= {"cron", "last"}
    assert len(asked.of("next_by_subj")) < (STANDING + DEAD) / 2  # the rest by sequence, several under way


@pytest.mark.parametrize("together", [1, 4, 32])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
async def test_what_stands_between_gaps_is_read_in_order(broker: JetStreamBroker, together: int, share: float) -> None:
    """Guarantee: whatever was removed before, beside and among them, all are read once."""
    await broker.setup(QUEUE)
    stream, where = broker.subjects.jobs(QUEUE), broker.subjects.jobs_of(QUEUE, "tests.a", None)
    chance = random.Random(f"{together} {share}")
    stored = await broker.enqueue_many([job(f"j-{n}", task=chance.choice(["tests.a", "tests.b"])) for n in range(150)])
    for each in stored:
        assert not isinstance(each, Exception)
        if chance.random() >= share:
            await broker.remove(QUEUE, each.sequence)
    left = [found for found in await broker.stored_jobs(QUEUE) if found.delivery.task == "tests.a"]
    sequences = [found.delivery.sequence for found in left]

    async def read(**which: Any) -> list[int]:
        return [each.sequence async for each in each_message(broker.api, stream, where, at_once=together, **which)]

    assert await read() == await read(surely=True) == sequences
    assert await read(limit=10) == sequences[:10]
    assert await read(after=70, until=100) == [each for each in sequences if 70 < each <= 100]


async def test_a_stream_that_begins_with_a_job_hides_none(broker: JetStreamBroker) -> None:
    """As one does that an earlier version made."""
    await broker.enqueue_many([job(f"j-{n}") for n in range(3)])
    await broker.api.purge(broker.subjects.jobs(QUEUE), broker.subjects.first(QUEUE))

    assert [found.delivery.id for found in await broker.stored_jobs(QUEUE)] == ["j-0", "j-1", "j-2"]
    assert [found.delivery.id for found in await broker.stored_jobs(QUEUE, limit=1)] == ["j-0"]


@pytest.mark.parametrize(
    ("where", "subject", "does"),
    [
        ("a.b", "a.b", True),
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", False),
        ("a.*", "a", False),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        ("*.>", "a.b", True),
        ("a.*.c", "a.b.d", False),
    ],
)
def test_a_filter_and_its_subjects(where: str, subject: str, does: bool) -> None:
    assert matches(where, subject) is does
