"""The ledger on a real server: its streams, their repair, and what a full, slow or forbidding server answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from jetq import Jetq
from jetq.broker.numbers import BATCH_LIMIT
from jetq.errors import (
    BrokerUnavailable,
    Denied,
    EnqueueError,
    NotSent,
    NotStored,
    PayloadTooLarge,
    Rejected,
    TopologyError,
)
from jetq.jetstream.broker import JetStreamBroker
from jetq.model.cell import NewEntry
from jetq.operations.doctor.examination import Report, examine
from tests.apps.working import fresh_app, until, working
from tests.faults.chaos.proxy import Proxy
from tests.servers import NatsServerFactory

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
DAY = 86_400_000_000_000


class Namespace:
    """An app's broker and its streams, which are looked at behind jetq's back."""

    def __init__(self, app: Jetq, broker: JetStreamBroker, client: Client) -> None:
        self.app = app
        self.broker = broker
        self.client = client
        self.prefix = app.settings.namespace.upper()

    async def api(self, name: str, body: Any = None) -> dict[str, Any]:
        data = b"" if body is None else json.dumps(body).encode()
        return dict(json.loads((await self.client.request(f"$JS.API.{name}", data, timeout=5)).data))

    async def streams(self) -> set[str]:
        subject = f"{self.app.settings.namespace}.>"
        return set((await self.api("STREAM.NAMES", {"subject": subject}))["streams"] or ())

    async def config(self, name: str) -> dict[str, Any]:
        return dict((await self.api(f"STREAM.INFO.{self.prefix}_{name}"))["config"])

    async def state(self, name: str = "JETQ_FLOWS") -> tuple[int, int]:
        """How many messages stand there, and the sequence of the last."""
        state = (await self.api(f"STREAM.INFO.{self.prefix}_{name}"))["state"]
        return state["messages"], state["last_seq"]

    async def delete(self, name: str) -> None:
        assert (await self.api(f"STREAM.DELETE.{self.prefix}_{name}"))["success"]

    async def examine(self) -> Report:
        return await examine(self.broker, {}, replicas=1)


@asynccontextmanager
async def namespace(url: str, server: str = "", *, name: str = "", **settings: Any) -> AsyncIterator[Namespace]:
    """A namespace of its own, or the one of that name. `server` is where it is looked at, if that is not `url`."""
    app = Jetq(url, namespace=name, **settings) if name else fresh_app(url, **settings)
    client = await nats.connect(server or url)
    try:
        broker = await app.session.broker()
        assert isinstance(broker, JetStreamBroker)
        yield Namespace(app, broker, client)
    finally:
        await client.close()
        await app.session.aclose()


async def test_the_streams_are_made_as_they_are_described(nats_url: str) -> None:
    async with namespace(nats_url) as here:
        assert list(await here.broker.setup_ledger()) == []
        name = here.app.settings.namespace
        flows, counts = await here.config("JETQ_FLOWS"), await here.config("JETQ_COUNTS")
        assert sorted(flows["subjects"]) == [f"{name}._flow.>", f"{name}._job.>", f"{name}._plan.>"]
        assert counts["subjects"] == [f"{name}._count.>"]
        both = {"storage": "file", "retention": "limits", "max_msgs_per_subject": 1, "allow_direct": True}
        both |= {"max_msgs": -1, "max_bytes": -1, "max_msg_size": -1, "discard": "old", "num_replicas": 1}
        own = both | {"allow_atomic": True, "allow_msg_ttl": True, "max_age": 0}
        assert flows | own == flows and not flows.get("allow_msg_counter")
        own = both | {"allow_msg_counter": True, "allow_msg_ttl": False, "max_age": 8 * DAY}
        assert counts | own == counts and not counts.get("allow_atomic")
        assert (flows["metadata"]["jetq"], counts["metadata"]["jetq"]) == ("flows", "counts")
        assert list(await here.broker.setup_ledger()) == []


async def test_plain_jobs_make_no_ledger_and_neither_does_reading_it(nats_url: str) -> None:
    async with namespace(nats_url) as here:

        @here.app.task(name="add", result_ttl=60)
        async def add(x: int) -> int:
            return x + 1

        async with working(here.app, queues=["default"]):
            assert await (await add.adelay(1)).aresult(timeout=30) == 2
    async with namespace(nats_url, name=here.app.settings.namespace) as again:
        assert await again.broker.read_entry("plan.*.f") is None
        assert await again.broker.read_entry("plan.*.f", surely=True) is None
        assert (await again.broker.standing_entries("flow.>")).names == ()
        assert not await again.broker.drop_entry(1)
        assert await again.broker.purge_entries("count.a.>") == 0
        kinds = {each.removeprefix(f"{again.prefix}_") for each in await again.streams()}
        assert kinds == {"DEFAULT_JOBS", "DEFAULT_DLQ", "JETQ_RESULTS", "JETQ_STATE"}


@pytest.mark.parametrize("verb", ["write_entry", "write_entries", "count_up"])
async def test_the_first_use_makes_both_streams_and_a_later_one_makes_a_deleted_one_anew(
    nats_url: str, verb: str
) -> None:
    async with namespace(nats_url) as here:

        async def use(name: str) -> int | None:
            if verb == "write_entry":
                return await here.broker.write_entry(f"flow.{name}", b"", expected=0)
            if verb == "count_up":
                return await here.broker.count_up(f"count.{name}", 1)
            return await here.broker.write_entries([NewEntry(f"flow.{name}.{n}", b"", expected=0) for n in range(2)])

        assert await use("a") is not None
        assert await here.streams() == {f"{here.prefix}_JETQ_FLOWS", f"{here.prefix}_JETQ_COUNTS"}
        stream = "JETQ_COUNTS" if verb == "count_up" else "JETQ_FLOWS"
        config = await here.config(stream)
        await here.delete(stream)
        assert await use("a") in (1, 2)
        again = await here.config(stream)
        assert {**again, "metadata": {}} == {**config, "metadata": {}}


async def test_what_differs_is_reported_and_left(nats_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with namespace(nats_url) as here:
        assert (await here.examine()).survey.streams[2:] == ()  # results and state, which are missing
        await here.broker.setup("default")
        await here.broker.setup_ledger()
        assert not [each for each in (await here.examine()).findings if each.severity != "note"]
        shown = {stream.role: stream for stream in (await here.examine()).survey.streams}
        assert shown["flows"].name == f"{here.prefix}_JETQ_FLOWS"
        assert (shown["counts"].state, shown["counts"].queue) == ("stands", "")

        for name, change in (("JETQ_FLOWS", {"max_age": DAY}), ("JETQ_COUNTS", {"max_age": DAY})):
            answer = await here.api(f"STREAM.UPDATE.{here.prefix}_{name}", {**await here.config(name), **change})
            assert "error" not in answer
        drift = [str(each) for each in await here.broker.setup_ledger()]
        assert drift == [
            f"stream {here.prefix}_JETQ_FLOWS: max_age is '86400 s', jetq needs '0 s'",
            f"stream {here.prefix}_JETQ_COUNTS: max_age is '86400 s', jetq needs '691200 s'",
        ]
        found = [(each.code, each.about) for each in (await here.examine()).findings if each.severity != "note"]
        assert found == [("drift", f"stream {here.prefix}_{name}") for name in ("JETQ_FLOWS", "JETQ_COUNTS")]
        await here.broker.write_entry("plan.q.f", b"")
        assert [record.getMessage() for record in caplog.records] == [f"drift: {each}" for each in drift]
        assert (await here.config("JETQ_FLOWS"))["max_age"] == DAY


async def test_a_stream_of_others_is_left_alone_and_named(nats_url: str) -> None:
    async with namespace(nats_url) as here:
        name = f"{here.prefix}_JETQ_COUNTS"
        made = await here.api(
            f"STREAM.CREATE.{name}", {"name": name, "subjects": [f"foreign.{name}"], "storage": "file"}
        )
        assert "error" not in made, made
        with pytest.raises(TopologyError, match=f"stream {name} exists and is not jetq's"):
            await here.broker.count_up("count.a", 1)
        await here.broker.setup("default")
        assert ("foreign-stream", name) in [(each.code, each.about) for each in (await here.examine()).findings]


async def test_a_full_ledger_refuses_and_drops_nothing(nats_url: str) -> None:
    async with namespace(nats_url, max_bytes=64 * MIB, workflow_max_bytes=MIB) as here:
        await here.broker.setup("default")
        await here.broker.write_entry("plan.q.f", b"first")
        flows, counts = await here.config("JETQ_FLOWS"), await here.config("JETQ_COUNTS")
        assert (flows["max_bytes"], flows["discard"]) == (MIB, "new")
        assert (counts["max_bytes"], counts["discard"]) == (MIB, "old")
        body, written = bytes(100_000), 0
        with pytest.raises(Rejected, match="maximum bytes exceeded") as full:
            while True:
                await here.broker.write_entry(f"flow.life1.page.{written}", body)
                written += 1
        assert "max_bytes" in str(full.value.hint)
        assert not isinstance(full.value, NotSent)
        with pytest.raises(Rejected, match="maximum bytes exceeded") as full:
            await here.broker.write_entries([NewEntry("flow.life1.size.a", b""), NewEntry("flow.life1.full.a", body)])
        assert "max_bytes" in str(full.value.hint)
        assert written >= 5
        standing = await here.broker.standing_entries("flow.>")
        assert sorted(standing.names) == sorted(f"flow.life1.page.{n}" for n in range(written))
        plan = await here.broker.read_entry("plan.q.f", surely=True)
        assert plan is not None and plan.body == b"first"
        found = {each.about: each.code for each in (await here.examine()).findings}
        assert found[f"{here.prefix}_JETQ_FLOWS"] in ("stream-low", "stream-full")
        assert await here.broker.purge_entries("flow.life1.page.0") == 1
        assert await here.broker.write_entry("flow.life1.full.a", body) is not None


async def test_counts_have_a_bound_of_their_own(nats_url: str) -> None:
    async with namespace(nats_url, max_bytes=1024 * MIB) as here:
        await here.broker.setup_ledger()
        assert (await here.config("JETQ_FLOWS"))["max_bytes"] == 1024 * MIB
        assert (await here.config("JETQ_COUNTS"))["max_bytes"] == 64 * MIB
        assert list(await here.broker.setup_ledger()) == []


async def test_an_answer_that_stays_too_old_says_so(nats_url: str) -> None:
    async with namespace(nats_url, connect_timeout=0.3) as here:
        assert (await here.broker.standing_entries("flow.>", at_least=1)).sequence == 0
        last = await here.broker.write_entry("flow.life1.size.a", b"")
        assert last is not None
        assert (await here.broker.standing_entries("flow.>", at_least=last + 1)).sequence == last
        assert (await here.broker.standing_entries("flow.>", at_least=last)).sequence == last


async def test_a_write_whose_answer_was_lost_is_refused_and_stands(nats_server: NatsServerFactory) -> None:
    server = nats_server()
    proxy = Proxy(server.port)
    await proxy.start()
    try:
        async with namespace(proxy.url, server.url) as here:
            assert await here.broker.write_entry("plan.q.before", b"") == 1
            proxy.hold(up=False, down=True)
            writing = asyncio.create_task(here.broker.write_entry("plan.q.f", b"mine", expected=0))
            async with asyncio.timeout(15):
                while await here.state() == (1, 1):
                    await asyncio.sleep(0.02)
            proxy.reset()
            proxy.heal()
            assert await writing is None
            plan = await here.broker.read_entry("plan.q.f", surely=True)
            assert plan is not None and plan.body == b"mine"
            assert await here.state() == (2, 2)
    finally:
        await proxy.stop()


async def test_several_whose_answer_was_lost_are_not_sent_again(nats_server: NatsServerFactory) -> None:
    server = nats_server()
    proxy = Proxy(server.port)
    await proxy.start()
    try:
        async with namespace(proxy.url, server.url) as here:
            assert await here.broker.write_entry("plan.q.before", b"") == 1
            proxy.hold(up=False, down=True)
            entries = [NewEntry("plan.q.f", b"mine"), NewEntry("flow.life1.size.a", b"2")]
            writing = asyncio.create_task(here.broker.write_entries(entries))
            async with asyncio.timeout(15):
                while await here.state() == (1, 1):
                    await asyncio.sleep(0.02)
            proxy.reset()
            proxy.heal()
            with pytest.raises(NotStored) as lost:
                await writing
            assert "read what stands" in str(lost.value.hint)
            assert len((await here.broker.standing_entries("flow.>")).names) == 1
            assert await here.state() == (3, 3)
    finally:
        await proxy.stop()


async def test_without_a_server_nothing_is_sent_or_stored_later(nats_server: NatsServerFactory) -> None:
    server = nats_server()
    app = fresh_app(server.url, publish_timeout=0.5, connect_timeout=0.5)
    broker = await app.session.broker()
    try:
        assert await broker.write_entry("plan.q.before", b"") == 1
        server.stop()
        assert isinstance(broker, JetStreamBroker)
        await until(lambda: not broker.connection.connected)
        entries = [NewEntry("plan.q.f", b""), NewEntry("plan.q.g", b"")]
        large = [NewEntry(f"flow.life1.page.{n}", bytes(1_000_000)) for n in range(10)]  # more than is held for later
        for several in (entries, large):
            with pytest.raises(NotSent):
                await broker.write_entries(several)
        with pytest.raises(NotSent):
            await broker.write_entry("plan.q.f", b"")
        with pytest.raises(BrokerUnavailable):
            await broker.standing_entries("plan.>")
        server.start()
        async with asyncio.timeout(15):
            while True:
                try:
                    assert await broker.write_entries(entries) == 3
                    break
                except EnqueueError:
                    pass
    finally:
        await app.session.aclose()


async def test_several_that_begin_without_a_connection_are_written_once_it_is_back(
    nats_server: NatsServerFactory,
) -> None:
    server = nats_server()
    async with namespace(server.url) as here:
        assert await here.broker.write_entry("plan.q.before", b"") == 1
        server.stop()
        await until(lambda: not here.broker.connection.connected)
        entries = [NewEntry("plan.q.f", b"", expected=0), NewEntry("plan.q.g", b"", expected=0)]
        writing = asyncio.create_task(here.broker.write_entries(entries))
        await asyncio.sleep(0)
        server.start()
        assert await writing == 3
        assert len((await here.broker.standing_entries("plan.>")).names) == 3


USERS = """
authorization {
  users: [
    { user: admin, password: x }
    { user: worker, password: x, permissions: {
      publish: { allow: ["$JS.API.STREAM.>", "$JS.API.INFO", "_INBOX.>", "*._flow.*.mark.>"] } } }
  ]
}
"""


async def test_who_may_not_write_is_told_the_subject_at_once(nats_server: NatsServerFactory) -> None:
    server = nats_server(USERS)
    admin, worker = (server.url.replace("//", f"//{user}:x@") for user in ("admin", "worker"))
    async with namespace(worker, admin) as here:
        await here.broker.setup_ledger()
        name = here.app.settings.namespace
        mark, end = NewEntry("flow.Life1.mark.a.0.0.ok", b""), NewEntry("flow.Life1.state.end", b"")
        async with asyncio.timeout(5):  # half of what a write may take
            for entries in ([mark, end], [end, mark], [end]):
                with pytest.raises(Denied) as denied:
                    await here.broker.write_entries(entries)
                assert denied.value.subject == f"{name}._flow.Life1.state.end"
            with pytest.raises(Denied) as denied:
                await here.broker.count_up("count.Life1.a", 1)
            assert denied.value.subject == f"{name}._count.Life1.a"
        assert (await here.broker.standing_entries("flow.>")).names == ()
        assert await here.broker.write_entries([mark, NewEntry("flow.Life1.mark.a.0.1.ok", b"")]) == 2


async def test_what_is_to_be_read_surely_is_asked_of_the_leader(nats_server: NatsServerFactory) -> None:
    """A direct get may be answered by any replica: this user may not make one."""
    server = nats_server(USERS)
    admin, worker = (server.url.replace("//", f"//{user}:x@") for user in ("admin", "worker"))
    async with namespace(worker, admin) as here:
        assert await here.broker.write_entry("flow.life1.mark.a.0.0.ok", b"") == 1
        with pytest.raises(Denied) as denied:
            await here.broker.read_entry("flow.life1.mark.>")
        assert denied.value.subject == f"$JS.API.DIRECT.GET.{here.prefix}_JETQ_FLOWS"
        entry = await here.broker.read_entry("flow.life1.mark.>", surely=True)
        assert entry is not None and entry.sequence == 1


async def test_a_limit_that_is_lower_than_an_entry_is_told_before_anything_is_sent(
    nats_server: NatsServerFactory,
) -> None:
    server = nats_server("max_payload: 64KB\n")
    async with namespace(server.url) as here:
        with pytest.raises(PayloadTooLarge, match="the server takes 65,536"):
            await here.broker.write_entries([NewEntry("flow.a.page.0", bytes(65_500)), NewEntry("flow.a.page.1", b"")])
        with pytest.raises(PayloadTooLarge, match="the server takes 65,536"):
            await here.broker.write_entry("flow.a.page.0", bytes(65_537))
        assert await here.broker.write_entry("flow.a.page.0", bytes(65_500)) == 1


async def test_the_server_takes_no_more_at_once_than_is_written_at_once(nats_url: str) -> None:
    async with namespace(nats_url) as here:
        entries = [NewEntry(f"flow.a.page.{n}", b"") for n in range(BATCH_LIMIT)]
        assert await here.broker.write_entries(entries) == BATCH_LIMIT
        assert await here.state() == (BATCH_LIMIT, BATCH_LIMIT)
