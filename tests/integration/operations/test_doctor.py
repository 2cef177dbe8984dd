"""`jetq doctor` against real servers: each fault that is planted is found, and nothing is where nothing is wrong."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import pytest

from jetq import Jetq
from jetq.broker import Broker
from jetq.encoding.worker_status import encode
from jetq.model.worker_status import StatusQuery, WorkerStatus
from jetq.operations.doctor.examination import Report, examine
from tests.apps.working import fresh_app, working
from tests.servers import NatsCluster, NatsServer, NatsServerFactory

pytestmark = pytest.mark.anyio

TASKS = {"default": ["known"]}


@pytest.fixture(autouse=True)
def stores_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of tests are temporary, and that is no fault here."""
    monkeypatch.setattr("jetq.operations.doctor.findings._TEMPORARY", set())


class Deployment:
    """A server, an app with one task, and a worker for it, in the best of health."""

    def __init__(self, server: str, app: Jetq, broker: Broker) -> None:
        self.server = server
        self.app = app
        self.broker = broker
        self.others: list[Broker] = []

    def stream(self, kind: str) -> str:
        prefix = self.app.settings.namespace.upper()
        return {"jobs": f"{prefix}_DEFAULT_JOBS", "dead": f"{prefix}_DEFAULT_DLQ"}[kind]

    def subject(self, rest: str) -> str:
        return f"{self.app.settings.namespace}.default.{rest}"

    async def api(self, name: str, body: Any = None) -> dict[str, Any]:
        """Ask JetStream behind jetq's back."""
        client = await nats.connect(self.server)
        try:
            data = json.dumps(body).encode() if body is not None else b""
            answer = json.loads((await client.request(f"$JS.API.{name}", data, timeout=3)).data)
        finally:
            await client.close()
        assert "error" not in answer, answer
        return dict(answer)

    async def edit(self, kind: str, **changes: Any) -> None:
        config = (await self.api(f"STREAM.INFO.{self.stream(kind)}"))["config"]
        await self.api(f"STREAM.UPDATE.{self.stream(kind)}", {**config, **changes})

    async def publish(self, rest: str, body: bytes = b"{}") -> None:
        client = await nats.connect(self.server)
        await client.request(self.subject(rest), body, timeout=3)
        await client.close()

    async def fill(self, subject: str, size: int) -> None:
        client = await nats.connect(self.server)
        assert "error" not in json.loads((await client.request(subject, bytes(size), timeout=3)).data)
        await client.close()

    async def pretend_worker(self, answer: WorkerStatus) -> None:
        """One more worker of the queue, which says this of itself."""
        broker = await self.app.session.connect()
        self.others.append(broker)
        await broker.answer("default", lambda _: encode(answer))
        await broker.queues()  # by now the server has read that it listens

    async def examine(self, **more: Any) -> Report:
        return await examine(self.broker, TASKS, replicas=1, **more)


def fresh(url: str, **settings: Any) -> Jetq:
    """An app with the one task."""
    namespace = settings.pop("namespace", None)
    app = fresh_app(url, **settings) if namespace is None else Jetq(url, namespace=namespace)

    @app.task(name="known")
    async def known() -> None: ...

    return app


@asynccontextmanager
async def deployment(url: str, *, worker: bool = True, **settings: Any) -> AsyncIterator[Deployment]:
    app = fresh(url, **settings)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(app.session.aclose)
        broker = await app.session.broker()
        await broker.setup("default")
        here = Deployment(url, app, broker)
        if worker:
            await stack.enter_async_context(working(app))
            async with asyncio.timeout(15):
                while not await broker.ask("default", encode(StatusQuery()), 0.2, enough=1):
                    pass
        yield here
        for other in here.others:
            await other.close()


def codes(report: Report) -> list[tuple[str, str]]:
    return [(finding.severity, finding.code) for finding in report.findings]


