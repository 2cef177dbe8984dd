"""Leaving a topic by the link of a mail: from the mail's header over the page to the mail that is not sent any more."""

from __future__ import annotations

import asyncio
import email
import random
import re
import subprocess
import sys
from collections.abc import AsyncIterator, MutableMapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from jetq import Jetq, SettingsError, task
from jetq_email import send_email, send_template
from jetq_email.preferences import Preferences
from jetq_email.secret import Secret
from jetq_email.suppression import Suppression, address_hash
from jetq_email.transports.memory import OUTBOX
from jetq_email.unsubscribe import Unsubscribe, note_choice
from jetq_email.unsubscribe.links import Subscription, token_of
from tests.apps.working import fresh_app, settled, until_state, working
from tests.servers import NatsServerFactory

pytestmark = pytest.mark.anyio

ANN = "ann@example.com"
SECRET = "a secret for tests"
URL = "https://shop.example/unsubscribe"
TOKEN = token_of(Subscription("news", address_hash(ANN)), Secret(SECRET))
ONE_CLICK = {"List-Unsubscribe": "One-Click"}


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "TRANSPORT": "memory",
        "SENDER": "shop@example.org",
        "UNSUBSCRIBE_URL": URL,
        "SECRET": SECRET,
        "TOPICS": "news offers",
    }.items():
        monkeypatch.setenv(f"JETQ_EMAIL_{name}", value)
    OUTBOX.clear()


@pytest.fixture
async def app(nats_url: str) -> AsyncIterator[Jetq]:
    app = fresh_app(nats_url)
    yield app
    OUTBOX.clear()
    await app.session.aclose()


def visiting(app: Jetq) -> httpx2.AsyncClient:
    """Somebody at the shop's web site, where the page is mounted."""
    web = Starlette(routes=[Mount("/unsubscribe", Unsubscribe(app))])
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(web), base_url="https://shop.example")


async def mail(app: Jetq, *topics: str, to: str = ANN) -> list[tuple[str, str]]:
    """Who has got a mail of which subject, after one of each of `topics` was sent."""
    for topic in topics:
        await app.aenqueue(send_email.bind(to, topic, "t", topic=topic))
    await settled(app)
    return [(envelope.recipients[0], envelope.fields.subject) for envelope in OUTBOX]


def header_of_last_mail(name: str) -> str:
    value = email.message_from_bytes(OUTBOX[-1].message)[name]
    assert value is not None
    return " ".join(value.split())


async def test_one_click_ends_the_mails_of_that_topic(app: Jetq) -> None:
    """Guarantee: who posts what the headers say gets no more mail of that topic, and that of others as before."""
    async with working(app, queues=["email"]), visiting(app) as browser:
        assert await mail(app, "news") == [(ANN, "news")]
        field, _, value = header_of_last_mail("List-Unsubscribe-Post").partition("=")
        link = header_of_last_mail("List-Unsubscribe").strip("<>")
        answer = await browser.post(link, data={field: value})
        assert (answer.status_code, "You are unsubscribed" in answer.text) == (200, True)
        await settled(app)
        assert await mail(app, "news", "offers") == [(ANN, "news"), (ANN, "offers")]
        assert await mail(app, "news", to="bob@example.com") == [
            (ANN, "news"), (ANN, "offers"), ("bob@example.com", "news"),
        ]  # fmt: skip


async def test_looking_at_the_page_changes_nothing(app: Jetq) -> None:
    """Guarantee: GET and HEAD unsubscribe nobody: scanners of mail open every link."""
    async with working(app, queues=["email"]), visiting(app) as browser:
        for _ in range(2):
            shown = await browser.get(f"/unsubscribe/{TOKEN}")
            looked = await browser.head(f"/unsubscribe/{TOKEN}")
            assert (shown.status_code, looked.status_code, looked.content) == (200, 200, b"")
        assert '<form method="post"><button name="List-Unsubscribe" value="One-Click">' in shown.text
        assert "<strong>news</strong>" in shown.text and "<script" not in shown.text and ANN not in shown.text
        assert shown.headers["referrer-policy"] == "no-referrer" and shown.headers["cache-control"] == "no-store"
        assert await mail(app, "news") == [(ANN, "news")]


async def test_head_has_no_body_whatever_the_server_does_with_one(app: Jetq) -> None:
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        raise AssertionError("nobody reads the body of a HEAD")

    await Unsubscribe(app)({"type": "http", "method": "HEAD", "path": f"/u/{TOKEN}"}, receive, send)
    assert [message.get("body") for message in sent] == [None, b""]


