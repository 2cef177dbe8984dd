"""Providers as a stub has to know them: how each is set up, where its requests name somebody, and what it answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct, json

from tests.apps.http_server import Asked, Told

__all__ = ["SHAPES", "Shape", "variables"]


class Shape(Struct, frozen=True, kw_only=True):
    """One provider. settings: those that it needs. path: where its requests go. named: whom a request names.

    ok: a mail taken. refused: one that is refused for good. slower: one too many. key: by which it tells a repeat, and
    repeated: what it answers to one, None if it is what the first got.
    """

    settings: Mapping[str, str]
    path: str
    named: Callable[[Asked], list[str]]
    ok: Told
    refused: Told
    slower: Told
    key: Callable[[Asked], str] | None = None
    repeated: Told | None = None


def _content(asked: Asked) -> dict[str, Any]:
    content: dict[str, Any] = json.decode(asked.content)
    return content


def _bare(text: str) -> str:
    return text.rpartition("<")[2].rstrip(">")


def _ses(asked: Asked) -> list[str]:
    found: list[str] = _content(asked)["Destination"]["ToAddresses"]
    return found


def _mailgun(asked: Asked) -> list[str]:
    found = re.search(rb'name="to"\r\n\r\n(.*)\r\n', asked.content)
    assert found is not None
    return found[1].decode().split(", ")


def _sendgrid(asked: Asked) -> list[str]:
    [whom] = _content(asked)["personalizations"]
    return [each["email"] for place in ("to", "cc", "bcc") for each in whom.get(place, [])]


def _postmark(asked: Asked) -> list[str]:
    content = _content(asked)
    return [_bare(each) for place in ("To", "Cc", "Bcc") if place in content for each in content[place].split(", ")]


def _resend(asked: Asked) -> list[str]:
    content = _content(asked)
    return [_bare(each) for place in ("to", "cc", "bcc") for each in content.get(place, [])]


def _brevo(asked: Asked) -> list[str]:
    content = _content(asked)
    return [each["email"] for place in ("to", "cc", "bcc") for each in content.get(place, [])]


SHAPES: Mapping[str, Shape] = {
    "ses": Shape(
        settings={"KEY_ID": "AKIDEXAMPLE", "SECRET_KEY": "canary", "REGION": "eu-central-1"},
        path="/v2/email/outbound-emails",
        named=_ses,
        ok=Told(200, {"MessageId": "0107018a-000000"}),
        refused=Told(400, {"message": "Message rejected"}, {"x-amzn-errortype": "MessageRejected"}),
        slower=Told(429, {"message": None}, {"x-amzn-errortype": "TooManyRequestsException"}),
    ),
    "sendgrid": Shape(
        settings={"KEY": "canary"},
        path="/v3/mail/send",
        named=_sendgrid,
        ok=Told(202, b"", {"x-message-id": "14c5d75ce93"}),
        refused=Told(
            400, {"errors": [{"message": "Does not contain a valid address.", "field": "personalizations.0"}]}
        ),
        slower=Told(429, {"errors": [{"field": None, "message": "too many requests"}]}),
    ),
    "mailgun": Shape(
        settings={"KEY": "canary", "DOMAIN": "mg.example.org"},
        path="/v3/mg.example.org/messages.mime",
        named=_mailgun,
        ok=Told(200, {"id": "<20260102@mg.example.org>", "message": "Queued. Thank you."}),
        refused=Told(400, {"message": "to parameter is not a valid address. please check documentation"}),
        slower=Told(429, {"message": "Too Many Requests"}),
    ),
    "postmark": Shape(
        settings={"TOKEN": "canary"},
        path="/email",
        named=_postmark,
        ok=Told(200, {"ErrorCode": 0, "Message": "OK", "MessageID": "b7bc2f4a-e38e"}),
        refused=Told(422, {"ErrorCode": 300, "Message": "Invalid email request"}),
        slower=Told(429, {"ErrorCode": 429, "Message": "Rate limit exceeded"}),
    ),
    "resend": Shape(
        settings={"KEY": "canary"},
        path="/emails",
        named=_resend,
        ok=Told(200, {"id": "49a3999c-0ce1"}),
        refused=Told(422, {"statusCode": 422, "name": "validation_error", "message": "Invalid `to` field."}),
        slower=Told(429, {"statusCode": 429, "name": "rate_limit_exceeded", "message": "Too many requests."}),
        key=lambda asked: asked.headers["idempotency-key"],
    ),
    "brevo": Shape(
        settings={"KEY": "canary"},
        path="/v3/smtp/email",
        named=_brevo,
        ok=Told(201, {"messageId": "<202601020304@smtp-relay.mailin.fr>"}),
        refused=Told(400, {"code": "invalid_parameter", "message": "email is not valid in to"}),
        slower=Told(429, {"code": "too_many_requests", "message": "Too many requests"}),
        key=lambda asked: str(_content(asked)["headers"]["idempotencyKey"]),
        repeated=Told(400, {"code": "duplicate_parameter", "message": "idempotencyKey was used"}),
    ),
}
"""By the provider's name in the settings."""


def variables(name: str, url: str, **more: object) -> dict[str, str]:
    """The environment of a worker that sends through the provider `name`, which is at `url`."""
    settings = {f"{name}_{field}": value for field, value in {**SHAPES[name].settings, "url": url}.items()}
    settings |= {"transport": name, "sender": "shop@example.org", **{key: str(value) for key, value in more.items()}}
    return {f"JETQ_EMAIL_{key.upper()}": value for key, value in settings.items()}
