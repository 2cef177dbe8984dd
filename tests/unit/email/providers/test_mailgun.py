"""Mailgun: what it is asked, and what its answers mean."""

from __future__ import annotations

import email
import email.policy
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import msgspec
import pytest

from jetq_email.outcomes import Sent
from jetq_email.providers.exchange import Answer, Refused, Response, Slower, Unavailable, Unclear
from jetq_email.providers.mailgun import Mailgun
from jetq_email.secret import Secret
from tests.unit.email.providers.mails import full, only, plain

MAILGUN = Mailgun(key=Secret("k-1"), domain="mg.example.org")


def form(envelope: Any) -> dict[str, bytes]:
    """The fields of the form, as a reader that is not ours finds them."""
    request = MAILGUN.build(envelope)
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    whole = email.message_from_bytes(head + request.content, policy=email.policy.HTTP)
    assert whole.is_multipart() and not whole.defects
    boundary = whole.get_boundary()
    found: dict[str, bytes] = {}
    for piece in request.content.split(f"--{boundary}".encode())[1:-1]:
        headers, _, value = piece.partition(b"\r\n\r\n")
        name = email.message_from_bytes(headers.strip()).get_param("name", header="content-disposition")
        found[str(name)] = value[:-2]
    return found


def read(status: int, text: object, headers: dict[str, str] | None = None) -> Answer:
    return MAILGUN.read(Response(status, headers or {}, msgspec.json.encode({"message": text})), full())


def test_the_form_has_the_bytes_of_the_mail_and_everybody_who_gets_it() -> None:
    request = MAILGUN.build(full())
    assert request.url == "https://api.mailgun.net/v3/mg.example.org/messages.mime"
    assert b64decode(request.headers["authorization"].removeprefix("Basic ")) == b"api:k-1"
    made = form(full())
    assert made["message"] == full().message
    assert made["to"] == b"ada@example.com, bob@example.com, cleo@example.com, dan@example.com"
    assert made["o:tag"] == b"receipts"
    assert b"dan@example.com" not in made["message"]


def test_a_domain_cannot_lead_elsewhere() -> None:
    made = Mailgun(key=Secret("k"), domain="a/../b?", url="https://api.eu.mailgun.net").build(plain())
    assert made.url == "https://api.eu.mailgun.net/v3/a%2F..%2Fb%3F/messages.mime"


def test_a_later_attempt_names_only_who_lacks_the_mail_and_shows_the_same() -> None:
    made = form(only(full(), "dan@example.com"))
    assert (made["to"], made["message"]) == (b"dan@example.com", full().message)
    assert "o:tag" not in form(plain())


def test_taken() -> None:
    answer = MAILGUN.read(Response(200, {}, b'{"id":"<x@mg>","message":"Queued. Thank you."}'), full())
    assert answer == Sent(full().recipients, (), "<x@mg>")


def test_its_front_page_is_a_setting_that_is_wrong() -> None:
    answer = MAILGUN.read(Response(200, {}, b"Mailgun Magnificent API"), full())
    assert isinstance(answer, Refused) and not answer.permanent and "JETQ_EMAIL_MAILGUN_DOMAIN" in answer.reason


@pytest.mark.parametrize(
    ("status", "text", "kind", "permanent"),
    [
        (400, "'to' parameter is not a valid address: ada@example.com", Refused, True),
        (400, "Domain mg.example.org is not allowed to send: The domain is unverified", Refused, False),
        (400, "Sandbox subdomains are for test purposes only", Refused, False),
        (403, "Forbidden", Refused, False),
        (404, "Domain not found", Refused, False),
        (413, "too large", Refused, True),
        (402, "", Refused, False),
        (403, "Domain mg.example.org is not allowed to send: recipient limit exceeded", Slower, None),
        (429, "", Slower, None),
        (500, "", Unavailable, None),
        (200, 7, Unclear, None),
    ],
)
def test_other_answers(status: int, text: object, kind: type, permanent: bool | None) -> None:
    answer = read(status, text)
    assert type(answer) is kind
    assert getattr(answer, "permanent", None) is permanent
    assert "ada@" not in repr(answer)


def test_a_limit_of_the_hour_is_waited_for() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(minutes=20), usegmt=True)
    answer = read(403, f"Domain mg is not allowed to send: request limit exceeded, try again after {later}")
    assert isinstance(answer, Slower) and answer.after is not None and 1100 < answer.after <= 1200
