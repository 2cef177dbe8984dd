"""The mails that each provider is given in its tests."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from jetq_email.message import Email, Envelope, compose
from jetq_email.message.mime import Part
from jetq_email.providers import Brevo, Mailgun, Postmark, Provider, Resend, SendGrid, Ses
from jetq_email.secret import Secret

__all__ = ["ALL", "WHEN", "full", "made_of", "only", "plain", "without_pictures"]

ALL: tuple[Provider, ...] = (
    Ses(key_id="k", secret_key=Secret("canary"), region="eu-central-1"),
    SendGrid(key=Secret("canary")),
    Mailgun(key=Secret("canary"), domain="mg.example.org"),
    Postmark(token=Secret("canary")),
    Resend(key=Secret("canary")),
    Brevo(key=Secret("canary")),
)
"""One of each provider."""

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def plain() -> Envelope:
    """Text to one address."""
    return compose(
        Email(to=["ann@example.com"], subject="Hello", text="Hi!", sender="shop@example.org"), job_id="j1", date=WHEN
    )


def made_of(parts: Iterable[Part] = (), **fields: Any) -> Envelope:
    """A mail with these fields of `Email`."""
    given = {"to": [], "subject": "Hello", "text": "Hi!", "sender": "shop@example.org", **fields}
    return compose(Email(**given), parts, job_id="j3", date=WHEN)


def full() -> Envelope:
    """All that a mail can have."""
    email = Email(
        to=['"Lovelace, Ada" <ada@example.com>', "Bób <bob@example.com>"],
        cc=["cleo@example.com"],
        bcc=["dan@example.com"],
        reply_to=["Help <help@example.org>"],
        sender='"The Shop" <shop@example.org>',
        subject="Grüße — 你好",
        text="Hi!",
        html='<p>Hi! <img src="cid:logo"></p>',
        calendar="BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nEND:VCALENDAR\r\n",
        headers={"List-Unsubscribe": "<https://shop.example/u>", "X-Order": "17"},
        tag="receipts",
    )
    parts = [
        Part("räksmörgås.csv", b"a,b\r\n", "text/csv; charset=utf-8"),
        Part("logo.png", b"\x89PNG", content_id="logo"),
    ]
    return compose(email, parts, job_id="default:j2", date=WHEN)


def without_pictures() -> Envelope:
    """The same, but for the picture in its HTML."""
    mail = full()
    parts = [part for part in mail.fields.parts if part.content_id is None]
    return replace(mail, fields=replace(mail.fields, parts=parts))


def only(envelope: Envelope, *recipients: str) -> Envelope:
    """`envelope` in a later attempt, for those who lack the mail."""
    return replace(envelope, recipients=recipients)
