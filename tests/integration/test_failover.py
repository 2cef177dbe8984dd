"""Mails by several routes on a real worker, whose providers die, fall silent, ask for a pause and come back."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from jetq import Jetq, Records
from jetq_email import Postmark, Route, Router, Secret, Smtp, send_email
from jetq_email.mail_log import MailLog
from jetq_email.routing import breaker as breaker_module
from jetq_email.routing import fleet as fleet_module
from jetq_email.routing.opening import transport_for
from jetq_email.sending import attempt as sending_module
from jetq_email.settings import current
from jetq_email.transports.http import HttpTransport
from tests.apps.http_server import CUT, Asked, HttpServer, Told
from tests.apps.smtp_server import SmtpServer, serving_smtp
from tests.apps.working import fresh_app, settled, until, working

pytestmark = pytest.mark.anyio


class Provider:
    """A stand-in for Postmark. takes: whether it takes mails; instead, else what it answers."""

    def __init__(self) -> None:
        self.server = HttpServer(self._answer)
        self.takes = True
        self.instead = Told(500, {"ErrorCode": 100, "Message": "maintenance"})
        self.delivered: Counter[str] = Counter()
        self.cut: set[str] = set()
        self._listening: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen, on the same port each time."""
        self._listening = await asyncio.start_server(self.server.handle, "127.0.0.1", self.server.port)
        self.server.port = self._listening.sockets[0].getsockname()[1]
        self.takes = True

    def die(self) -> None:
        """Refuse connections, and close those that stand once they are used."""
        assert self._listening is not None
        self._listening.close()
        self.takes, self.instead = False, CUT

    def route(self, weight: float = 1.0, name: str = "") -> Route:
        return Route(Postmark(token=Secret("t"), url=self.server.url), weight, name)

    @property
    def asked(self) -> int:
        return len(self.server.asked)

    def _answer(self, asked: Asked) -> Told:
        to = msgspec.json.decode(asked.content)["To"]
        if not self.takes:
            self.cut |= {to} if self.instead is CUT else set()
            return self.instead
        self.delivered[to] += 1
        return Told(200, {"ErrorCode": 0, "Message": "OK", "MessageID": str(self.asked)})


@asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    made = Provider()
    await made.start()
    try:
        yield made
    finally:
        made.die()


@asynccontextmanager
async def smtp() -> AsyncIterator[tuple[SmtpServer, Smtp]]:
    async with serving_smtp(SmtpServer()) as server:
        yield server, Smtp(host="127.0.0.1", port=server.port, tls="none")


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits."""
    for name, value in {"SENDER": "s@shop.example", "RETRY_WAIT": "0.01", "TIMEOUT": "5"}.items():
        monkeypatch.setenv(f"JETQ_EMAIL_{name}", value)
    monkeypatch.setattr(sending_module, "_BUSY_WAIT", 0.1)
    for name, seconds in {"_FIRST": 0.2, "_LONGEST": 0.5, "_BUSY": 0.1}.items():
        monkeypatch.setattr(breaker_module, name, seconds)
    for name in ("_PATIENCE", "_TELLING"):  # with a broker on a busy machine
        monkeypatch.setattr(fleet_module, name, 20.0)


@asynccontextmanager
async def mailing(
    nats_url: str, monkeypatch: pytest.MonkeyPatch, router: Router | None, **options: Any
) -> AsyncIterator[Jetq]:
    """An app with a worker whose application has this router; None for what the environment says."""
    if router is not None:
        module: Any = ModuleType(f"mail_of_{uuid4().hex}")
        module.mail = router
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setenv("JETQ_EMAIL_TRANSPORT", f"{module.__name__}:mail")
    app = fresh_app(nats_url)
    async with working(app, queues=["email"], **options):
        yield app
    await (await transport_for(current())).close()


async def send(app: Jetq, count: int, *, max_attempts: int = 20) -> list[str]:
    users = [f"u{number}@x.example" for number in range(count)]
    for user in users:
        await app.aenqueue(send_email.options(max_attempts=max_attempts).bind(user, "Hi", text="Hello"))
    return users


async def dead(app: Jetq) -> list[Any]:
    """The dead letters, once nothing is left in the queue."""
    await settled(app, 40)
    return list(await (await app.session.broker()).dead("email"))


async def test_a_provider_that_dies_in_the_midst_loses_no_mail_and_doubles_none(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee: its mails go to the other one, but for those of which nobody knows whether it has them. These wait for
    it."""
    async with provider() as one, provider() as other, smtp() as (server, last):
        router = Router([one.route(9), other.route(1, "other")], fallback=last)
        async with mailing(nats_url, monkeypatch, router) as app:
            users = await send(app, 150)
            await until(lambda: one.delivered.total() > 60)
            one.die()
            users += [f"late-{user}" for user in users]
            for user in users[150:]:
                await app.aenqueue(send_email.bind(user, "Hi", text="Hello"))
            await until(lambda: one.delivered.total() + other.delivered.total() == 300 - len(one.cut), 40)
            assert one.cut  # by connections that stood
            await one.start()
            assert await dead(app) == []
    assert one.delivered + other.delivered == Counter(users)
    assert one.cut <= one.delivered.keys()
    assert server.delivered == []