async def test_on_a_healthy_deployment_it_is_silent_also_under_load(nats_server: NatsServerFactory) -> None:
    server = nats_server('http: "127.0.0.1:-1"\n')
    async with deployment(server.url) as here:
        assert codes(await here.examine()) == []
        known = here.app.tasks["known"]
        stop = asyncio.Event()

        async def load() -> int:
            count = 0
            while not stop.is_set():
                await known.adelay_many([known.bind() for _ in range(200)])
                await known.options(delay=0.05).adelay()
                await asyncio.sleep(0.02)
                count += 201
            return count

        producing = asyncio.create_task(load())
        try:
            for _ in range(2):
                report = await here.examine(monitors=[server.monitoring])
                assert codes(report) == []
                assert report.healthy
        finally:
            stop.set()
        assert await producing > 400
        assert report.durability.kind == "single"
        assert "the last 2m" in report.durability.text


async def test_it_changes_nothing(nats_url: str) -> None:
    async with deployment(nats_url, worker=False) as here:
        await here.app.tasks["known"].adelay()
        before = await here.api(f"STREAM.INFO.{here.stream('jobs')}")
        await examine(here.broker, {"elsewhere": ["mail"], **TASKS}, replicas=1)
        after = await here.api(f"STREAM.INFO.{here.stream('jobs')}")
        assert (after["state"], after["config"]) == (before["state"], before["config"])
        names = await here.api("STREAM.NAMES", {"subject": f"{here.app.settings.namespace}.elsewhere.>"})
        assert not names["streams"]


# --- planted faults


async def stream_of_jobs_edited(here: Deployment) -> None:
    await here.edit("jobs", max_msg_size=100)


async def lease_of_the_consumer_edited(here: Deployment) -> None:
    info = await here.api(f"CONSUMER.INFO.{here.stream('jobs')}.default")
    config = {**info["config"], "ack_wait": 5_000_000_000}
    await here.api(
        f"CONSUMER.CREATE.{here.stream('jobs')}.default", {"stream_name": here.stream("jobs"), "config": config}
    )


async def dead_letters_deleted(here: Deployment) -> None:
    await here.api(f"STREAM.DELETE.{here.stream('dead')}")


async def dead_letters_of_others(here: Deployment) -> None:
    await dead_letters_deleted(here)
    await here.api(f"STREAM.CREATE.{here.stream('dead')}", {"name": here.stream("dead"), "subjects": ["others.>"]})


async def job_of_an_unknown_task(here: Deployment) -> None:
    await here.broker.pause("default")
    await here.publish("run.unheard:of.-.one")


async def worker_of_another_version(here: Deployment) -> None:
    await here.pretend_worker(
        WorkerStatus("other", "host", 1, "0.0.1", 0.0, slots=1, busy=0, missing_tasks=(), now=time.time())
    )


async def worker_whose_clock_is_fast(here: Deployment) -> None:
    await here.pretend_worker(
        WorkerStatus("other", "host", 1, "", 0.0, slots=1, busy=0, missing_tasks=(), now=time.time() + 90)
    )


@pytest.mark.parametrize(
    ("plant", "severity", "code", "words"),
    [
        (stream_of_jobs_edited, "warning", "drift", "max_msg_size is 100, jetq needs -1"),
        (lease_of_the_consumer_edited, "warning", "drift", "ack_wait is '5 s', jetq needs '30 s'"),
        (dead_letters_deleted, "warning", "no-stream", "the stream for the queue's dead letters is missing"),
        (dead_letters_of_others, "problem", "foreign-stream", "is not jetq's"),
        (job_of_an_unknown_task, "problem", "unknown-task", "none of its 1 workers knows task unheard.of"),
        (worker_of_another_version, "warning", "versions", "0.0.1"),
        (worker_whose_clock_is_fast, "warning", "clock", "the clock of host is 1m"),
    ],
)
async def test_a_fault_beside_a_live_worker_is_found(
    plant: Callable[[Deployment], Awaitable[None]], severity: str, code: str, words: str, nats_url: str
) -> None:
    async with deployment(nats_url) as here:
        assert codes(await here.examine()) == []
        await plant(here)
        report = await here.examine()
        assert [each for each in codes(report) if each != ("note", "paused")] == [(severity, code)]
        assert words in report.findings[0].message
        assert report.findings[0].hint
        assert not report.healthy


