"""The permissions that `jetq setup acl` prints: they suffice, none of them is idle, and nothing else works."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
import pytest

from jetq import (
    BrokerUnavailable,
    Denied,
    Jetq,
    Queue,
    RateLimited,
    Records,
    Rejected,
    ResultExpired,
    Retry,
    TaskFailed,
    Work,
    each,
)
from jetq.cli.verbs.setup_acl import permissions, render
from jetq.jetstream.streams.pull import REPLACES
from jetq.operations.schedules import run_schedule
from jetq.operations.workflows import creating, watching
from tests.apps.working import until, working
from tests.servers import NatsServer, NatsServerFactory

pytestmark = pytest.mark.anyio

QUEUES = ["mail", "post"]  # other tests' tasks, which any app has, are of others

USERS = """
authorization {
  users: [
    { user: admin, password: x }
    { user: producer, password: x, permissions: $JETQ_PRODUCER }
    { user: worker, password: x, permissions: $JETQ_WORKER }
  ]
}
http: "127.0.0.1:-1"
trace: true
"""


RAN: list[int] = []
"""What the task was called with that only one worker has."""


def define(url: str = "nats://127.0.0.1:4222", *, newer: bool = False) -> Jetq:
    """An app that uses what there is; `newer` with a task that the other has not."""
    app = Jetq(url, namespace="shop", queues=[Queue("post", levels="strict")])
    tried: set[int] = set()

    @app.task(name="mail.plain", queue="mail")
    async def plain(n: int) -> int:
        return n

    @app.task(name="mail.keyed", queue="mail", key="{n}", unique="running")
    async def keyed(n: int) -> None:
        await asyncio.sleep(0.3)

    @app.task(name="mail.again", queue="mail", wait=1.0)
    async def again(n: int) -> None:
        if n not in tried:
            tried.add(n)
            raise Retry

    @app.task(name="mail.dies", queue="mail", max_attempts=1)
    async def dies() -> int:
        raise ValueError

    @app.task(name="mail.limited", queue="mail", limit=1)
    async def limited() -> None:
        await asyncio.sleep(0.1)

    @app.task(name="mail.rated", queue="mail", rate="5/s")
    async def rated() -> None: ...

    @app.task(name="mail.asked", queue="mail")
    async def asked(n: int) -> None:
        if n not in tried:
            tried.add(n)
            raise RateLimited(0.2)

    if newer:

        @app.task(name="mail.newer", queue="mail")
        async def only_here(n: int) -> None:
            RAN.append(n)

    @app.task(name="mail.upto", queue="mail")
    async def upto(n: int) -> list[int]:
        return list(range(n))

    @app.task(name="post.sum", queue="post")
    async def add_up(numbers: list[int]) -> int:
        return sum(numbers)

    @app.task(name="post.letter", queue="post", every=1.0)
    async def letter() -> None: ...

    @app.task(name="post.again", queue="post", wait=1.0)
    async def again_there(n: int) -> None:
        await again(n)

    @app.task(name="post.parcel", queue="post")
    async def parcel(weight: float) -> float:
        await asyncio.sleep(weight)
        return weight

    return app


def url_of(server: NatsServer, user: str) -> str:
    return server.url.replace("//", f"//{user}:x@")


@asynccontextmanager
async def roles(
    start: NatsServerFactory, *, keys: bool = False, plans: bool = True
) -> AsyncIterator[tuple[NatsServer, Jetq, Jetq]]:
    """A server with both users, its queues made, and an app for each of them."""
    every = permissions(define(), queues=QUEUES, keys=keys, plans=plans)
    server = start(render({user: every[user] for user in ("producer", "worker")}) + USERS)
    admin = define(url_of(server, "admin"))
    broker = await admin.session.broker()
    await broker.setup("mail")
    await broker.setup("post", levels=True)
    await broker.setup_records()
    await broker.setup_ledger()
    await admin.session.aclose()
    producer, worker = define(url_of(server, "producer")), define(url_of(server, "worker"), newer=True)
    try:
        yield server, producer, worker
    finally:
        await producer.session.aclose()
        await worker.session.aclose()


async def hand_out_once(server: NatsServer) -> None:
    """Take a job of each queue and give it back, as a worker that died would: the next one looks what became of it."""
    client = await nats.connect(url_of(server, "worker"))
    for queue in QUEUES:
        subject = f"$JS.API.CONSUMER.MSG.NEXT.SHOP_{queue.upper()}_JOBS.{queue}"
        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox)
        await client.publish(subject, b'{"batch": 1}', reply=inbox)
        taken = await subscription.next_msg(5)
        await client.publish(taken.reply, b"-NAK")
    await client.close()


async def leave_what_was_replaced(server: NatsServer) -> None:
    """In each queue a next attempt whose predecessor still stands, as a worker leaves it that dies before its ack."""
    client = await nats.connect(url_of(server, "worker"))
    jetstream = client.jetstream()
    for job, body in (("mail.{}.mail:plain.-.again", b'{"n": 1}'), ("post.{}.post:letter.-.again", b"{}")):
        earlier = await jetstream.publish(f"shop.{job.format('later')}", body)
        await jetstream.publish(f"shop.{job.format('run')}", body, headers={REPLACES: str(earlier.seq)})
    await client.close()


async def everything(server: NatsServer, producer: Jetq, worker: Jetq, second: Jetq) -> None:
    """Enqueue in every way, have it run in every way, and wait for results."""
    tasks = producer.tasks
    waits = await tasks["mail.keyed"].adelay(0)
    assert (await tasks["mail.keyed"].adelay(0)).id == waits.id
    debounced = tasks["mail.keyed"].options(delay=60, replace=True)
    assert (await debounced.adelay(1)).disposition == "new"
    assert (await tasks["mail.keyed"].options(delay=2.2, replace=True).adelay(1)).disposition == "replaced"
    await tasks["mail.keyed"].options(throttle=60).adelay(2)
    assert (await tasks["mail.keyed"].options(throttle=60).adelay(2)).disposition == "existing"
    await tasks["mail.keyed"].options(delay=3).adelay(5)
    assert (await tasks["mail.keyed"].options(throttle=60).adelay(5)).disposition == "existing"
    for level in ("high", "normal", "low"):
        for task, arguments in (
            (tasks["post.letter"], ()),
            (tasks["post.parcel"], (0.0,)),
            (tasks["post.again"], (100,)),
            (tasks["post.sum"], ([1],)),
        ):
            await task.options(priority=level).adelay(*arguments)
            await task.options(priority=level, delay=0.1).adelay(*arguments)
    for n in range(3):
        for name in ("mail.limited", "mail.rated", "mail.dies"):
            await tasks[name].adelay()
            await tasks[name].options(delay=0.05).adelay()
        for name in ("mail.asked", "mail.again", "mail.plain", "mail.upto"):
            await tasks[name].adelay(n)
            await tasks[name].options(delay=0.05).adelay(n + 10)
    await producer.adelay_many([tasks["mail.plain"].bind(n) for n in range(20)])
    await producer.adelay_many([tasks["mail.limited"].bind() for _ in range(20)])
    dead = await tasks["mail.dies"].adelay()
    short = [await tasks[name].options(result_ttl=1).adelay(0) for name in ("mail.plain", "post.parcel")]
    await hand_out_once(server)
    await leave_what_was_replaced(server)
    few = {"queues": QUEUES, "concurrency": 8}  # so that both of them get some of each task
    async with working(worker, **few), working(second, **few):
        assert await (await tasks["post.parcel"].adelay(4.3)).aresult(timeout=20) == 4.3
        for job in short:
            with pytest.raises(ResultExpired):
                await job.aresult(timeout=20)
        job = await tasks["mail.plain"].adelay(7)
        assert await job.aresult(timeout=20) == 7
        with pytest.raises(ValueError):
            await dead.aresult(timeout=20)
        for n in range(20):  # half of them come to the worker that has no such task
            await worker.tasks["mail.newer"].adelay(n)
        await until(lambda: {*range(20)} <= {*RAN})
        running = await tasks["mail.keyed"].adelay(3)
        await asyncio.sleep(0.1)
        queued = await tasks["mail.keyed"].adelay(3)
        assert (await tasks["mail.keyed"].adelay(3)).id == queued.id != running.id
        await keep_records(worker)
        await run_workflows(producer, worker)
        await settled_by(worker)


async def keep_records(worker: Jetq) -> None:
    """What a worker's tasks may do with records."""
    records = Records("tests", worker)
    await records.aput("a.b", b"1", ttl=60)
    assert [found.key async for found in records.aeach()] == ["a.b"]
    assert await records.aremove("a.b")