async def test_the_way_back(app: Jetq) -> None:
    async with working(app, queues=["email"]), visiting(app) as browser:
        left = await browser.post(f"/unsubscribe/{TOKEN}", data=ONE_CLICK)
        await settled(app)
        assert await mail(app, "news") == []
        button = re.search(r'<button name="(\w+)" value="(\w+)">Subscribe again', left.text)
        assert button
        back = await browser.post(f"/unsubscribe/{TOKEN}", data={button[1]: button[2]})
        assert "You are subscribed again" in back.text
        await settled(app)
        assert await mail(app, "news") == [(ANN, "news")]
        await browser.post(f"/unsubscribe/{TOKEN}", data=ONE_CLICK)
        await settled(app)
        assert await mail(app, "news") == [(ANN, "news")]


@pytest.mark.parametrize(
    "post",
    [
        {"data": ONE_CLICK},
        {"files": {"List-Unsubscribe": (None, "One-Click")}},
        {"content": b"List-Unsubscribe=One-Click"},
        {"content": b"\xff%zz", "headers": {"content-type": "application/x-www-form-urlencoded"}},
        {},
    ],
)
async def test_a_post_in_any_form_unsubscribes(app: Jetq, post: dict[str, Any]) -> None:
    """RFC 8058 3.2 has multipart and URL-encoded forms; a mail program that writes neither means no other thing."""
    async with working(app, queues=["email"]), visiting(app) as browser:
        assert (await browser.post(f"/unsubscribe/{TOKEN}", **post)).status_code == 200
        await settled(app)
    assert not await Preferences(app).awants(ANN, "news")


async def test_what_is_no_link_is_told_so(app: Jetq, caplog: pytest.LogCaptureFixture) -> None:
    other = token_of(Subscription("news", address_hash(ANN)), Secret("a secret of others"))
    async with visiting(app) as browser:
        for path in ("", "/x", f"/{TOKEN[:-1]}", f"/{other}", f"/{TOKEN}/x", "/%3Cscript%3E"):
            for verb in (browser.get, browser.post):
                answer = await verb(f"/unsubscribe{path or '/'}")
                assert (answer.status_code, "This link cannot be read" in answer.text) == (404, True)
                assert "<script" not in answer.text
        refused = await browser.put(f"/unsubscribe/{TOKEN}")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, POST")
        assert (await browser.post(f"/unsubscribe/{TOKEN}", content=b"x" * 100_000)).status_code == 413
    assert not caplog.records


async def test_without_a_broker_nothing_is_claimed(nats_server: NatsServerFactory) -> None:
    """Guarantee: what is answered with 200 is stored; a wish that cannot be stored is answered with 503."""
    server = nats_server()
    app = fresh_app(server.url, connect_timeout=0.3, publish_timeout=0.3)
    server.stop()
    async with visiting(app) as browser:
        failed = await browser.post(f"/unsubscribe/{TOKEN}", data=ONE_CLICK)
        assert (failed.status_code, failed.headers["retry-after"]) == (503, "60")
        assert "unsubscribed" not in failed.text and 'name="List-Unsubscribe"' in failed.text
        assert 'name="resubscribe"' in (await browser.post(f"/unsubscribe/{TOKEN}", data={"resubscribe": "yes"})).text
        assert (await browser.get(f"/unsubscribe/{TOKEN}")).status_code == 200
    await app.session.aclose()


async def test_the_latest_wish_holds_in_whatever_order_they_are_noted(app: Jetq) -> None:
    """Guarantee: a job that is late, or comes from the dead letters, does not undo what was said after it."""
    said_at = [datetime.now(UTC) + timedelta(seconds=n) for n in range(4)]
    for seed in range(8):
        hash = f"{seed:040x}"
        wishes = list(enumerate(said_at))
        random.Random(seed).shuffle(wishes)
        for place, at in wishes:
            await Suppression(app).decide(hash, "news", wanted=place % 2 == 0, source="link", at=at)
        assert await Suppression(app).declines(hash, "news")
        await Suppression(app).decide(hash, "news", wanted=True, source="preferences")
        assert not await Suppression(app).declines(hash, "news")


async def test_a_job_counts_from_when_it_was_stored(app: Jetq) -> None:
    hash = address_hash(ANN)
    async with working(app, queues=["email"]):
        late = await app.aenqueue(note_choice.options(delay=1, result_ttl=60).bind("news", hash))
        await until_state(await app.aenqueue(note_choice.options(result_ttl=60).bind("news", hash, True)), "succeeded")
        await until_state(late, "succeeded")
    assert await Preferences(app).awants(ANN, "news")


