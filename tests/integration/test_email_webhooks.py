"""What providers report, on a real worker: from the request to the mail that is not sent."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator

import httpx2
import msgspec
import pytest

from jetq import Jetq
from jetq.client import plugins
from jetq.client.app import replaced_default
from jetq_email import send_email
from jetq_email.feedback import sns
from jetq_email.feedback.events import Event
from jetq_email.feedback.reports import LONGEST
from jetq_email.suppression import Suppressed, Suppression, address_hash
from jetq_email.tasks import confirm_subscription, take_events, take_report
from jetq_email.transports.memory import OUTBOX
from jetq_email.webhooks import Webhooks
from jetq_email.webhooks.ses import Ses
from tests.apps.reports import delivery
from tests.apps.webhooks import CERTIFICATE, PROVIDERS, VARIABLES, bounces, signed
from tests.apps.webhooks import sns as message_of_sns
from tests.apps.working import fresh_app, settled, until, working
from tests.servers import NatsServerFactory

pytestmark = pytest.mark.anyio

ANN, BOB = "ann@example.com", "bob@example.com"


@pytest.fixture
async def app(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Jetq]:
    for name, value in {
        **VARIABLES,
        "JETQ_EMAIL_TRANSPORT": "memory",
        "JETQ_EMAIL_SENDER": "shop@example.org",
    }.items():
        monkeypatch.setenv(name, value)
    OUTBOX.clear()
    app = fresh_app(nats_url)
    yield app
    OUTBOX.clear()
    await app.session.aclose()


def client(app: Jetq) -> httpx2.AsyncClient:
    async def fetch(url: str) -> bytes:
        return CERTIFICATE

    made = Webhooks(app)
    ses = made._hooks["ses"]
    assert isinstance(ses, Ses)
    ses._fetch = fetch
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(made), base_url="http://hooks.example")


async def listed(app: Jetq) -> list[Suppressed]:
    return [each async for each in Suppression(app).each()]


async def mail(app: Jetq, *to: str) -> list[tuple[str, ...]]:
    """To whom a mail to all of `to` goes."""
    OUTBOX.clear()
    await app.aenqueue(send_email.bind(list(to), "Hello", "Hi!"))
    await settled(app)
    return [envelope.recipients for envelope in OUTBOX]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_who_bounced_gets_no_further_mail(provider: str, app: Jetq, caplog: pytest.LogCaptureFixture) -> None:
    """Guarantee: the webhook of each provider puts who bounced on the list, and the next mail is not sent there."""
    caplog.set_level(logging.DEBUG)
    async with working(app, queues=["email"]), client(app) as web:
        assert await mail(app, ANN, BOB) == [(ANN, BOB)]
        for _ in range(2):
            (content,) = bounces(provider, "Ann@Example.com")
            headers, body = signed(provider, content)
            assert (await web.post(f"/{provider}", headers=headers, content=body)).status_code == 200
        await settled(app)
        assert [(each.reason, each.source, each.hash) for each in await listed(app)] == [
            ("bounce", provider, address_hash(ANN))
        ]
        assert await mail(app, ANN, BOB) == [(BOB,)]
    assert "1 bounce put on the list" in caplog.text
    assert "example.com" not in caplog.text.lower() and "canary" not in caplog.text


async def take(app: Jetq, *events: Event) -> list[Suppressed]:
    async with working(app, queues=["email"]):
        await app.aenqueue(take_events.bind(list(events)))
        await settled(app)
        return await listed(app)


async def test_what_is_put_on_the_list_and_what_is_not(app: Jetq) -> None:
    """Guarantee: hard bounces, complaints and who unsubscribed are put on the list, and nobody else."""
    found = await take(
        app,
        Event(kind="bounce", address="1@example.com", provider="ses", detail="550 no such user"),
        Event(kind="deferred", address="2@example.com", provider="ses"),
        Event(kind="complaint", address="3@example.com", provider="ses"),
        Event(kind="unsubscribed", address="4@example.com", provider="ses"),
        Event(kind="delivered", address="5@example.com", provider="ses"),
        Event(kind="complaint", address="1@example.com", provider="ses"),
        Event(kind="bounce", address="not really an address@", provider="ses"),
    )
    assert [(each.reason, each.hash, each.address, each.topic) for each in found] == [
        ("bounce", address_hash("1@example.com"), None, None),
        ("complaint", address_hash("3@example.com"), None, None),
        ("unsubscribed", address_hash("4@example.com"), None, None),
        ("bounce", address_hash("not really an address@"), None, None),
    ]
    assert found[0].detail == "550 no such user"


async def test_addresses_are_kept_if_the_settings_say_so(app: Jetq, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JETQ_EMAIL_ADDRESSES", "clear")
    (found,) = await take(app, Event(kind="bounce", address="Ann@Example.com", provider="ses"))
    assert found.address == ANN


async def test_without_a_broker_it_is_to_come_again(app: Jetq, nats_server: NatsServerFactory) -> None:
    """Guarantee: while jobs cannot be stored a webhook is answered 503, and the same request succeeds later, once."""
    server = nats_server()
    down = fresh_app(server.url, publish_timeout=1.0, connect_timeout=1.0)
    headers, body = signed("postmark", bounces("postmark", ANN)[0])
    try:
        async with client(down) as web:
            server.stop()
            response = await web.post("/postmark", headers=headers, content=body)
            assert (response.status_code, response.headers["retry-after"]) == (503, "60")
            server.start()
            async with working(down, queues=["email"]):
                for _ in range(2):
                    assert (await web.post("/postmark", headers=headers, content=body)).status_code == 200
                await settled(down)
                assert [each.reason for each in await listed(down)] == ["bounce"]
    finally:
        await down.session.aclose()


async def test_repeats_that_come_together_are_one_job(app: Jetq) -> None:
    headers, body = signed("sendgrid", bounces("sendgrid", *(f"{n}@example.com" for n in range(700)))[0])
    async with client(app) as web:
        for _ in range(3):
            assert (await web.post("/sendgrid", headers=headers, content=body)).status_code == 200
    broker = await app.session.broker()
    (info,) = [info for info in await broker.queues() if info.name == "email"]
    assert info.ready == 2
    async with working(app, queues=["email"]):
        await settled(app)
        assert len(await listed(app)) == 700


@pytest.mark.parametrize("fails", [False, True])
async def test_a_subscription_is_confirmed_by_the_worker(
    fails: bool, app: Jetq, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=canary"
    visited: list[str] = []

    async def fetch(url: str) -> bytes:
        visited.append(url)
        return b"<ok/>"

    monkeypatch.setattr(sns, "fetch", fetch)
    if fails:
        monkeypatch.setattr(sns, "SUBSCRIPTION", sns.CERTIFICATE)  # so that this address is none of SNS
    message = message_of_sns(
        "You have chosen", time.time(), Type="SubscriptionConfirmation", Token="canary", SubscribeURL=url
    )
    body = msgspec.json.encode(message)
    async with working(app, queues=["email"]), client(app) as web:
        assert (await web.post("/ses", content=body)).status_code == 200
        await settled(app)
    assert visited == ([] if fails else [url])
    assert len(await (await app.session.broker()).dead("email")) == int(fails)
    assert "canary" not in caplog.text


async def test_a_report_that_comes_as_mail(app: Jetq, caplog: pytest.LogCaptureFixture) -> None:
    """Guarantee: who is gone, by the report of a mail server, gets no further mail; other mails do nothing."""
    caplog.set_level(logging.DEBUG)
    async with working(app, queues=["email"]):
        report = delivery(f"Final-Recipient: rfc822; {ANN}\nAction: failed\nStatus: 5.1.1")
        for raw in (report, report, b"Subject: I am on holiday\n\nBob, bob@example.com", b"\xff" * 1000):
            await app.aenqueue(take_report.bind(raw))
        await settled(app)
        assert [(each.reason, each.source) for each in await listed(app)] == [("bounce", "smtp")]
        assert await mail(app, ANN, BOB) == [(BOB,)]
        assert await (await app.session.broker()).dead("email") == []
    assert "is left alone: the mail is no report" in caplog.text
    assert "example.com" not in caplog.text


async def test_whose_report_it_is_stands_in_the_address_it_came_to(app: Jetq, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JETQ_EMAIL_ENVELOPE_SENDER", "bounces+{recipient}@shop.example")
    group = "Final-Recipient: rfc822; box@elsewhere.example\nAction: failed\nStatus: 5.1.1"
    async with working(app, queues=["email"]):
        await app.aenqueue(take_report.bind(delivery(group, to="bounces+ann=example.com@shop.example")))
        await settled(app)
        assert [each.hash for each in await listed(app)] == [address_hash(ANN)]


async def test_the_largest_report_fits_into_a_job(app: Jetq) -> None:
    job = await app.aenqueue(take_report.bind(b"\xff" * LONGEST))
    assert await job.astatus() == "queued"


async def test_the_token_of_a_subscription_is_in_no_log_line(
    app: Jetq, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fetch(url: str) -> bytes:
        raise ValueError(f"nobody expects {url}")

    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(sns, "fetch", fetch)
    call = confirm_subscription.bind("https://sns.eu-west-1.amazonaws.com/?Token=canary")
    async with working(app, queues=["email"]):
        await app.aenqueue(call)
        await until(lambda: "nobody expects" in caplog.text)
    assert "canary" not in caplog.text


async def test_without_an_app_jobs_go_to_the_default_one(app: Jetq) -> None:
    headers, body = signed("brevo", bounces("brevo", ANN)[0])
    with replaced_default(app):
        transport = httpx2.ASGITransport(Webhooks())
        async with httpx2.AsyncClient(transport=transport, base_url="http://hooks.example") as web:
            assert (await web.post("/brevo", headers=headers, content=body)).status_code == 200
    async with working(app, queues=["email"]):
        await settled(app)
        assert [each.source for each in await listed(app)] == ["brevo"]


async def test_the_tasks_are_those_of_the_plugin() -> None:
    """Else a worker without a transport would serve the queue for their sake, and burn the attempts of mails."""
    (plugin,) = plugins.load(["email"])
    assert {f"jetq_email.{name}" for name in ("take_events", "take_report", "confirm_subscription")} <= set(
        plugin.tasks
    )
