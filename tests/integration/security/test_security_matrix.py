"""A whole job's life through each way of being known to a server, and what happens when that way ends meanwhile."""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nkeys
import pytest
import trustme

from jetq import BrokerUnavailable, Jetq, Retry, SettingsError, Worker
from tests.apps.working import until, working
from tests.e2e.project import Project
from tests.integration.security.nats_operator import new_seed, operator_configuration, public_key, write_credentials
from tests.servers import NatsServer, NatsServerFactory

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@dataclass
class Way:
    """One way in: the server's configuration, the settings of jetq, and what must never be shown."""

    config: str
    settings: dict[str, Any] = field(default_factory=dict)
    scheme: str = "nats"
    secrets: tuple[str, ...] = ()


@dataclass
class LetterRef:
    """Where a way keeps its files, and what issues its certificates."""

    directory: Path
    authority: trustme.CA

    def issue(self, kind: str, name: str, expires: datetime.datetime | None = None) -> None:
        """A certificate and its key as KIND.pem and KIND.key, in place of those before."""
        issued = self.authority.issue_cert(name, not_after=expires)
        for path, blob in ((f"{kind}.key", issued.private_key_pem), (f"{kind}.pem", issued.cert_chain_pems[0])):
            blob.write_to_path(self.path(path))

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def tls(self, more: str = "") -> str:
        self.authority.cert_pem.write_to_path(self.path("ca.pem"))
        self.issue("server", "127.0.0.1")
        paths = {
            "cert_file": self.path("server.pem"),
            "key_file": self.path("server.key"),
            "ca_file": self.path("ca.pem"),
        }
        return "tls { " + ", ".join(f"{key}: {json.dumps(path)}" for key, path in paths.items()) + f"{more} }}\n"


@pytest.fixture
def place(tmp_path: Path) -> LetterRef:
    return LetterRef(tmp_path, trustme.CA())


def no_authentication(place: LetterRef) -> Way:
    return Way("")


def password(place: LetterRef) -> Way:
    return Way(
        'authorization { user: bob, password: "c4n4ry-1" }',
        {"user": "bob", "password": "c4n4ry-1"},
        secrets=("c4n4ry",),
    )


def token(place: LetterRef) -> Way:
    return Way('authorization { token: "c4n4ry-2" }', {"token": "c4n4ry-2"}, secrets=("c4n4ry",))


def nkey(place: LetterRef) -> Way:
    seed = new_seed()
    Path(place.path("user.nk")).write_text(seed + "\n")
    config = f"authorization {{ users: [ {{ nkey: {public_key(seed)} }} ] }}"
    return Way(config, {"nkey": place.path("user.nk")}, secrets=(seed,))


def credentials(place: LetterRef) -> Way:
    operator = new_seed(nkeys.PREFIX_BYTE_OPERATOR)
    account, system = (new_seed(nkeys.PREFIX_BYTE_ACCOUNT) for _ in range(2))
    user = new_seed()
    write_credentials(Path(place.path("user.creds")), account, user)
    jwt = Path(place.path("user.creds")).read_text().splitlines()[1]
    assert jwt.startswith("eyJ")
    return Way(
        operator_configuration(operator, account, system),
        {"creds": place.path("user.creds")},
        secrets=(user, jwt, account),
    )


def tls(place: LetterRef) -> Way:
    return Way(place.tls(), {"tls_ca": place.path("ca.pem")}, "tls")


def tls_first(place: LetterRef) -> Way:
    return Way(place.tls(", handshake_first: true"), {"tls_ca": place.path("ca.pem"), "tls_first": True}, "tls")


def tls_and_password(place: LetterRef) -> Way:
    way = password(place)
    return Way(place.tls() + way.config, {**way.settings, "tls_ca": place.path("ca.pem")}, "tls", way.secrets)


def client_certificate(place: LetterRef) -> Way:
    config = place.tls(", verify: true")
    place.issue("client", "bob")
    settings = {
        "tls_ca": place.path("ca.pem"),
        "tls_cert": place.path("client.pem"),
        "tls_key": place.path("client.key"),
    }
    secret = Path(place.path("client.key")).read_text().splitlines()[1]
    return Way(config, settings, "tls", (secret,))


WAYS = [no_authentication, password, token, nkey, credentials, tls, tls_first, tls_and_password, client_certificate]


def make_app(server: NatsServer, way: Way) -> Jetq:
    return Jetq(f"{way.scheme}://127.0.0.1:{server.port}", **{"ack_wait": 1.0, **way.settings})


TASKS = """
from jetq import task

@task(queue="matrix")
def add(x: int, y: int) -> int:
    return x + y
"""