def test_workers_with_the_plugin_have_the_task() -> None:
    asked = "import jetq, jetq_email.tasks; print('jetq_email.unsubscribe' in jetq.Jetq().tasks)"
    assert subprocess.run([sys.executable, "-c", asked], capture_output=True, check=True).stdout == b"True\n"


async def test_what_is_wanted_again_is_not_on_the_list_and_can_be_put_there(app: Jetq) -> None:
    suppression = Suppression(app)
    await Preferences(app).aset(ANN, "news", True)
    assert [each async for each in suppression.each()] == [] and await suppression.find(ANN, "news") is None
    assert not await suppression.remove(ANN, "news")
    await Preferences(app).aset(ANN, "news", True)
    assert await suppression.add(ANN, "manual", "cli", topic="news")
    assert not await suppression.add(ANN, "manual", "cli", topic="news")
    assert [each.source async for each in suppression.each()] == ["cli"]


async def test_preferences(app: Jetq, monkeypatch: pytest.MonkeyPatch) -> None:
    preferences = Preferences(app)
    assert await preferences.aof(ANN) == ()
    await preferences.aset(ANN, "offers", False)
    assert await preferences.aof("Ann <ANN@example.com>") == ("offers",)
    assert not await preferences.awants(ANN, "offers") and await preferences.awants(ANN, "news")
    await Suppression(app).add("bob@example.com", "bounce", "smtp")
    assert await preferences.awants("bob@example.com", "news")  # he is on another list
    with pytest.raises(Exception, match="there is no such topic"):
        await preferences.aset(ANN, "offer", False)
    monkeypatch.delenv("JETQ_EMAIL_TOPICS")
    with pytest.raises(SettingsError, match="JETQ_EMAIL_TOPICS"):
        await preferences.aof(ANN)


@task(name="test_email_unsubscribe.decline", queue="email")
def decline(address: str) -> None:
    """In a thread, of the worker's app, which is not the default one."""
    preferences = Preferences()
    preferences.set(address, "news", False)
    assert (preferences.of(address), preferences.wants(address, "news")) == (("news",), False)


async def test_preferences_in_a_task_that_is_not_async(app: Jetq) -> None:
    async with working(app, queues=["email"]):
        await until_state(await app.aenqueue(decline.options(result_ttl=60).bind(ANN)), "succeeded")
    assert await Preferences(app).aof(ANN) == ("news",)
    await asyncio.to_thread(app.session.close)


async def test_a_topic_nobody_named_is_dead_with_its_reason(app: Jetq) -> None:
    async with working(app, queues=["email"]):
        await app.aenqueue(send_email.bind(ANN, "s", "t", topic="new"))
        await app.aenqueue(send_email.bind([ANN, "bob@example.com"], "s", "t", topic="news"))
        await settled(app)
    broker = await app.session.broker()
    reasons = "\n".join(str(letter) for letter in await broker.dead("email"))
    assert "there is no such topic" in reasons and "send_many" in reasons and not OUTBOX


async def test_what_is_no_hash_is_refused(app: Jetq) -> None:
    async with working(app, queues=["email"]):
        for topic, hash in (("news", "ab"), ("news", "*" * 40), ("a.b", "ab" * 20)):
            await app.aenqueue(note_choice.bind(topic, hash))
        await settled(app)
    assert len(await (await app.session.broker()).dead("email")) == 3
    assert [each async for each in Suppression(app).each()] == []


async def test_a_template_has_the_link(app: Jetq, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "news.subject.txt").write_text("News")
    (tmp_path / "news.txt").write_text("Leave: {{ unsubscribe_url }}")
    (tmp_path / "unsubscribe.html").write_text("{{ state }} {{ topic }} of the shop")
    monkeypatch.setenv("JETQ_EMAIL_TEMPLATE_DIRECTORY", str(tmp_path))
    async with working(app, queues=["email"]), visiting(app) as browser:
        await app.aenqueue(send_template.bind("news", ANN, topic="news"))
        await settled(app)
        assert OUTBOX[0].fields.text.strip() == f"Leave: {URL}/{TOKEN}"
        assert (await browser.get(f"/unsubscribe/{TOKEN}")).text == "ask news of the shop"
    (tmp_path / "unsubscribe.html").write_text("{{ sate }}")
    async with visiting(app) as browser:  # and nobody is kept from leaving by a mistake in it
        assert "<strong>news</strong>" in (await browser.get(f"/unsubscribe/{TOKEN}")).text


def test_the_page_wants_its_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JETQ_EMAIL_SECRET")
    monkeypatch.delenv("JETQ_EMAIL_UNSUBSCRIBE_URL")
    with pytest.raises(SettingsError, match="JETQ_EMAIL_SECRET"):
        Unsubscribe()
