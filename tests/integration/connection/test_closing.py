"""The end of a connection: with and without its server, its loop, or its process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from jetq.errors import BrokerUnavailable
from jetq.jetstream.transport.connection import Connection, NoReply
from jetq.jetstream.transport.message import Message
from jetq.settings import Settings
from tests.integration.connection.watched import watched
from tests.servers import NatsServerFactory

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]


async def test_closing(nats_url: str) -> None:
    async with watched(nats_url) as other, watched(nats_url) as self:
        for _ in range(200):
            self.connection.send("test.last", bytes(1000))
        started = time.monotonic()
        await asyncio.gather(self.connection.close(), self.connection.close())
        assert time.monotonic() - started < 2.0
        assert self.connection.closed and not self.connection.connected
        await other.until(lambda s: len(s.got) == 200, 5.0)
        for use in (
            lambda: self.connection.publish("test.x", b""),
            lambda: self.connection.request("test.x", timeout=1.0),
            lambda: self.connection.subscribe("test.x", lambda msg: None),
            lambda: self.connection.ping(1.0),
        ):
            with pytest.raises(BrokerUnavailable, match="the connection to NATS was closed"):
                await use()


async def test_closing_while_the_server_is_gone(nats_server: NatsServerFactory) -> None:
    server = nats_server()
    async with watched(server.url) as self:
        server.kill()
        await self.until(lambda s: s.downs == 1, 5.0)
        waiting = asyncio.create_task(self.connection.request("test.x", timeout=30.0))
        await asyncio.sleep(0.3)
        started = time.monotonic()
        await self.connection.close()
        assert time.monotonic() - started < 2.0
        with pytest.raises(NoReply, match="the connection was closed"):
            await waiting


async def test_closing_while_the_server_is_paused(nats_server: NatsServerFactory) -> None:
    server = nats_server()
    async with watched(server.url) as self:
        server.pause()
        await self.connection.publish("test.x", bytes(1_000_000))
        started = time.monotonic()
        await self.connection.close()
        assert time.monotonic() - started < 2.0
        server.resume()


async def test_closing_from_a_handler(nats_url: str) -> None:
    connection = await Connection.open(Settings(servers=(nats_url,)), name="test")
    closed = asyncio.Event()

    async def handle(msg: Message) -> None:
        await connection.close()
        closed.set()

    await connection.subscribe("end", handle)
    await connection.publish("end", b"")
    async with asyncio.timeout(5.0):
        await closed.wait()


async def run(program: str) -> str:
    """What the program printed. It must exit with 0 and without a traceback."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(program), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert b"Traceback" not in err, err.decode()
    return out.decode()


async def test_a_loop_that_ends_without_closing(nats_url: str) -> None:
    said = await run(f"""
        import asyncio
        from jetq.jetstream.transport.connection import Connection
        from jetq.settings import Settings

        async def main():
            connection = await Connection.open(Settings(servers=({nats_url!r},)), name="test")
            async def handle(msg): pass
            await connection.subscribe("x", handle)
            await connection.publish("x", b"")
            return connection

        for _ in range(2):
            kept = asyncio.run(main())
        loop = asyncio.new_event_loop()
        kept = loop.run_until_complete(main())
        loop.close()
        print("fine")
    """)
    assert said == "fine\n"


FORK_IMPORTS = """
import asyncio, os
from jetq.jetstream.transport.connection import Connection
from jetq.settings import Settings
"""
FORK_WITHIN = """
    connection = await Connection.open(Settings(servers=(URL,)), name="test")
    await connection.ping(5.0)
    child = os.fork()
    if child == 0:
        raise SystemExit(0)  # unwinds the child's copy of the loop
    os.waitpid(child, 0)
    await connection.ping(5.0)
    await connection.close()
"""
FORK_BETWEEN = """
with asyncio.Runner() as runner:
    connection = runner.run(Connection.open(Settings(servers=(URL,)), name="test"))
    runner.run(connection.ping(5.0))
    child = os.fork()
    if child == 0:
        raise SystemExit(0)  # closes the child's copy of the loop
    os.waitpid(child, 0)
    runner.run(connection.ping(5.0))
    runner.run(connection.close())
"""
FORKS = {"between": FORK_BETWEEN}
if sys.version_info < (3, 14):  # whose loop never ends in a child of its own: the child has no running loop and no task
    FORKS["within"] = f"async def main():{FORK_WITHIN}\nasyncio.run(main())"


@pytest.mark.parametrize("fork", FORKS)
async def test_a_forked_child_does_not_cut_its_parents_connection(fork: str, nats_url: str) -> None:
    said = await run(f"{FORK_IMPORTS}URL = {nats_url!r}\n{FORKS[fork]}\nprint('fine')")
    assert said == "fine\n"
