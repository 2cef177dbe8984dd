"""Every way in which connecting fails: one sentence and a hint, in time."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import nkeys
import pytest

from jetq.errors import BrokerUnavailable, SettingsError
from jetq.jetstream.transport.connection import Connection
from jetq.jetstream.transport.nats_client import NatsClient
from jetq.settings import Settings
from tests.integration.connection.impostor import Impostor, impostor, pretend_nats
from tests.integration.connection.opening import failure, works
from tests.integration.security.nats_operator import new_seed, operator_configuration, public_key, write_credentials
from tests.servers import NatsServerFactory

pytestmark = pytest.mark.anyio


@pytest.fixture
def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- nothing there


async def test_nothing_listens(free_port: int) -> None:
    error = await failure(within=0.5, servers=(f"nats://bob:canary@127.0.0.1:{free_port}",))
    assert isinstance(error, BrokerUnavailable)
    assert str(error) == (
        f"cannot connect to NATS at nats://127.0.0.1:{free_port}: connection refused\n"
        "hint: start a server with `jetq server`, or set NATS_URL to yours"
    )


async def test_nothing_listens_on_any_address_of_a_name(free_port: int) -> None:
    error = await failure(within=0.5, servers=(f"nats://localhost:{free_port}",))
    assert error.message == f"cannot connect to NATS at nats://localhost:{free_port}: connection refused"


async def test_no_such_host() -> None:
    error = await failure(servers=("nats://no-such-host.invalid:4222",))
    assert (
        error.message == "cannot connect to NATS at nats://no-such-host.invalid:4222: its host name cannot be resolved"
    )


async def test_none_of_several_servers(free_port: int) -> None:
    error = await failure(servers=(f"nats://127.0.0.1:{free_port}", "nats://no-such-host.invalid:4222"))
    assert error.message == (
        f"cannot connect to any NATS server: nats://127.0.0.1:{free_port}: connection refused; "
        "nats://no-such-host.invalid:4222: its host name cannot be resolved"
    )


async def test_one_of_several_servers_is_enough(free_port: int, nats_url: str) -> None:
    for _ in range(4):  # the order is random
        await works(servers=(f"nats://127.0.0.1:{free_port}", nats_url))


# --- something else there


async def test_a_server_that_speaks_something_else() -> None:
    async def ssh(self: Impostor, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2p1\r\n")

    async with impostor(ssh) as server:
        error = await failure(within=0.5, servers=(server.url,), token="canary")
        assert error.message == f"cannot connect to NATS at {server.url}: what answers there is not a NATS server"
        assert b"canary" not in server.heard


async def test_a_server_that_says_nothing() -> None:
    async def silent(self: Impostor, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        return

    async with impostor(silent) as server:
        error = await failure(within=1.0, servers=(server.url,), connect_timeout=1.0, token="canary")
        assert error.message == (
            f"cannot connect to NATS at {server.url}: it did not greet like a NATS server within 1 s"
        )
        assert server.heard == b""


async def test_a_server_that_hangs_up() -> None:
    async def hang_up(self: Impostor, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with impostor(hang_up) as server:
        error = await failure(within=0.5, servers=(server.url,))
        assert (
            error.message == f"cannot connect to NATS at {server.url}: it hung up without greeting like a NATS server"
        )


async def test_garbage_and_endless_greetings() -> None:
    for greeting in (b"INFO {\r\n", b"INFO []\r\n", b"x" * 200_000, b"INFO \xff\r\n", b"\r\n"):

        async def garble(
            self: Impostor, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, greeting: bytes = greeting
        ) -> None:
            writer.write(greeting)

        async with impostor(garble) as server:
            error = await failure(within=1.0, servers=(server.url,), connect_timeout=1.0)
            assert isinstance(error, BrokerUnavailable), greeting
            assert error.message.endswith("what answers there is not a NATS server"), greeting


async def test_a_server_that_greets_and_stops() -> None:
    async def greet(self: Impostor, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"version":"2.15.1","headers":true}\r\n')

    async with impostor(greet) as server:
        error = await failure(within=1.0, servers=(server.url,), connect_timeout=1.0)
        assert error.message.endswith("it did not finish the handshake within 1 s")


async def test_a_server_that_says_no() -> None:
    async def full(self: Impostor, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"version":"2.15.1","headers":true}\r\n')
        await reader.readline()
        writer.write(b"-ERR 'maximum connections exceeded'\r\n")

    async with impostor(full) as server:
        error = await failure(within=0.5, servers=(server.url,))
        assert error.message.endswith(": the server said: maximum connections exceeded")


# --- a NATS server that jetq cannot use


@pytest.mark.parametrize("version", ["2.9.10", "2.13.99", "1.4.1", "v2.12.0-beta"])
async def test_a_server_that_is_too_old(version: str) -> None:
    async with impostor(pretend_nats(version=version)) as server:
        error = await failure(within=0.5, servers=(server.url,))
        assert error.message == (
            f"cannot connect to NATS at {server.url}: it is NATS {version}, and jetq needs 2.14 or newer"
        )


@pytest.mark.parametrize("version", ["2.14.0", "2.15.0-preview.1", "3.0.0"])
async def test_a_server_that_is_new_enough(version: str) -> None:
    async with impostor(pretend_nats(version=version)) as server:
        connection = await Connection.open(Settings(servers=(server.url,)), name="test")
        assert connection.server_version >= (2, 14, 0)
        await connection.close()


async def test_jetstream_is_off(nats_server: NatsServerFactory) -> None:
    server = nats_server(jetstream=False)
    error = await failure(within=0.5, servers=(server.url,))
    assert error.message == f"cannot connect to NATS at {server.url}: JetStream is off there"
    assert error.hint is not None and "nats-server -js" in error.hint


async def test_jetstream_is_off_for_the_account(nats_server: NatsServerFactory) -> None:
    server = nats_server("accounts { A { users: [ { user: bob, password: pw } ] } }")
    error = await failure(within=0.5, servers=(server.url,), user="bob", password="pw")
    assert "JetStream" in error.message and "account" in error.message
    assert "canary" not in str(error)


async def test_the_user_may_not_ask_for_jetstream(nats_server: NatsServerFactory) -> None:
    server = nats_server(
        'authorization { users: [ { user: bob, password: pw, permissions: { publish: "x", subscribe: ">" } } ] }'
    )
    error = await failure(within=0.5, servers=(server.url,), user="bob", password="pw")
    assert 'permissions violation for publish to "$js.api.info"' in error.message
    assert error.hint is not None and "$JS.API.>" in error.hint


async def test_a_user_with_an_inbox_of_its_own(nats_server: NatsServerFactory) -> None:
    server = nats_server(
        'authorization { users: [ { user: bob, password: pw, permissions: { publish: ">", subscribe: "_MINE.>" } } ] }'
    )
    await works(servers=(server.url,), user="bob", password="pw", inbox_prefix="_MINE.x")
    error = await failure(within=0.5, servers=(server.url,), user="bob", password="pw")
    assert "permissions violation for subscription" in error.message


async def test_jetstream_does_not_answer() -> None:
    async def mute(self: Impostor, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"version":"2.15.1","headers":true}\r\n')
        while line := await reader.readline():
            if line == b"PING\r\n":
                writer.write(b"PONG\r\n")

    async with impostor(mute) as server:
        error = await failure(within=1.0, servers=(server.url,), connect_timeout=1.0)
        assert error.message.endswith("JetStream did not answer within 1 s")


async def test_jetstream_without_a_leader_is_no_reason_to_refuse() -> None:
    busy = b'{"error":{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}}'
    async with impostor(pretend_nats(jetstream=busy)) as server:
        connection = await Connection.open(Settings(servers=(server.url,)), name="test")
        await connection.close()


# --- credentials


async def test_user_and_password(nats_server: NatsServerFactory) -> None:
    server = nats_server('authorization { user: bob, password: "right one" }')
    await works(servers=(server.url,), user="bob", password="right one")
    error = await failure(within=1.0, servers=(server.url,), user="bob", password="canary")
    assert error.message == f"cannot connect to NATS at {server.url}: wrong user or password (user 'bob')"
    assert "canary" not in str(error)
    error = await failure(within=1.0, servers=(server.url,))
    assert error.message == f"cannot connect to NATS at {server.url}: it wants credentials, and jetq has none"


async def test_token(nats_server: NatsServerFactory) -> None:
    server = nats_server("authorization { token: sesame }")
    await works(servers=(server.url,), token="sesame")
    error = await failure(within=1.0, servers=(server.url,), token="canary")
    assert error.message == f"cannot connect to NATS at {server.url}: it refused the token"
    assert "canary" not in str(error)


async def test_nkey(nats_server: NatsServerFactory, tmp_path: Path) -> None:
    seed, other = new_seed(), new_seed()
    server = nats_server(f"authorization {{ users: [ {{ nkey: {public_key(seed)} }} ] }}")
    path = tmp_path / "user.nk"
    path.write_text(seed + "\n")
    await works(servers=(server.url,), nkey=str(path))
    path.write_text(other)
    error = await failure(within=1.0, servers=(server.url,), nkey=str(path))
    assert error.message == f"cannot connect to NATS at {server.url}: it refused the nkey in {path}"
    assert other not in str(error)


async def test_credentials_file(nats_server: NatsServerFactory, tmp_path: Path) -> None:
    operator = new_seed(nkeys.PREFIX_BYTE_OPERATOR)
    account, system, foreign = (new_seed(nkeys.PREFIX_BYTE_ACCOUNT) for _ in range(3))
    server = nats_server(operator_configuration(operator, account, system))
    path = tmp_path / "user.creds"
    write_credentials(path, account, new_seed())
    await works(servers=(server.url,), creds=str(path))
    write_credentials(path, foreign, new_seed())
    error = await failure(within=1.0, servers=(server.url,), creds=str(path))
    assert error.message == f"cannot connect to NATS at {server.url}: it refused the credentials in {path}"
    write_credentials(path, account, new_seed(), expires=time.time() - 3700)
    error = await failure(within=1.0, servers=(server.url,), creds=str(path))
    assert error.message.startswith(f"cannot connect to NATS at {server.url}: the credentials in {path} expired on 20")
    assert error.message.endswith("UTC, 1h 1m ago")


@pytest.mark.parametrize("patient", [False, True])
@pytest.mark.parametrize(
    "setting, content, message",
    [
        ("creds", None, "creds: cannot read {path}: no such file or directory"),
        ("creds", "", "creds: {path} holds no user JWT and seed, so it is not a NATS credentials file"),
        (
            "creds",
            "-----BEGIN NATS USER JWT-----\nx\n------END NATS USER JWT------\n"
            "-----BEGIN USER NKEY SEED-----\ncanary\n------END USER NKEY SEED------\n",
            "creds: {path} holds no nkey seed",
        ),
        ("nkey", None, "nkey: cannot read {path}: no such file or directory"),
        ("nkey", "canary", "nkey: {path} holds no nkey seed"),
        ("tls_ca", None, "tls_ca: cannot read {path}: no such file or directory"),
        ("tls_ca", "canary", "tls_ca: {path} holds no PEM certificates"),
        ("tls_cert", None, "tls_cert: cannot read {path}: no such file or directory"),
        ("tls_cert", "canary", "tls_cert: {path} and its key cannot be used"),
    ],
)
async def test_a_file_of_no_use_is_told_at_once(
    tmp_path: Path, patient: bool, setting: str, content: str | None, message: str
) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError) as caught:
        async with asyncio.timeout(1.0):
            await Connection.open(Settings(**{setting: str(path)}), name="test", patient=patient)  # type: ignore[arg-type]
    assert caught.value.message.startswith(message.format(path=path))
    assert "canary" not in str(caught.value)


async def test_a_worker_waits_for_the_server_and_says_so_once(
    nats_server: NatsServerFactory, free_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "jetq")
    settings = Settings(servers=(f"nats://127.0.0.1:{free_port}",))
    opening = asyncio.create_task(Connection.open(settings, name="test", patient=True))
    async with impostor(pretend_nats(version="2.9.0"), free_port) as old:
        await old.visited(3)
    nats_server(port=free_port)
    async with asyncio.timeout(10.0):
        connection = await opening
    await connection.ping(1.0)
    await connection.close()
    said = [record.getMessage() for record in caplog.records if "it is NATS 2.9.0" in record.getMessage()]
    assert len(said) == 1
    assert said[0].startswith(f"cannot connect to NATS at {settings.servers[0]}: it is NATS 2.9.0, and jetq needs 2.14")
    assert not [record for record in caplog.records if record.exc_info]


async def test_waiting_can_be_cancelled(free_port: int) -> None:
    settings = Settings(servers=(f"nats://127.0.0.1:{free_port}",))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await Connection.open(settings, name="test", patient=True)


@pytest.mark.parametrize("attempt", ["refused", "connected"])
async def test_a_cancellation_that_an_attempt_swallows_is_heeded(attempt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: a loop that ends, and cancels what is left once, does not wait for a connection that is being made."""
    dropped: list[str] = []
    connected = SimpleNamespace(drop=dropped.append)

    async def swallow(self: Connection) -> object:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if attempt == "refused":
                raise BrokerUnavailable("refused") from None
        return connected

    monkeypatch.setattr(Connection, "_connect", swallow)
    opening = asyncio.create_task(Connection.open(Settings(), name="test", patient=True))
    await asyncio.sleep(0.01)
    opening.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await opening
    assert dropped == (["cancelled"] if attempt == "connected" else [])


async def test_a_failed_attempt_leaves_no_socket(nats_server: NatsServerFactory) -> None:
    server = nats_server("authorization { token: sesame }")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        await failure(servers=(server.url,), token="wrong")
    await asyncio.sleep(0.05)
    assert len(os.listdir("/proc/self/fd")) <= before + 1


async def test_servers_that_the_cluster_tells_of_are_ignored_if_asked(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NatsClient, "discovered_urls", lambda self: ["nats://10.1.2.3:4222"])
    for ignored, servers in ((False, [nats_url, "nats://10.1.2.3:4222"]), (True, [nats_url])):
        connection = await Connection.open(
            Settings(servers=(nats_url,), ignore_discovered_servers=ignored), name="test"
        )
        assert connection.servers == servers
        await connection.close()