async def run_workflows(producer: Jetq, worker: Jetq) -> None:
    """Of every shape, until the watch has closed them: with pages, with more members than a page, of unknown size."""
    plain, upto, post = (producer.tasks[name] for name in ("mail.plain", "mail.upto", "post.sum"))
    many = await (each(plain, range(1_001)) | post).adelay()
    unknown = await (each(plain, upto.bind(3).out) | post).adelay()
    assert (await unknown.asteps())["plain"].total in (None, 3)
    elsewhere = await (post.bind([2, 3]) | plain).adelay()
    failed = await producer.tasks["mail.dies"].bind().on_failure(plain.bind(1)).adelay()
    assert await many.aresult(60) == sum(range(1_001))
    assert await unknown.aresult(20) == 3
    assert await elsewhere.aresult(20) == 5
    with pytest.raises(TaskFailed):
        await failed.aresult(20)
    ledger = await worker.session.broker()
    async with asyncio.timeout(60):
        for workflow in (many, unknown, elsewhere):
            while not (plan := await ledger.read_entry(f"plan.*.{workflow.id}")) or b'"closed"' not in plan.body:
                await asyncio.sleep(0.05)
    assert await many.aresult(5) == sum(range(1_001))
    await start_by_schedule(producer, worker)
    assert not await ledger.drop_entry(10**9)  # as who finds that a failure was made good
    for queue in QUEUES:  # as the watch that misses a member
        assert not await ledger.dead(queue, id="a", limit=1)


