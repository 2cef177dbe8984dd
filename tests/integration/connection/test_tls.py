"""TLS: certificates of both sides, and no credential in clear text."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from jetq.jetstream.transport.connection import Connection
from jetq.settings import Settings
from tests.integration.connection.impostor import impostor, pretend_nats
from tests.integration.connection.opening import failure, works
from tests.servers import NatsServerFactory

pytestmark = pytest.mark.anyio

Certificate = Callable[[str], str]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(authority: trustme.CA, tmp_path: Path) -> Certificate:
    """Paths of PEM files by what they are: the authority's, the server's, a client's."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for kind, name in (("server", "127.0.0.1"), ("client", "bob")):
        issued = authority.issue_cert(name)
        issued.private_key_pem.write_to_path(tmp_path / f"{kind}.key")
        issued.cert_chain_pems[0].write_to_path(tmp_path / f"{kind}.pem")
    return lambda name: str(tmp_path / name)


def tls(files: Certificate, more: str = "") -> str:
    paths = {"cert_file": files("server.pem"), "key_file": files("server.key"), "ca_file": files("ca.pem")}
    return "tls { " + ", ".join(f"{key}: {json.dumps(path)}" for key, path in paths.items()) + f"{more} }}\n"


@pytest.mark.parametrize("scheme", ["tls", "nats"])
async def test_tls(nats_server: NatsServerFactory, files: Certificate, scheme: str) -> None:
    server = nats_server(tls(files))
    url = f"{scheme}://127.0.0.1:{server.port}"
    await works(servers=(url,), tls_ca=files("ca.pem"))
    error = await failure(within=1.0, servers=(url,))
    assert error.message.startswith(f"cannot connect to NATS at {url}: its TLS certificate is not trusted (")
    assert error.hint is not None and "tls_ca" in error.hint


async def test_tls_again_after_a_restart_and_with_a_paused_server(
    nats_server: NatsServerFactory, files: Certificate
) -> None:
    server = nats_server(tls(files))
    settings = Settings(servers=(f"tls://127.0.0.1:{server.port}",), tls_ca=files("ca.pem"))
    connection = await Connection.open(settings, name="test")
    back = asyncio.Event()
    connection.on_up(back.set)
    server.kill()
    server.start()
    async with asyncio.timeout(5.0):
        await back.wait()
    await connection.ping(5.0)
    server.pause()
    started = time.monotonic()
    await connection.publish("test.x", bytes(1_000_000))
    await connection.close()
    assert time.monotonic() - started < 2.0
    server.resume()


async def test_a_certificate_of_another_name(nats_server: NatsServerFactory, files: Certificate) -> None:
    server = nats_server(tls(files))
    error = await failure(within=1.0, servers=(f"tls://localhost:{server.port}",), tls_ca=files("ca.pem"))
    assert "its TLS certificate is not trusted (Hostname mismatch" in error.message


async def test_a_client_certificate_is_wanted(nats_server: NatsServerFactory, files: Certificate) -> None:
    server = nats_server(tls(files, ", verify: true"))
    url = f"tls://127.0.0.1:{server.port}"
    error = await failure(within=1.0, servers=(url,), tls_ca=files("ca.pem"))
    assert error.message == f"cannot connect to NATS at {url}: it wants a client certificate that it trusts"
    await works(servers=(url,), tls_ca=files("ca.pem"), tls_cert=files("client.pem"), tls_key=files("client.key"))


async def test_tls_before_the_greeting(nats_server: NatsServerFactory, files: Certificate) -> None:
    server = nats_server(tls(files, ", handshake_first: true"))
    await works(servers=(f"tls://127.0.0.1:{server.port}",), tls_ca=files("ca.pem"), tls_first=True)


async def test_a_server_that_does_not_begin_with_tls(nats_server: NatsServerFactory) -> None:
    server = nats_server()
    error = await failure(within=1.0, servers=(server.url,), tls_first=True)
    assert error.message == f"cannot connect to NATS at {server.url}: it does not begin with TLS, as tls_first asks"


async def test_tls_that_is_offered_and_not_required_is_used(nats_server: NatsServerFactory, files: Certificate) -> None:
    server = nats_server(tls(files) + "allow_non_tls: true")
    url = f"tls://127.0.0.1:{server.port}"
    await works(servers=(url,), tls_ca=files("ca.pem"))
    assert "is not trusted" in (await failure(within=1.0, servers=(url,))).message


@pytest.mark.parametrize(
    "credentials", [{"user": "bob", "password": "canary"}, {"token": "canary"}, {}], ids=["user", "token", "none"]
)
async def test_no_credential_is_sent_in_clear_text(credentials: dict[str, str]) -> None:
    """Guarantee: a `tls://` server that answers without TLS gets nothing."""
    async with impostor(pretend_nats(auth_required=True)) as server:
        url = f"tls://127.0.0.1:{server.port}"
        error = await failure(within=0.5, servers=(url,), **credentials)
        assert error.message == (
            f"cannot connect to NATS at {url}: it offers no TLS, and jetq sends nothing in clear text where TLS was "
            "asked for"
        )
        assert server.visits == 1 and server.heard == b""


async def test_no_credential_is_sent_in_clear_text_on_a_reconnect(
    nats_server: NatsServerFactory, files: Certificate
) -> None:
    """Guarantee: nor does one that takes the place of the right one later."""
    server = nats_server(tls(files) + 'authorization { user: bob, password: "canary" }')
    settings = Settings(
        servers=(f"tls://127.0.0.1:{server.port}",), tls_ca=files("ca.pem"), user="bob", password="canary"
    )
    connection = await Connection.open(settings, name="test")
    server.kill()
    async with impostor(pretend_nats(auth_required=True), server.port) as thief:
        await thief.visited(2)
        assert not connection.connected
        assert connection.problem is not None and "it offers no TLS" in connection.problem.message
        await connection.close()
        assert thief.heard == b""
