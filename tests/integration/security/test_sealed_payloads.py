"""Sealed payloads on a real server: nothing of them is readable there, and nothing else is taken for them."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from jetq import (
    BadPayload,
    EncryptedPayloads,
    Jetq,
    PayloadCodec,
    Reject,
    Retry,
    Schedule,
    SignedPayloads,
    Task,
    current_job,
)
from jetq.client.declared_schedules import definitions
from jetq.encoding.sealing import key_of
from jetq.model.dead_letter import DeadEntry
from jetq.operations.dead_letters import find_dead, replay
from jetq.operations.schedules import put_schedule, run_schedule
from tests.apps import process_tasks
from tests.apps.working import fresh_app, share, tasks_of, until, working

pytestmark = pytest.mark.anyio

K1, K2 = b"1" * 32, b"2" * 32
CANARY = "canary4711"


def _encrypted(**keys: bytes) -> EncryptedPayloads:
    return EncryptedPayloads(keys or {"k1": K1})


def _twin(app: Jetq, payloads: PayloadCodec | None, *tasks: Task[..., Any]) -> Jetq:
    """Another app on the same queues."""
    other = Jetq(app.settings.servers, namespace=app.settings.namespace, payloads=payloads)
    share(other, *tasks)
    return other


async def _dead(app: Jetq, count: int = 1) -> list[DeadEntry]:
    broker = await app.session.broker()
    async with asyncio.timeout(20):
        while len(entries := list(await broker.dead("default"))) < count:
            await asyncio.sleep(0.02)
    return entries


async def _streams(client: Client, namespace: str) -> list[dict[str, Any]]:
    """The streams of a namespace; at least one. Asked for by subject: of all streams a server lists 256 at a time."""
    request = json.dumps({"subject": f"{namespace}.>"}).encode()
    found: list[dict[str, Any]] = json.loads((await client.request("$JS.API.STREAM.LIST", request)).data)["streams"]
    return found


@asynccontextmanager
async def _overheard(url: str, namespace: str) -> AsyncIterator[list[bytes]]:
    """All that is published in a namespace meanwhile, headers and subjects too, and then all its streams hold."""
    heard: list[bytes] = []

    async def listen(msg: Msg) -> None:
        heard.append(f"{msg.subject} {msg.headers}".encode() + msg.data)

    client = await nats.connect(url)
    await client.subscribe(f"{namespace}.>", cb=listen)
    await client.flush()
    try:
        yield heard
        await client.flush()
        js = client.jetstream()
        for stream in await _streams(client, namespace):
            name = str(stream["config"]["name"])
            for sequence in range(1, stream["state"]["last_seq"] + 1):
                try:
                    stored = await js.get_msg(name, sequence)
                except NotFoundError:
                    continue
                heard.append(f"{stored.subject} {stored.headers}".encode() + (stored.data or b""))
    finally:
        await client.close()


async def test_nothing_of_a_job_can_be_read_in_the_broker_in_all_its_life(nats_url: str) -> None:
    """Guarantee: of what is encrypted, the broker sees no clear text: not of arguments, results, retries, schedules or
    dead letters."""
    app = fresh_app(nats_url, payloads=_encrypted())
    seen: list[tuple[str, str, int]] = []
    allowed = False

    @app.task(
        name="pays",
        wait=0.0,
        schedules=[Schedule(every=3600, arguments={"card": CANARY, "how": "returns"})],
    )
    async def pays(card: str, how: str) -> str:
        seen.append((how, card, current_job().attempt))
        if how == "retries" and card == CANARY:
            raise Retry(0.0, arguments={"card": CANARY + "-again"})
        if how == "dies" and not allowed:
            raise Reject("not now")
        return card * 2

    async with _overheard(nats_url, app.settings.namespace) as heard, working(app):
        assert await (await pays.adelay(CANARY, "returns")).aresult() == CANARY * 2
        assert await (await pays.adelay(CANARY, "retries")).aresult() == (CANARY + "-again") * 2
        later = await pays.options(delay=1.0).adelay(CANARY, "later")
        assert await later.aresult() == CANARY * 2
        many = await pays.adelay_many(pays.bind(CANARY, "many") for _ in range(3))
        assert [await job.aresult() for job in many] == [CANARY * 2] * 3
        sent = await app.asend("pays", {"card": CANARY, "how": "sent"})
        assert await app.job(sent.id).aresult() == CANARY * 2

        broker = await app.session.broker()
        (info,) = await app.aschedules()
        assert info.arguments == {"card": CANARY, "how": "returns"}
        made = await run_schedule(broker, "pays")
        assert await app.job(made).aresult() == CANARY * 2

        dies = await pays.adelay(CANARY, "dies")
        (entry,) = await _dead(app)
        assert key_of(entry.body) == "k1"
        allowed = True
        assert await replay(broker, [entry]) == (1, [])
        assert await dies.aresult() == CANARY * 2
    assert len(heard) > 20
    assert any(b"\xffJQ1" in each for each in heard)
    forms = [CANARY.encode(), base64.b64encode(CANARY.encode())[:-4], CANARY.encode().hex().encode()]
    assert not [each for each in heard if any(form in each for form in forms)]
    assert ("retries", CANARY + "-again", 2) in seen


async def test_the_canary_test_would_find_one(nats_url: str) -> None:
    app = fresh_app(nats_url, payloads=SignedPayloads({"k1": K1}))

    @app.task(name="pays")
    async def pays(card: str) -> str:
        return card

    async with _overheard(nats_url, app.settings.namespace) as heard, working(app):
        assert await (await pays.adelay(CANARY)).aresult() == CANARY
    assert [each for each in heard if CANARY.encode() in each]


async def test_an_app_without_a_codec_keeps_the_bytes_and_says_what_they_are(nats_url: str) -> None:
    app = fresh_app(nats_url, payloads=_encrypted(k2=K2))

    @app.task(name="adds")
    async def adds(x: int) -> int:
        return x + 1

    bare = _twin(app, None, adds)
    async with working(bare):
        job = await adds.adelay(1)
        (entry,) = await _dead(app)
        assert entry.letter.reason == "undecodable"
        assert entry.letter.failure.type == "jetq.BadPayload"
        told = "the arguments of adds: a sealed payload (key k2); this app has no payload codec"
        assert entry.letter.failure.message == told
        assert app.open_arguments("adds", "default", entry.body) == b'{"x":1}'
        with pytest.raises(BadPayload, match="this app has no payload codec"):
            bare.open_arguments("adds", "default", entry.body)
    async with working(app):
        broker = await app.session.broker()
        assert await replay(broker, [entry]) == (1, [])
        assert await job.aresult() == 2
        reader = _twin(app, None)
        with pytest.raises(BadPayload, match=rf"^the result of job {job.id}: a sealed payload \(key k2\)"):
            await reader.job(job.id).aresult()
        await reader.session.aclose()


async def test_a_job_of_a_dropped_key_is_dead_with_its_bytes_and_runs_when_the_key_is_back(nats_url: str) -> None:
    app = fresh_app(nats_url, payloads=_encrypted(k1=K1))

    @app.task(name="adds")
    async def adds(x: int) -> int:
        return x + 1

    job = await adds.adelay(1)
    stored = await (await app.session.broker()).find("default", job.id)
    assert stored is not None
    async with working(_twin(app, _encrypted(k2=K2), adds)):
        (entry,) = await _dead(app)
    assert entry.body == stored.delivery.body
    assert entry.letter.failure.message == "the arguments of adds: it is encrypted with key k1, and this app has k2"
    async with working(_twin(app, _encrypted(k2=K2, k1=K1), adds)):
        broker = await app.session.broker()
        assert await replay(broker, [await find_dead(broker, job.id)]) == (1, [])
        with pytest.raises(BadPayload, match="with key k2, and this app has k1"):
            await job.aresult()
    await app.session.aclose()


async def test_what_an_attacker_can_publish_ends_in_the_dead_letters(nats_url: str) -> None:
    """Guarantee: who can publish and has no key cannot have a task called with arguments of their choice, nor with
    those of another task."""
    app = fresh_app(nats_url, payloads=SignedPayloads({"k1": K1}))
    called: list[tuple[str, int]] = []

    @app.task(name="pays")
    async def pays(amount: int) -> None:
        called.append(("pays", amount))

    @app.task(name="refunds", queue="default")
    async def refunds(amount: int) -> None:
        called.append(("refunds", amount))

    def sealed(task: str, queue: str = "default") -> bytes:
        return app.seal_arguments(task, queue, b'{"amount":7}')

    changed = sealed("pays").replace(b"7", b"9")
    other_key = _twin(app, SignedPayloads({"k1": K2})).seal_arguments("pays", "default", b'{"amount":8}')
    hostile = {
        "plain": b'{"amount":666}',
        "moved": sealed("refunds"),
        "queue": sealed("pays", "other"),
        "changed": changed,
        "forged": other_key,
        "cut": sealed("pays")[:20],
        "magic": b"\xffJQ1",
        "empty": b"",
    }
    async with working(app):
        await (await app.session.broker()).setup("default")
        client = await nats.connect(nats_url)
        js = client.jetstream()
        for id, body in hostile.items():
            await js.publish(f"{app.settings.namespace}.default.run.pays.-.{id}", body)
        await js.publish(f"{app.settings.namespace}.default.run.pays.-.good", sealed("pays"))
        await client.close()
        entries = await _dead(app, len(hostile))
        await until(lambda: called)
    assert {entry.letter.id: entry.body for entry in entries} == hostile
    assert {(entry.letter.reason, entry.letter.failure.type) for entry in entries} == {
        ("undecodable", "jetq.BadPayload")
    }
    assert called == [("pays", 7)]


async def test_a_result_is_taken_only_of_its_own_job_and_task(nats_url: str) -> None:
    app = fresh_app(nats_url, payloads=_encrypted())

    @app.task(name="answers")
    async def answers(x: int) -> int:
        return x

    async with working(app):
        first, second = await answers.adelay(1), await answers.adelay(2)
        assert (await first.aresult(), await second.aresult()) == (1, 2)
        client = await nats.connect(nats_url)
        js = client.jetstream()
        namespace = app.settings.namespace
        stored = await js.get_last_msg(f"{namespace.upper()}_JETQ_RESULTS", f"{namespace}._result.{first.id}")
        assert stored.data is not None
        await js.publish(f"{namespace}._result.{second.id}", stored.data)
        with pytest.raises(BadPayload, match=f"the result of job {second.id}: it was changed, or sealed for something"):
            await second.aresult()
        plain = stored.data.replace(b'"sealed":', b'"value":')
        await js.publish(f"{namespace}._result.{first.id}", plain)
        with pytest.raises(BadPayload, match=f"the result of job {first.id}: it is not encrypted"):
            await first.aresult()
        await client.close()


async def test_a_roll_out_takes_plain_jobs_for_a_while(nats_url: str) -> None:
    app = fresh_app(nats_url)

    @app.task(name="adds")
    async def adds(x: int) -> int:
        return x + 1

    plain = await adds.adelay(1)
    async with working(_twin(app, EncryptedPayloads({"k1": K1}, accept_plain=True), adds)):
        reader = _twin(app, EncryptedPayloads({"k1": K1}, accept_plain=True))
        assert await reader.job(plain.id).aresult() == 2
        await reader.session.aclose()
    await app.session.aclose()


async def test_a_schedule_is_written_anew_for_another_key_or_arguments_and_not_else(nats_url: str) -> None:
    app = fresh_app(nats_url, payloads=_encrypted(k1=K1))

    @app.task(name="beats", schedules=[Schedule(every=3600, arguments={"who": "x"})])
    async def beats(who: str) -> None: ...

    broker = await app.session.broker()
    ((record, body),) = definitions([beats])
    steps = [
        (None, True),
        (None, False),
        (_encrypted(k1=K1), True),
        (_encrypted(k1=K1), False),
        (_encrypted(k1=K1, k2=K2), False),
        (_encrypted(k2=K2, k1=K1), True),
        (_encrypted(k2=K2), False),
    ]
    for codec, written in steps:
        assert await put_schedule(broker, record, body, codec) is written, (codec, written)
    assert await put_schedule(broker, record, b'{"who":"y"}', _encrypted(k2=K2)) is True
    await app.session.aclose()


async def test_what_a_process_enqueues_is_sealed_too(nats_url: str) -> None:
    app = fresh_app(nats_url, payloads=_encrypted())
    share(app, *tasks_of(process_tasks))
    async with _overheard(nats_url, app.settings.namespace) as heard, working(app):
        job = await app.asend("tests.apps.process_tasks.enqueues_another", {"text": CANARY})
        id = await job.aresult()
        assert await app.job(id).aresult() == CANARY
    assert not [each for each in heard if CANARY.encode() in each]


class Unpicklable:
    """A codec that cannot go to a process."""

    def __init__(self) -> None:
        self.inner = _encrypted()
        self.seal, self.open = self.inner.seal, self.inner.open
        self.lock = lambda: None


async def test_a_codec_that_cannot_go_to_a_process_fails_the_job_and_says_so(nats_url: str) -> None:
    app = fresh_app(nats_url, payloads=Unpicklable())
    share(app, process_tasks.pid)
    async with working(app):
        await app.asend("tests.apps.process_tasks.pid", max_attempts=1)
        (entry,) = await _dead(app)
    assert "payload codec cannot be sent to a process" in entry.letter.failure.message


class Faulty:
    """A codec whose key service is gone."""

    def seal(self, body: bytes, context: object) -> bytes:
        if b"result" in body or "result" in str(context):
            raise OSError("the key service is gone")
        return body

    open = seal


async def test_a_codec_that_fails_costs_a_job_no_more_than_an_attempt_and_no_worker(nats_url: str) -> None:
    app = fresh_app(nats_url, payloads=Faulty())

    @app.task(name="answers")
    async def answers(x: str) -> str:
        return x

    async with working(app):
        with pytest.raises(BadPayload, match=r"the arguments of answers cannot be sealed.*OSError"):
            await answers.adelay("result")
        await answers.adelay("x")
        (entry,) = await _dead(app)
        assert "the result of job" in entry.letter.failure.message
        assert "OSError" in entry.letter.failure.message