async def nobody_works(here: Deployment) -> None:
    await here.app.tasks["known"].adelay()


async def consumer_deleted(here: Deployment) -> None:
    await here.api(f"CONSUMER.DELETE.{here.stream('jobs')}.default")


async def jobs_passed_over(here: Deployment) -> None:
    """What a purge with a filter does to others that are handed out (tests/integration/server/test_server_facts.py)."""
    for n in range(4):
        await here.publish(f"run.known.-.{n}")
    client = await nats.connect(here.server)
    pull = await client.jetstream().pull_subscribe("", durable="default", stream=here.stream("jobs"))
    assert len(await pull.fetch(4, timeout=3)) == 4
    await here.api(f"STREAM.PURGE.{here.stream('jobs')}", {"filter": here.subject("run.known.-.3")})
    await here.publish("run.known.-.4")
    (last,) = await pull.fetch(1, timeout=3)
    await last.ack_sync()
    await client.close()


async def jobs_in_memory(here: Deployment) -> None:
    config = (await here.api(f"STREAM.INFO.{here.stream('jobs')}"))["config"]
    await here.api(f"STREAM.DELETE.{here.stream('jobs')}")
    await here.api(f"STREAM.CREATE.{here.stream('jobs')}", {**config, "storage": "memory"})
    await here.broker.setup("default")


@pytest.mark.parametrize(
    ("plant", "code", "words"),
    [
        (nobody_works, "no-worker", "no live worker serves it; 1 jobs wait for one"),
        (consumer_deleted, "no-consumer", "no worker gets a job of the queue"),
        (jobs_passed_over, "passed-over", "will never hand them out: 0, 1, 2"),
        (jobs_in_memory, "memory-storage", "a restart of the server loses"),
    ],
)
async def test_a_fault_without_a_worker_is_found(
    plant: Callable[[Deployment], Awaitable[None]], code: str, words: str, nats_url: str
) -> None:
    async with deployment(nats_url, worker=False) as here:
        assert codes(await here.examine()) == [("note", "no-worker")]
        await plant(here)
        report = await here.examine()
        assert {each for _, each in codes(report)} == {code, "no-worker"}
        (finding,) = (finding for finding in report.findings if finding.code == code)
        assert finding.severity == "problem"
        assert words in finding.message


# --- faults of the server


async def test_an_account_that_fills_up_is_told_before_and_when_it_is_full(nats_server: NatsServerFactory) -> None:
    server = nats_server("accounts { A { jetstream { max_file: 100KB }, users: [ { user: a, password: a } ] } }\n")
    url = server.url.replace("//", "//a:a@")
    async with deployment(url) as here:
        assert codes(await here.examine()) == []
        dead = here.subject("dead.known.x")
        await here.fill(dead, 85_000)
        assert codes(await here.examine()) == [("warning", "storage-low"), ("note", "dead-letters")]
        await here.fill(dead, 14_000)
        report = await here.examine()
        assert codes(report) == [("problem", "storage-full"), ("note", "dead-letters")]
        assert "of 100 KiB are used" in report.findings[0].message


async def test_a_small_payload_limit_and_a_silent_monitoring_are_told(nats_server: NatsServerFactory) -> None:
    async with deployment(nats_server("max_payload: 64KB\n").url) as here:
        report = await here.examine(monitors=["http://127.0.0.1:1"])
    assert codes(report) == [("warning", "small-payload"), ("warning", "no-monitoring")]
    assert "may have 64 KiB at most" in report.findings[0].message