async def start_by_schedule(producer: Jetq, worker: Jetq) -> None:
    """Have workers start the workflows of schedules, with arguments of each member, from each queue to the other."""
    plain, post = worker.tasks["mail.plain"], worker.tasks["post.sum"]
    works: dict[str, Work[int]] = {"mail": each(plain, range(3)) | post, "post": post.bind([1, 2]) | plain}
    ledger = await worker.session.broker()
    for queue, work in works.items():
        await worker.aschedule("nightly", work, cron="0 0 1 1 *")
        workflow = f"{queue}::nightly-{await run_schedule(ledger, 'nightly', queue)}"
        async with asyncio.timeout(60):
            while await ledger.read_entry(f"plan.*.{workflow}") is None:
                await asyncio.sleep(0.05)
        assert await producer.workflow(workflow).aresult(60) == 3


async def settled_by(worker: Jetq) -> None:
    """Until nothing stands but the watch of what has failed, looking by what a worker may look at."""
    broker = await worker.session.broker()
    async with asyncio.timeout(40):
        for queue in QUEUES:
            while [job for job in await broker.stored_jobs(queue, limit=10) if job.delivery.task != creating.WATCH]:
                await asyncio.sleep(0.05)


def published_by(server: NatsServer, user: str) -> set[str]:
    """Every subject that the user has published to, by the server's trace."""
    connections = server.monitor("/connz?auth=1&state=all")["connections"]
    of_user = {one["cid"] for one in connections if one.get("authorized_user") == user}
    traced = re.findall(r"cid:(\d+) .*<<- \[H?PUB (\S+) ", server.log)
    return {subject for cid, subject in traced if int(cid) in of_user}


def matches(pattern: str, subject: str) -> bool:
    wanted, tokens = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted, tokens = wanted[:-1], tokens[: len(wanted) - 1]
    return len(wanted) == len(tokens) and all(w in ("*", t) for w, t in zip(wanted, tokens, strict=True))


