"""A hub and a leaf node in one account: each job is stored and run once, or somebody is told why not."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest

from jetq import Jetq
from jetq.broker import Broker
from jetq.cli.verbs.setup_acl import permissions
from jetq.errors import BrokerUnavailable, JobNotFound, TopologyError
from jetq.jetstream.transport.connection import Connection
from jetq.operations.doctor.examination import Report, examine
from jetq.settings import Settings
from tests.apps.working import working
from tests.servers import NatsLeaf, NatsServer

pytestmark = pytest.mark.anyio


def noted() -> None: ...


@pytest.fixture
def two(tmp_path: Path) -> Iterator[NatsLeaf]:
    """A hub and a leaf with a domain each."""
    servers = NatsLeaf(tmp_path)
    yield servers
    servers.stop()


@asynccontextmanager
async def broker_of(app: Jetq) -> AsyncIterator[Broker]:
    try:
        yield await app.session.broker()
    finally:
        await app.session.aclose()


async def make_by_hand(server: NatsServer, copied: NatsServer, stream: str) -> None:
    """Make a stream on `server` as it stands on `copied`, past what jetq refuses."""
    client, other = await nats.connect(server.url), await nats.connect(copied.url)
    config = json.loads((await other.request(f"$JS.API.STREAM.INFO.{stream}", timeout=5)).data)["config"]
    answer = json.loads((await client.request(f"$JS.API.STREAM.CREATE.{stream}", json.dumps(config).encode())).data)
    await client.close()
    await other.close()
    assert "error" not in answer


async def examined(app: Jetq) -> Report:
    async with broker_of(app) as broker:
        return await examine(broker, {"default": []}, replicas=1)


async def test_a_queue_that_stands_in_another_domain_is_refused_before_it_is_made(two: NatsLeaf) -> None:
    """Guarantee: a hub and a leaf node of one account never both store the jobs of a queue without a word."""
    async with broker_of(Jetq(two.hub.url)) as hub:
        await hub.setup("default")
    for _ in range(2):  # it was not made the first time
        async with broker_of(Jetq(two.leaf.url)) as leaf:
            with pytest.raises(
                TopologyError, match=r"another JetStream domain .* stream DEFAULT_JOBS .*domain 'leaf'"
            ) as e:
                await leaf.setup("default")
        assert "jetstream_domain" in str(e.value.hint)
    async with broker_of(Jetq(two.hub.url)) as hub:  # which is not disturbed
        await hub.setup("default")


async def test_it_is_refused_also_where_the_hub_has_no_domain(tmp_path: Path) -> None:
    servers = NatsLeaf(tmp_path, hub="")
    for first, second in ((servers.hub, servers.leaf), (servers.leaf, servers.hub)):
        namespace = "hub-first" if first is servers.hub else "leaf-first"
        async with broker_of(Jetq(first.url, namespace=namespace)) as broker:
            await broker.setup("default")
        async with broker_of(Jetq(second.url, namespace=namespace)) as broker:
            with pytest.raises(TopologyError, match="another JetStream domain"):
                await broker.setup("default")
    servers.stop()


async def test_the_state_of_a_namespace_in_two_domains_is_refused_too(two: NatsLeaf) -> None:
    async with broker_of(Jetq(two.hub.url)) as hub:
        await hub.setup("one")
    async with broker_of(Jetq(two.leaf.url)) as leaf:
        with pytest.raises(TopologyError, match=r"another JetStream domain .* stream JETQ_STATE"):
            await leaf.setup("other")


async def test_what_stands_in_both_is_refused_by_both_and_doctor_says_so(two: NatsLeaf) -> None:
    async with broker_of(Jetq(two.hub.url)) as hub:
        await hub.setup("default")
        assert "two-domains" not in [finding.code for finding in (await examined(Jetq(two.hub.url))).findings]
        await make_by_hand(two.leaf, two.hub, "DEFAULT_JOBS")
    for server in (two.hub, two.leaf):
        async with broker_of(Jetq(server.url)) as broker:
            with pytest.raises(TopologyError, match="another JetStream domain"):
                await broker.setup("default")
        (found,) = [each for each in (await examined(Jetq(server.url))).findings if each.code == "two-domains"]
        assert found.severity == "problem"
        assert "DEFAULT_JOBS" in found.about


@pytest.mark.parametrize("line", [False, True], ids=["crossing", "direct line"])
async def test_a_second_stream_that_comes_later_is_told_with_the_next_job(
    two: NatsLeaf, caplog: pytest.LogCaptureFixture, line: bool
) -> None:
    app = Jetq(two.hub.url)
    task = app.task(name="noted")(noted)
    async with broker_of(app):
        await task.adelay()
        if line:
            await asyncio.to_thread(task.delay)
        await make_by_hand(two.leaf, two.hub, "DEFAULT_JOBS")

        def told() -> list[logging.LogRecord]:
            return [each for each in caplog.records if "of JetStream domain 'leaf'" in each.getMessage()]

        async with asyncio.timeout(60):
            while not told():
                await (asyncio.to_thread(task.delay) if line else task.adelay())
        assert told()[0].levelno == logging.ERROR
        await asyncio.to_thread(app.session.close)


async def test_with_its_domain_named_the_hubs_jetstream_is_used_from_the_leaf(two: NatsLeaf) -> None:
    """Guarantee: with `jetstream_domain` jobs enqueued and run from hub and leaf run once."""
    ran: list[int] = []

    def note(n: int) -> int:
        ran.append(n)
        return n

    apps = [Jetq(two.leaf.url, jetstream_domain="hub"), Jetq(two.hub.url), Jetq(two.hub.url, jetstream_domain="hub")]
    tasks = [app.task(name="note")(note) for app in apps]
    async with working(apps[0]), working(apps[1]):
        jobs = [await task.adelay(n) for n, task in enumerate(tasks)]
        keyed = [await task.options(key="one", delay=0.5).adelay(9) for task in tasks]
        assert len({job.id for job in keyed}) == 1
        assert [await job.aresult(timeout=60) for job in jobs] == [0, 1, 2]
        assert await keyed[0].aresult(timeout=60) == 9
        assert await jobs[0].astatus() == "succeeded"
        with pytest.raises(JobNotFound):  # also where what is not there is silent
            await apps[0].job("unknown").astatus()
    assert sorted(ran) == [0, 1, 2, 9]
    for app in apps:
        await app.session.aclose()
    assert "two-domains" not in [each.code for each in (await examined(apps[0])).findings]


async def test_a_domain_that_is_not_there_is_named(two: NatsLeaf) -> None:
    with pytest.raises(BrokerUnavailable, match="no JetStream of domain 'elsewhere' answers there"):
        await Jetq(two.leaf.url, jetstream_domain="elsewhere").session.broker()


async def test_a_lost_connection_is_not_made_anew_to_another_domain(
    two: NatsLeaf, caplog: pytest.LogCaptureFixture
) -> None:
    connection = await Connection.open(Settings(servers=(two.hub.url, two.leaf.url)), name="test")
    first, other = (two.hub, two.leaf) if connection.domain == "hub" else (two.leaf, two.hub)
    first.kill()
    async with asyncio.timeout(60):
        while "its JetStream is that of domain" not in caplog.text:
            await asyncio.sleep(0.05)
        assert not connection.connected
        first.start()
        while not connection.connected:
            await asyncio.sleep(0.05)
    assert connection.client is not None
    assert connection.client.connected_url is not None
    assert connection.client.connected_url.port == first.port != other.port
    await connection.close()


async def test_a_leaf_without_jetstream_uses_that_of_the_domain(tmp_path: Path) -> None:
    servers = NatsLeaf(tmp_path, leaf=None)
    with pytest.raises(BrokerUnavailable, match="JetStream is off there") as off:
        await Jetq(servers.leaf.url).session.broker()
    assert "jetstream_domain" in str(off.value.hint)
    async with broker_of(Jetq(servers.leaf.url, jetstream_domain="hub")) as broker:
        await broker.setup("default")
    servers.stop()


async def test_permissions_follow_the_domain(two: NatsLeaf) -> None:
    app = Jetq(two.leaf.url, jetstream_domain="hub")
    app.task(name="noted")(noted)
    for allowed in permissions(app).values():
        assert "$JS.hub.API.INFO" in allowed.publish
        assert not [subject for subject in allowed.publish if subject.startswith("$JS.API")]