async def test_with_monitoring_a_store_that_may_be_cleared_is_found(
    nats_server: NatsServerFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jetq.operations.doctor.findings._TEMPORARY", {str(tmp_path)})
    server = nats_server('http: "127.0.0.1:-1"\n')
    async with deployment(server.url) as here:
        assert codes(await here.examine(monitors=[server.monitoring])) == [("warning", "temporary-store")]


async def test_dead_letters_are_a_fault_for_who_asks(nats_url: str) -> None:
    async with deployment(nats_url, worker=False) as here:

        @here.app.task(name="failing", max_attempts=1)
        async def failing() -> None:
            raise ValueError

        async with working(here.app):
            for _ in range(2):
                with pytest.raises(ValueError):
                    await (await failing.adelay()).await_()
            asked = {(0, None): 1, (1, None): 1, (2, None): 0, (0, 600.0): 1, (2, 600.0): 0, (0, 0.0): 0}
            for (most, within), found in asked.items():
                report = await here.examine(most_dead=most, dead_within=within)
                assert codes(report).count(("problem", "many-dead")) == found, (most, within)
            assert codes(await here.examine()) == [("note", "dead-letters")]


async def test_with_monitoring_a_single_copy_that_is_always_synced_counts_as_such(tmp_path: Path) -> None:
    config = f"jetstream {{ store_dir: {json.dumps(str(tmp_path / 'store'))}, sync_interval: always }}\n"
    server = NatsServer(tmp_path / "server", config=config + 'http: "127.0.0.1:-1"\n', jetstream=False)
    try:
        async with deployment(server.url) as here:
            assert (await here.examine()).durability.kind == "single"
            report = await here.examine(monitors=[server.monitoring])
            assert (report.durability.kind, codes(report)) == ("synced", [])
    finally:
        server.stop()


async def test_what_the_user_may_not_do_is_named_with_the_subject(nats_server: NatsServerFactory) -> None:
    server = nats_server(
        "authorization { users: ["
        " { user: all, password: all },"
        ' { user: some, password: some, permissions { publish { deny: ["*._result.>", "$JS.API.STREAM.LIST"] } } }'
        " ] }\n"
    )
    app = fresh(server.url.replace("//", "//all:all@"))
    weak = fresh(server.url.replace("//", "//some:some@"), namespace=app.settings.namespace)
    try:
        await (await app.session.broker()).setup("default")
        report = await examine(await weak.session.broker(), TASKS, replicas=1)
    finally:
        await app.session.aclose()
        await weak.session.aclose()
    denied = {finding.about: finding.message for finding in report.findings if finding.code == "no-permission"}
    assert denied == {
        f"{app.settings.namespace}._result.doctor": "the NATS user may not store results",
    }
    unseen = {finding.about: finding.message for finding in report.findings if finding.code == "not-examined"}
    assert unseen == {"$JS.API.STREAM.LIST": "the NATS user may not list the queues"}
    assert not report.healthy


async def test_a_clock_of_this_machine_that_is_off_is_found(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() - 120)
    async with deployment(nats_url, worker=False) as here:
        report = await here.examine()
    assert codes(report) == [("warning", "clock"), ("note", "no-worker")]
    assert report.findings[0].message.startswith("the clock of this machine is 2m behind the server's")


async def test_in_a_cluster_single_copies_and_servers_that_are_away_are_found(tmp_path: Path) -> None:
    cluster = NatsCluster(tmp_path)
    try:
        async with deployment(cluster.urls[0], worker=False, replicas=3) as here:
            report = await here.examine()
            assert (codes(report), report.durability.kind) == ([("note", "no-worker")], "replicated")
            leader = cluster.leader(here.stream("jobs"))
            away = next(node for node in cluster.nodes[1:] if node is not leader)
            away.stop()
            async with asyncio.timeout(30):
                while ("warning", "replica-offline") not in codes(report):
                    report = await here.examine()
            assert f"node-{cluster.nodes.index(away)} are away" in report.findings[0].message
            away.start()
        cluster.wait()
        async with deployment(cluster.urls[0], worker=False) as here:
            report = await here.examine()
            assert {code for _, code in codes(report)} == {"single-copy", "no-worker"}
    finally:
        cluster.stop()