@pytest.mark.slow
@pytest.mark.timeout(280)
async def test_each_set_suffices_and_none_of_it_is_idle(
    nats_server: NatsServerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee: a producer and a worker with these permissions can do all that is theirs."""
    monkeypatch.setattr(creating, "FIRST_TURN", 1.0)  # so that the watch closes what has ended
    monkeypatch.setattr(watching, "FIRST_TURN", 0.1)  # also what had not ended at its first turn
    async with roles(nats_server) as (server, producer, worker):
        await everything(server, producer, worker, define(url_of(server, "worker")))
        published = {user: published_by(server, user) for user in ("producer", "worker")}
        violations = re.findall(r"(?:Publish|Subscription) Violation - .*", server.log)
    assert not violations
    allowed = permissions(define(), queues=QUEUES, plans=True)
    for user in ("producer", "worker"):  # for the others see test_workflow_permissions.py
        idle = [wide for wide in allowed[user].publish if not any(matches(wide, done) for done in published[user])]
        assert not idle, user


FORBIDDEN = {
    "producer": [
        "shop.mail.run.mail:other.-.x",
        "shop.mail.run.mail:plain.key.x",
        "shop.mail.run-high.mail:plain.-.x",
        "shop.other.run.mail:plain.-.x",
        "shop.mail.dead.mail:plain.x",
        "shop.mail.cron.mail:plain",
        "shop._result.x",
        "shop._state.pause.x",
        "shop._record.tests.a",
        "shop._plan.other.x",
        "shop._flow.life.allow.other",
        "shop._flow.life.mark.plain.0.0.ok",
        "shop._flow.life.state.end",
        "shop._flow.life.state.stop",
        "shop._count.life.plain.0",
        "shop.mail.run.jetq:watch.-.x",
        "$JS.API.STREAM.PURGE.SHOP_JETQ_FLOWS",
        "$JS.API.STREAM.DELETE.SHOP_MAIL_JOBS",
        "$JS.API.STREAM.UPDATE.SHOP_MAIL_JOBS",
        "$JS.API.STREAM.PURGE.SHOP_MAIL_JOBS",
        "$JS.API.STREAM.MSG.DELETE.SHOP_MAIL_JOBS",
        "$JS.API.CONSUMER.CREATE.SHOP_MAIL_JOBS.mine",
        "$JS.API.CONSUMER.MSG.NEXT.SHOP_MAIL_JOBS.mail",
        "$JS.API.STREAM.LIST",
        "$JS.ACK.SHOP_MAIL_JOBS.mail.1.1.1.1.0",
    ],
    "worker": [
        "shop.other.run.mail:plain.-.x",
        "shop._plan.other.x",
        "shop._flow.life.allow.other",
        "$JS.API.STREAM.DELETE.SHOP_JETQ_FLOWS",
        "$JS.API.STREAM.DELETE.SHOP_MAIL_JOBS",
        "$JS.API.STREAM.UPDATE.SHOP_MAIL_JOBS",
        "$JS.API.STREAM.DELETE.SHOP_MAIL_DLQ",
        "$JS.API.STREAM.PURGE.SHOP_MAIL_DLQ",
        "$JS.API.STREAM.MSG.DELETE.SHOP_MAIL_DLQ",
        "$JS.API.CONSUMER.CREATE.SHOP_MAIL_JOBS.mine",
        "$JS.API.CONSUMER.MSG.NEXT.SHOP_OTHER_JOBS.other",
        "$JS.API.STREAM.CREATE.SHOP_OTHER_JOBS",
        "other.anything",
    ],
}


@pytest.mark.parametrize("user", ["producer", "worker"])
async def test_nothing_else_works(user: str, nats_server: NatsServerFactory) -> None:
    """Guarantee: who has the permissions of one role can do neither what the other does nor anything else."""
    async with roles(nats_server) as (server, _, _):
        said: list[str] = []

        async def hear(error: Exception) -> None:
            said.append(str(error).lower())

        client = await nats.connect(url_of(server, user), error_cb=hear)
        for subject in FORBIDDEN[user]:
            await client.publish(subject, b"{}")
        for subject in ("shop.>", "$JS.API.>", ">", "shop.mail.run.>"):
            await client.subscribe(subject)
        await client.flush()
        await until(lambda: len(said) == len(FORBIDDEN[user]) + 4)
        await client.close()
    assert [subject for subject in FORBIDDEN[user] if not any(f'"{subject.lower()}"' in line for line in said)] == []


async def test_a_key_at_the_call_of_a_task_without_one_takes_a_word_to_setup_acl(
    nats_server: NatsServerFactory,
) -> None:
    async with roles(nats_server) as (_, producer, _):
        with pytest.raises(Rejected):
            await producer.tasks["mail.plain"].options(key="k").adelay(1)


async def test_with_that_word_it_works(nats_server: NatsServerFactory) -> None:
    async with roles(nats_server, keys=True) as (_, producer, _):
        plain = producer.tasks["mail.plain"].options(key="k")
        assert (await plain.adelay(1)).id == (await plain.adelay(1)).id


async def test_a_workflow_takes_a_word_to_setup_acl(nats_server: NatsServerFactory) -> None:
    async with roles(nats_server, plans=False) as (_, producer, _):
        with pytest.raises(Denied, match="jetq:watch"):  # the first that is stored of a workflow
            await producer.tasks["mail.plain"].bind(1).adelay()


async def test_what_is_not_allowed_fails_at_once_and_says_which_permission_it_lacks(
    nats_server: NatsServerFactory,
) -> None:
    """Neither waits for its timeout, which is a minute here."""
    async with roles(nats_server) as (server, _, _):
        app = Jetq(url_of(server, "worker"), namespace="shop", publish_timeout=60, connect_timeout=60)

        @app.task(name="elsewhere", queue="elsewhere")
        async def elsewhere() -> None: ...

        producer = Jetq(url_of(server, "producer"), namespace="shop", publish_timeout=60, connect_timeout=60)

        @producer.task(name="mail.other", queue="mail")
        async def other() -> None: ...

        try:
            async with asyncio.timeout(20):
                with pytest.raises(
                    Denied, match=r"no permission to publish to \$JS.API.STREAM.INFO.SHOP_ELSEWHERE_JOBS"
                ):
                    await elsewhere.adelay()
                with pytest.raises(Denied, match=r"no permission to publish to shop.mail.run.mail:other") as refused:
                    await other.adelay()
                with pytest.raises(Denied, match=r"shop.mail.run.mail:other"):
                    await asyncio.to_thread(other.delay)
                with pytest.raises(Rejected) as some:
                    await producer.adelay_many([other.bind(), other.bind()])
            assert "jetq setup acl" in str(refused.value.hint)
            assert refused.value.subject.startswith("shop.mail.run.mail:other.-.")
            assert isinstance(refused.value, Rejected | BrokerUnavailable)
            assert isinstance(some.value, Denied)
            assert len(some.value.job_ids) == 2
            await asyncio.to_thread(producer.session.close)
        finally:
            await app.session.aclose()
            await producer.session.aclose()
