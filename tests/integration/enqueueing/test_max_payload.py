"""The server's limit of a message: the largest that there is, and one that is lowered and raised again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from jetq import Jetq, Job, NotStored, PayloadTooLarge, Snooze, Worker
from jetq.broker.numbers import HEADROOM
from jetq.jetstream.streams import payload_limit
from jetq.jetstream.transport import connection as connecting
from jetq.jetstream.transport.connection import Connection
from jetq.model import oversized
from jetq.operations.doctor.examination import examine
from jetq.settings import Settings
from tests.apps.working import fresh_app, until, working
from tests.faults.chaos.proxy import Proxy
from tests.servers import NatsServer, NatsServerFactory

pytestmark = pytest.mark.anyio

SMALL, LARGE = "max_payload: 1MB", "max_payload: 8MB"
BIG = "x" * 2_000_000


@pytest.fixture
def server(nats_server: NatsServerFactory) -> NatsServer:
    """Takes messages of 8 MB, and is about to be told that one may have 1 MB."""
    return nats_server(LARGE)


def restart(server: NatsServer, config: str) -> None:
    server.stop()
    server.configure(config)
    server.start()


class Ran:
    """An app with tasks of large arguments, and which of them ran at which attempt."""

    def __init__(self, url: str) -> None:
        self.app = fresh_app(url, ack_wait=3.0)
        self.starts: list[tuple[str, int]] = []
        self.fails = 0

        @self.app.task(name="takes", wait=0.2, max_attempts=3)
        async def takes(data: str, name: str) -> int:
            self.starts.append((name, len(self.starts_of(name)) + 1))
            if name == "fails" and len(self.starts_of(name)) <= self.fails:
                raise ValueError("not yet")
            if name == "snoozes" and len(self.starts_of(name)) == 1:
                raise Snooze(0.3)
            if name == "hangs" and len(self.starts_of(name)) == 1:
                await asyncio.Event().wait()
            return len(data)

        self.takes = takes

    def starts_of(self, name: str) -> list[int]:
        return [start for each, start in self.starts if each == name]

    async def store(self, *names: str) -> list[Job[int]]:
        jobs = [await self.takes.adelay(BIG, name) for name in names]
        await self.app.session.aclose()
        return jobs


@asynccontextmanager
async def lowered(server: NatsServer, ran: Ran, *names: str, **options: Any) -> AsyncIterator[Worker]:
    """A worker of a server that took jobs of these names, and takes none of their size any more."""
    await ran.store(*names)
    restart(server, SMALL)
    async with working(ran.app, **options) as worker:
        yield worker


async def test_the_most_that_is_taken_is_found_again(nats_server: NatsServerFactory) -> None:
    """JetStream stores less than a server with so high a limit takes."""
    app = fresh_app(nats_server("max_payload: 64MB").url, connect_timeout=30.0)
    try:
        most = (await app.session.broker()).connection.max_payload - HEADROOM  # type: ignore[attr-defined]
        with pytest.raises(PayloadTooLarge):
            await app.asend("takes", {"data": "x" * most})
        job = await app.asend("takes", {"data": "x" * (most - len('{"data":""}'))})
        assert await job.astatus() == "queued"
    finally:
        await app.session.aclose()


async def test_what_stands_from_before_is_run_or_tried_again_and_its_neighbours_run(server: NatsServer) -> None:
    """Guarantee: a job that is larger than what the server takes now is run like any other, and retried as often as
    its task says."""
    ran = Ran(server.url)
    ran.fails = 2
    async with lowered(server, ran, "runs", "fails", "snoozes"):
        small = [await ran.takes.adelay("x", f"small-{n}") for n in range(20)]
        assert [await job.aresult(timeout=30) for job in small] == [1] * 20
        await until(lambda: ran.starts_of("fails") == [1, 2, 3], 30.0)
        await until(lambda: ran.starts_of("snoozes") == [1, 2], 30.0)
        assert ran.starts_of("runs") == [1]
        broker = await ran.app.session.broker()
        async with asyncio.timeout(30):
            while await broker.stored_jobs("default"):
                await asyncio.sleep(0.02)
        assert await broker.dead("default") == []
        assert await broker.oldest_cell(f"{oversized.KEPT}.default") is None


async def test_what_is_dead_and_fits_nowhere_stays_is_not_run_again_and_is_buried_when_there_is_room(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Guarantee: a dead job is never lost for want of room: it stays, is not run again, and is in the dead letters with
    its bytes and its reason once they take it."""
    monkeypatch.setattr(oversized, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(oversized, "LAST_PAUSE", 0.4)
    ran = Ran(server.url)
    ran.fails = 10

    def said() -> list[str]:
        return [each.getMessage() for each in caplog.records if "though dead (failed)" in each.getMessage()]

    with caplog.at_level(logging.WARNING):
        async with lowered(server, ran, "fails"):
            await until(lambda: len(said()) >= 4, 30.0)
            assert ran.starts_of("fails") == [1, 2, 3]
            assert await (await ran.takes.adelay("x", "small")).aresult(timeout=30) == 1
            broker = await ran.app.session.broker()
            report = await examine(broker, {}, replicas=1)
            assert [each.about for each in report.findings if each.code == "no-room"] == ["default"]
            restart(server, LARGE)
            async with asyncio.timeout(30):
                while not (entries := await broker.dead("default")):
                    await asyncio.sleep(0.05)
                while await broker.stored_jobs("default"):
                    await asyncio.sleep(0.05)
    assert ran.starts_of("fails") == [1, 2, 3]
    (entry,) = entries
    assert BIG.encode() in entry.body
    assert (entry.letter.reason, entry.letter.failure.type, entry.letter.attempt) == (
        "failed",
        "builtins.ValueError",
        3,
    )
    assert len(entry.letter.errors) == 3
    assert "raise max_payload" in said()[0]


async def test_what_is_interrupted_by_a_stop_goes_back_and_runs_again(server: NatsServer) -> None:
    ran = Ran(server.url)
    async with lowered(server, ran, "hangs", grace=0.1) as worker:
        await until(lambda: ran.starts_of("hangs") == [1])
        worker.stop()
    async with working(ran.app):
        await until(lambda: ran.starts_of("hangs") == [1, 2], 30.0)


@pytest.mark.parametrize("how", ["reload", "restart"])
async def test_a_producer_is_told_and_loses_no_connection_over_it(server: NatsServer, how: str) -> None:
    """Guarantee: what a server takes no more is refused at its first or second sight, whenever that was changed."""
    ran = Ran(server.url)
    try:
        await ran.takes.adelay(BIG, "before")
        broker = await ran.app.session.broker()
        lost = 0

        def count() -> None:
            nonlocal lost
            lost += 1

        if how == "reload":
            server.configure(SMALL)
            server.reload()
            async with asyncio.timeout(30):
                while "Reloaded: max_payload" not in server.log:
                    await asyncio.sleep(0.02)
        else:
            restart(server, SMALL)
            await ran.takes.adelay("x", "between")
        broker.connection.on_down(count)  # type: ignore[attr-defined]
        for _ in range(3):
            with pytest.raises(PayloadTooLarge):
                await ran.takes.adelay(BIG, "after")
        assert lost <= 1
        await ran.takes.adelay("x", "small")

        restart(server, LARGE)
        await ran.takes.adelay("x", "small")
        await ran.takes.adelay(BIG, "again")
    finally:
        await ran.app.session.aclose()


async def test_a_repeat_that_is_too_large_tells_nothing_of_the_first(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee: that a repeat was refused for its size says nothing of what was sent before: it may have run."""
    ran = Ran(server.url)
    await ran.takes.adelay("x", "first")
    namespace = ran.app.settings.namespace
    proxy = Proxy(server.port)
    await proxy.start()
    app = Jetq(proxy.url, namespace=namespace, publish_timeout=30.0)
    await app.asend("takes", {"data": "x", "name": "second"})
    proxy.hold(up=False, down=True)
    enqueueing = asyncio.create_task(app.asend("takes", {"data": BIG, "name": "ghost"}, result_ttl=None))
    async with working(ran.app):
        await until(lambda: ran.starts_of("ghost") == [1], 30.0)
        broker = await ran.app.session.broker()
        async with asyncio.timeout(30):
            while await broker.stored_jobs("default"):
                await asyncio.sleep(0.02)
    server.configure(SMALL)
    server.reload()
    async with asyncio.timeout(30):
        while "Reloaded: max_payload" not in server.log:
            await asyncio.sleep(0.02)
    connection = (await app.session.broker()).connection  # type: ignore[attr-defined]
    lost, losses = connection._lost, 0

    def lose(reason: str, pause: float) -> None:
        """What the server says as it hangs up does not come through the proxy."""
        nonlocal losses
        losses += 1
        lost("maximum payload violation" if losses == 2 else reason, pause)

    def as_before(data: bytes) -> bytes:
        """What the next connection is told, as if the limit were lowered once it stands."""
        return data.replace(b'"max_payload":1048576', b'"max_payload":8388608') if losses < 2 else data

    monkeypatch.setattr(connection, "_lost", lose)
    proxy.reset()  # the confirmation is lost
    proxy.heal()
    proxy.lie(as_before)
    try:
        with pytest.raises(NotStored):
            await enqueueing
        assert losses == 2
    finally:
        await app.session.aclose()
        await proxy.stop()


async def test_a_limit_that_is_raised_without_a_restart_is_noticed(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payload_limit, "_BELIEVED", 0.0)
    restart(server, SMALL)
    ran = Ran(server.url)
    try:
        with pytest.raises(PayloadTooLarge):
            await ran.takes.adelay(BIG, "before")
        server.configure(LARGE)
        server.reload()
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(PayloadTooLarge):
                    await ran.takes.adelay(BIG, "after")
                    break
                await asyncio.sleep(0.05)
    finally:
        await ran.app.session.aclose()


async def test_a_connection_that_is_lost_again_and_again_is_made_ever_later(
    nats_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Guarantee: a connection that never stands for long is not made anew in a loop."""
    monkeypatch.setattr(connecting, "_FIRST_BACKOFF", 0.01)
    monkeypatch.setattr(connecting, "_LAST_BACKOFF", 0.06)
    connection = await Connection.open(Settings(servers=(nats_url,)), name="test")

    async def lose() -> str:
        async with asyncio.timeout(30):
            while (client := connection.client) is None:
                await asyncio.sleep(0.01)
            caplog.clear()
            client.drop("a test")
            while not caplog.messages:
                await asyncio.sleep(0.01)
        return caplog.messages[0].partition("; ")[2]

    try:
        with caplog.at_level(logging.WARNING, "jetq.connection"):
            said = [await lose() for _ in range(5)]
            assert said == [f"connecting again in {pause} s" for pause in ("0.01", "0.02", "0.04", "0.06", "0.06")]
            monkeypatch.setattr(connecting, "_STEADY", 0.0)
            assert [await lose() for _ in range(2)] == ["connecting again"] * 2
    finally:
        await connection.close()