@pytest.mark.parametrize("allowed", [False, True])
async def test_what_one_may_have_goes_to_another_only_if_duplicates_are_allowed(
    nats_url: str, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    async with provider() as one, smtp() as (server, last):
        one.takes, one.instead = False, CUT
        router = Router([one.route()], fallback=last, allow_duplicates=allowed)
        async with mailing(nats_url, monkeypatch, router) as app:
            (user,) = await send(app, 1)
            if not allowed:
                await until(lambda: one.asked == 4)  # by then it has been left alone
                one.takes = True
            assert await dead(app) == []
    assert (server.delivered, list(one.delivered)) == (([user], []) if allowed else ([], [user]))


async def test_mails_that_may_be_with_a_dead_provider_are_left_by_name(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee: an operator decides whether they go by another, and a replay sends them to the same one till then."""
    async with provider() as one, smtp() as (server, last):
        one.takes, one.instead = False, CUT
        async with mailing(nats_url, monkeypatch, Router([one.route()], fallback=last)) as app:
            await send(app, 1, max_attempts=2)
            (entry,) = await dead(app)
    assert b'"via":"postmark"' in entry.body
    assert server.delivered == []


async def test_a_worker_that_ends_with_a_mail_under_way_leaves_it_to_that_route(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way, silent = asyncio.Event(), asyncio.Event()

    async def fall_silent(self: HttpTransport, envelope: Any) -> Any:
        under_way.set()
        await silent.wait()

    async with provider() as one, smtp() as (server, last):
        router = Router([one.route()], fallback=last)
        with monkeypatch.context() as patch:
            patch.setattr(HttpTransport, "send", fall_silent)
            async with mailing(nats_url, monkeypatch, router, grace=0.1) as first:
                job = await first.aenqueue(send_email.bind("ann@x.example", "Hi", text="Hello"))
                await asyncio.wait_for(under_way.wait(), 20)
        app = Jetq(nats_url, namespace=first.settings.namespace)
        found = await (await app.session.broker()).find("email", job.id)
        await app.session.aclose()
    assert found is not None and b'"via":"postmark"' in found.delivery.body
    assert server.delivered == []


async def test_who_wants_fewer_mails_is_left_alone_for_as_long_as_it_says(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with provider() as one, smtp() as (server, last):
        one.takes, one.instead = False, Told(429, {"Message": "slow down"}, {"retry-after": "600"})
        async with mailing(nats_url, monkeypatch, Router([one.route()], fallback=last), concurrency=1) as app:
            users = await send(app, 20, max_attempts=1)
            assert await dead(app) == []
            assert [record.value async for record in Records("jetq_email", app).aeach("routes")] == [b"600"]
    assert one.asked == 1
    assert server.delivered == sorted(users)


async def test_when_no_route_takes_mails_they_wait_and_pay_nothing(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee: providers that want a pause and a server that is full cost no mail an attempt, and all go out then."""
    async with provider() as one, smtp() as (server, last):
        one.takes, one.instead = False, Told(429, {"Message": "slow down"}, {"retry-after": "1"})
        server.most = 0
        async with mailing(nats_url, monkeypatch, Router([one.route()], fallback=last)) as app:
            users = await send(app, 30, max_attempts=1)
            await until(lambda: server.turned_away > 15)  # it is asked again and again
            server.most = None
            assert await dead(app) == []
    assert Counter(server.delivered) + one.delivered == Counter(users)


async def test_when_all_are_down_and_come_back_nothing_is_lost(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with provider() as one, provider() as other:
        one.takes = other.takes = False
        router = Router([one.route(), other.route(name="other")])
        async with mailing(nats_url, monkeypatch, router) as app:
            users = await send(app, 60, max_attempts=8)
            await until(lambda: one.asked + other.asked > 12)
            asked = one.asked + other.asked
            one.takes = other.takes = True
            assert await dead(app) == []
    assert one.delivered + other.delivered == Counter(users)
    assert asked < 60  # most mails had not to ask


async def test_routes_from_the_environment(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with provider() as one, smtp() as (server, last):
        for name, value in {
            "ROUTES": "postmark:3,smtp:1",
            "LOG_TTL": "60",
            "POSTMARK_TOKEN": "t",
            "POSTMARK_URL": one.server.url,
            "HOST": last.host,
            "PORT": str(last.port),
            "TLS": last.tls,
        }.items():
            monkeypatch.setenv(f"JETQ_EMAIL_{name}", value)
        async with mailing(nats_url, monkeypatch, None) as app:
            users = await send(app, 100)
            assert await dead(app) == []
            logged = Counter([entry.via async for entry in MailLog(app).each()])
    assert logged == {"postmark": one.delivered.total(), "smtp": len(server.delivered)}
    assert Counter(server.delivered) + one.delivered == Counter(users)
    assert 55 < one.delivered.total() < 95
