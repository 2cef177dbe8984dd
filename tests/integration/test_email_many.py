"""A mail to each of many: by jobs of their own, and by a campaign nobody twice."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from jetq import ArgumentError, BrokerUnavailable, Jetq, Records
from jetq_email import Attachment, Unsendable, asend_many, send_many
from jetq_email.message import Envelope
from jetq_email.outcomes import Refusal, Sent
from jetq_email.sending.campaigns import job_id
from jetq_email.tasks.many import Recipient
from jetq_email.transports.memory import OUTBOX, MemoryTransport
from tests.apps.working import fresh_app, settled, working

pytestmark = pytest.mark.anyio

PEOPLE = [f"u{number}@example.com" for number in range(20)]


@pytest.fixture
async def app(nats_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Jetq]:
    (tmp_path / "news.subject.txt").write_text("News of {{ month }}")
    (tmp_path / "news.txt").write_text("Dear {{ name }}")
    for name, value in {
        "TRANSPORT": "memory", "SENDER": "shop@example.org", "TEMPLATE_DIRECTORY": str(tmp_path),
        "UNSUBSCRIBE_URL": "https://shop.example/u", "SECRET": "a secret for tests",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"JETQ_EMAIL_{name}", value)
    OUTBOX.clear()
    app = fresh_app(nats_url)
    yield app
    OUTBOX.clear()
    await app.session.aclose()


def mailed() -> Counter[str]:
    return Counter(recipient for envelope in OUTBOX for recipient in envelope.recipients)


async def test_each_gets_a_mail_of_their_own(app: Jetq) -> None:
    async with working(app, queues=["email"]):
        jobs = await asend_many(PEOPLE, subject="Hi", text="t", topic="news", app=app)
        await settled(app)
    assert len({job.id for job in jobs}) == len(PEOPLE) and mailed() == Counter(PEOPLE)
    assert len({envelope.fields.headers["List-Unsubscribe"] for envelope in OUTBOX}) == len(PEOPLE)
    assert all(len(envelope.fields.to) == 1 for envelope in OUTBOX)


async def test_a_template_knows_what_all_share_and_what_is_one_s_own(app: Jetq) -> None:
    people: list[Recipient] = [
        ("ann@example.com", {"name": "Ann"}),
        ("bob@example.com", {"name": "Bob"}),
        "cleo@example.com",
    ]
    async with working(app, queues=["email"]):
        await asend_many(people, template="news", context={"month": "May", "name": "reader"}, app=app)
        await settled(app)
    assert {(envelope.recipients[0][:3], envelope.fields.text, envelope.fields.subject) for envelope in OUTBOX} == {
        ("ann", "Dear Ann", "News of May"),
        ("bob", "Dear Bob", "News of May"),
        ("cle", "Dear reader", "News of May"),
    }


async def test_a_campaign_mails_nobody_twice(app: Jetq, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: a campaign that is sent again, while its jobs stand and after they have ended, mails those who have no
    mail of it yet, and nobody else."""
    first = await asend_many(PEOPLE[:10], subject="Hi", text="t", campaign="2026-11", app=app)
    again = await asend_many([*PEOPLE[:10], "U3@Example.com"], subject="Hi", text="t", campaign="2026-11", app=app)
    assert [job.id for job in again] == [*(job.id for job in first), first[3].id]
    async with working(app, queues=["email"]):
        await settled(app)
        assert mailed() == Counter(PEOPLE[:10])
        # As if its job had ended so long ago that its id is free again.
        monkeypatch.setattr(
            "jetq_email.tasks.many.job_id", lambda campaign, address: f"later-{job_id(campaign, address)}"
        )
        await asend_many(PEOPLE, template="news", context={"month": "5", "name": "n"}, campaign="2026-11", app=app)
        await settled(app)
        assert mailed() == Counter(PEOPLE)
        await asend_many(PEOPLE[:2], subject="Hi", text="t", campaign="2026-12", app=app)
        await settled(app)
    assert mailed() == Counter([*PEOPLE, *PEOPLE[:2]])


async def test_who_was_refused_is_no_part_of_a_campaign_yet(app: Jetq, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = [Refusal("u0@example.com", 550, "no such mailbox")]

    async def send(self: MemoryTransport, envelope: Envelope) -> Sent:
        if refused and envelope.recipients == ("u0@example.com",):
            return Sent((), (refused.pop(),))
        OUTBOX.append(envelope)
        return Sent(envelope.recipients)

    monkeypatch.setattr(MemoryTransport, "send", send)
    async with working(app, queues=["email"]):
        for campaign_id in ("a", "b"):
            monkeypatch.setattr(
                "jetq_email.tasks.many.job_id", lambda name, to, at=campaign_id: f"{at}-{job_id(name, to)}"
            )
            await asend_many(PEOPLE[:2], subject="Hi", text="t", campaign="2026-11", app=app)
            await settled(app)
    assert mailed() == Counter(PEOPLE[:2])


async def test_what_cannot_be_noted_is_sent_all_the_same_and_once(
    app: Jetq, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)

    async def aput(*_: Any, **__: Any) -> None:
        raise BrokerUnavailable("gone")

    monkeypatch.setattr(Records, "aput", aput)
    async with working(app, queues=["email"]):
        await asend_many(PEOPLE[:1], subject="Hi", text="t", campaign="2026-11", app=app)
        await settled(app)
    assert mailed() == Counter(PEOPLE[:1])
    assert "a mail of campaign 2026-11 was sent, and it is not noted" in caplog.text and "u0@" not in caplog.text


@pytest.mark.parametrize(
    ("mail", "told"),
    [
        ({}, "subject=..., text=..."),
        ({"subject": "s", "template": "news"}, "of a template"),
        ({"subject": "s", "context": {}}, "context= does not go with a subject"),
        ({"template": "news", "html": "<p>"}, "html= does not go with a template"),
        ({"subject": "s", "text": "t", "cc": "bob@example.com"}, "has no cc="),
        ({"subject": "s"}, "neither text nor html"),
    ],
)
def test_what_no_mail_is_made_of_is_refused_at_once(mail: dict[str, Any], told: str) -> None:
    with pytest.raises(ArgumentError, match=told):
        send_many(["ann@example.com"], app=Jetq("nats://127.0.0.1:1"), **mail)


def test_large_attachments_go_by_reference() -> None:
    app = Jetq("nats://127.0.0.1:1", connect_timeout=0.1)
    large: Sequence[Attachment] = [Attachment(filename=f"{n}.bin", content=b"x" * 40_000) for n in range(2)]
    with pytest.raises(ArgumentError, match=r"(?s)80,000 bytes.*path= or url="):
        send_many(PEOPLE, subject="s", text="t", attachments=list(large), app=app)
    with pytest.raises(ArgumentError, match="given one"):
        send_many("ann@example.com", subject="s", text="t", app=app)
    with pytest.raises(ArgumentError, match="no template"):
        send_many([("ann@example.com", {"name": "Ann"})], subject="s", text="t", app=app)
    with pytest.raises(Unsendable, match="campaign"):
        send_many(PEOPLE, subject="s", text="t", campaign="a b", app=app)