def command_line(place: LetterRef, server: NatsServer, way: Way) -> Project:
    directory = place.directory / "project"
    directory.mkdir(exist_ok=True)
    settings = {f"JETQ_{name.upper()}": str(value) for name, value in way.settings.items()}
    project = Project(directory, JETQ_SERVERS=f"{way.scheme}://127.0.0.1:{server.port}", **settings)
    project.write("tasks.py", TASKS)
    return project


def unseen(way: Way, text: str) -> None:
    for secret in way.secrets:
        assert secret not in text, f"a secret is in:\n{text}"


@pytest.mark.parametrize("make", WAYS)
async def test_a_whole_job_life(
    nats_server: NatsServerFactory, place: LetterRef, make: Callable[[LetterRef], Way], caplog: pytest.LogCaptureFixture
) -> None:
    """Guarantee: jobs run, retry, die and are looked at through each way in; leases have a connection of their own."""
    caplog.set_level(logging.DEBUG)
    way = make(place)
    server = nats_server(way.config + '\nhttp: "127.0.0.1:-1"\n')
    app = make_app(server, way)
    starts: list[str] = []

    @app.task(name="matrix.life", queue="matrix", max_attempts=2, result_ttl=60)
    async def life(how: str) -> str:
        starts.append(how)
        if how == "retry" and starts.count("retry") == 1:
            raise Retry(0)
        if how == "dead":
            raise ValueError("no good")
        if how == "long":  # beyond ack_wait: it takes a renewed lease
            await asyncio.sleep(2.5)
        return how

    async with working(app):
        jobs = [await life.adelay(how) for how in ("plain", "retry", "long")]
        dead = await life.options(max_attempts=1).adelay("dead")
        for job in jobs:
            await job.aresult(20)
        with pytest.raises(ValueError, match="no good"):
            await dead.aresult(20)
        assert server.monitor("/connz")["num_connections"] >= 2  # the leases have their own
        project = command_line(place, server, way)
        listed = await asyncio.to_thread(project.jetq, "queue", "ls")
        shown = await asyncio.to_thread(project.jetq, "dlq", "list")
    assert listed.returncode == 0 and "matrix" in listed.stdout, listed.stderr
    assert "no live worker" not in listed.stdout
    assert dead.id in shown.stdout, shown.stderr
    assert starts.count("long") == 1 and starts.count("retry") == 2
    unseen(
        way, caplog.text + listed.stdout + listed.stderr + shown.stdout + shown.stderr + repr(app.settings) + server.log
    )


# --- what ends under a running worker


def reload(server: NatsServer, old: str, new: str) -> None:
    path = server.directory / "nats-server.conf"
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    os.kill(server.pid, signal.SIGHUP)


@asynccontextmanager
async def serving(app: Jetq) -> AsyncIterator[Callable[[], Any]]:
    """A running worker, and what enqueues a job there and returns its result."""

    @app.task(name="matrix.echo", queue="matrix", result_ttl=60)
    async def echo(n: int) -> int:
        return n

    count = iter(range(1000))

    async def once() -> int:
        return await (await echo.adelay(next(count))).aresult(20)

    async with working(app):
        await once()
        yield once


def said(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if text in record.getMessage()]


async def works_again(once: Callable[[], Any]) -> None:
    """A job runs once the connection is back; until then calls may fail, in time and with a reason."""
    async with asyncio.timeout(30):
        while True:
            try:
                await once()
                return
            except BrokerUnavailable:
                await asyncio.sleep(0.1)


async def test_a_password_that_changes_while_a_worker_runs(
    nats_server: NatsServerFactory, place: LetterRef, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker says why, goes on trying, and works once the old one counts again."""
    caplog.set_level(logging.INFO)
    way = password(place)
    server = nats_server(way.config)
    async with serving(make_app(server, way)) as once:
        reload(server, "c4n4ry-1", "another")
        await until(lambda: said(caplog, "wrong user or password"))
        reload(server, "another", "c4n4ry-1")
        await works_again(once)
    assert len(said(caplog, "wrong user or password")) <= 6, "it does not say so at every try"
    unseen(way, caplog.text)


async def test_an_nkey_that_is_revoked_while_a_worker_runs(
    nats_server: NatsServerFactory, place: LetterRef, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    way = nkey(place)
    server = nats_server(way.config)
    own, other = way.config.split()[6], public_key(new_seed())
    async with serving(make_app(server, way)) as once:
        reload(server, own, other)
        await until(lambda: said(caplog, "it refused the nkey in"))
        reload(server, other, own)
        await works_again(once)
    unseen(way, caplog.text)


async def test_a_new_file_takes_the_place_of_a_credential_that_is_refused(
    nats_server: NatsServerFactory, place: LetterRef, caplog: pytest.LogCaptureFixture
) -> None:
    """An nkey's file is read anew at each try, so a key is renewed without a new worker."""
    caplog.set_level(logging.INFO)
    way, new = nkey(place), new_seed()
    server = nats_server(way.config)
    async with serving(make_app(server, way)) as once:
        reload(server, way.config.split()[6], public_key(new))
        await until(lambda: said(caplog, "it refused the nkey in"))
        Path(place.path("user.nk")).write_text(new)
        await works_again(once)


async def test_credentials_that_expire_while_a_worker_runs(
    nats_server: NatsServerFactory, place: LetterRef, caplog: pytest.LogCaptureFixture
) -> None:
    """The server ends the connection; the worker says why, and takes the renewed file as soon as it is there."""
    caplog.set_level(logging.INFO)
    operator = new_seed(nkeys.PREFIX_BYTE_OPERATOR)
    account, system = (new_seed(nkeys.PREFIX_BYTE_ACCOUNT) for _ in range(2))
    path, user = Path(place.path("user.creds")), new_seed()
    way = Way("", {"creds": str(path)}, secrets=(user,))
    server = nats_server(operator_configuration(operator, account, system))
    write_credentials(path, account, user, expires=time.time() + 4)
    async with serving(make_app(server, way)) as once:
        await until(lambda: said(caplog, "authentication expired"), 20)
        await until(lambda: said(caplog, "user.creds expired on"), 20)
        write_credentials(path, account, user)
        await works_again(once)
    unseen(way, caplog.text)


async def test_a_credentials_file_that_is_gone_for_a_while(
    nats_server: NatsServerFactory, place: LetterRef, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is being replaced while the connection is lost does not end the worker."""
    caplog.set_level(logging.INFO)
    way = credentials(place)
    server = nats_server(way.config)
    path = Path(place.path("user.creds"))
    async with serving(make_app(server, way)) as once:
        path.rename(path.with_suffix(".away"))
        server.stop()
        server.start()
        await until(lambda: said(caplog, "creds: cannot read"))
        path.with_suffix(".away").rename(path)
        await works_again(once)


async def test_a_server_certificate_that_expires_and_is_renewed(
    nats_server: NatsServerFactory, place: LetterRef, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    way = tls_and_password(place)
    server = nats_server(way.config)
    async with serving(make_app(server, way)) as once:
        server.stop()
        place.issue("server", "127.0.0.1", datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1))
        server.start()
        await until(lambda: said(caplog, "its TLS certificate is not trusted (certificate has expired)"))
        server.stop()
        place.issue("server", "127.0.0.1")
        server.start()
        await works_again(once)
    unseen(way, caplog.text)


async def test_a_server_certificate_is_renewed_by_a_reload(nats_server: NatsServerFactory, place: LetterRef) -> None:
    """Connections that stand go on, and new ones see the new certificate."""
    way = tls(place)
    server = nats_server(way.config)
    async with serving(make_app(server, way)) as once:
        place.issue("server", "127.0.0.1")
        os.kill(server.pid, signal.SIGHUP)
        await once()
        server.kill()
        server.start()
        await works_again(once)


async def test_a_client_certificate_that_has_expired(nats_server: NatsServerFactory, place: LetterRef) -> None:
    way = client_certificate(place)
    server = nats_server(way.config)
    place.issue("client", "bob", datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1))
    app = make_app(server, way)
    with pytest.raises(BrokerUnavailable, match="it wants a client certificate that it trusts"):
        await app.session.broker()
    await app.session.aclose()


async def nothing() -> None: ...


@pytest.mark.parametrize("make", [password, token, nkey, credentials, client_certificate])
async def test_a_worker_that_is_refused_from_the_start_says_why_and_can_be_stopped(
    nats_server: NatsServerFactory, place: LetterRef, make: Callable[[LetterRef], Way], caplog: pytest.LogCaptureFixture
) -> None:
    """It keeps trying, as the right to come in may follow; a file that is not there ends it at once."""
    way = make(place)
    server = nats_server(way.config)
    open_way = Way("", {key: value for key, value in way.settings.items() if key == "tls_ca"}, way.scheme)
    app = make_app(server, open_way)
    app.task(name="matrix.nothing", queue="matrix")(nothing)
    worker = Worker(app)
    running = asyncio.create_task(worker.run())
    await until(lambda: said(caplog, "cannot connect to NATS"))
    assert said(caplog, "it wants")
    running.cancel()
    await asyncio.wait([running], timeout=10)
    assert running.done()
    await app.session.aclose()
    for setting in ("nkey", "creds", "tls_cert"):
        if setting in way.settings:
            os.unlink(way.settings[setting])
            gone = make_app(server, way)
            gone.task(name="matrix.nothing", queue="matrix")(nothing)
            with pytest.raises(SettingsError, match=f"{setting}: cannot read"):
                async with asyncio.timeout(10):
                    await Worker(gone).run()
            await gone.session.aclose()
