"""Brevo: https://developers.brevo.com/reference/sendtransacemail."""

from __future__ import annotations

from html import escape
from typing import Any, ClassVar
from uuid import UUID

from msgspec import Struct

from jetq_email.errors import Unsendable
from jetq_email.message import Envelope, Fields
from jetq_email.message.address import Mailbox
from jetq_email.providers.exchange import (
    Answer,
    Request,
    Response,
    answered,
    check_headers,
    idempotency_key,
    json_request,
    refused,
    sent,
)
from jetq_email.providers.recipients import check_addresses, places
from jetq_email.rates import RateText
from jetq_email.secret import Secret

__all__ = ["Brevo"]

_RESERVED = frozenset({"idempotencykey", "sender.ip", "x-mailin-custom", "x-sib-sandbox"})
"""Headers that tell Brevo what to do."""

_OF_THE_ACCOUNT = frozenset({"not_enough_credits", "unauthorized", "permission_denied", "account_under_validation"})


class Brevo(Struct, frozen=True, kw_only=True):
    """Sends mails through Brevo. Brevo recognizes a repeat by a key for 30 minutes, so each recipient gets a mail once
    if a repeat comes within that time.

    key: a key of its API, version 3. url: another endpoint.

    Unlike with other providers, a mail that has only text gets HTML with the same text, because Brevo takes no mail
    without HTML. An invitation is a file. Brevo makes the types of files from their names. These mails are refused
    here: with pictures in the HTML, with a header beyond ASCII, which Brevo would send unchanged, and with more than
    one `reply_to`. Brevo sets its own Message-ID.
    """

    name: ClassVar[str] = "brevo"
    repeats: ClassVar[bool] = False
    most: ClassVar[int] = 99
    shows: ClassVar[bool] = True

    key: Secret
    url: str = "https://api.brevo.com"
    rate: RateText | None = None

    def build(self, envelope: Envelope) -> Request:
        """See `Provider.build`."""
        fields = envelope.fields
        check_addresses(self, envelope)
        check_headers(self, envelope, _RESERVED)
        _check(fields)
        key = UUID(hex=idempotency_key(envelope), version=4)
        content: dict[str, Any] = {
            "sender": _mailbox(fields.sender),
            "subject": fields.subject,
            "textContent": fields.text,
            "htmlContent": _html_of(fields.text) if fields.html is None else fields.html,
            "headers": {**fields.headers, "idempotencyKey": str(key)},  # Brevo wants it here, not in HTTP
            **{place: [_mailbox(each) for each in mailboxes] for place, mailboxes in places(envelope).filled},
        }
        if fields.reply_to:
            content["replyTo"] = _mailbox(fields.reply_to[0])
        if fields.tag is not None:
            content["tags"] = [fields.tag]
        if files := fields.files:
            content["attachment"] = [{"name": part.filename, "content": part.content} for part in files]
        return json_request(f"{self.url}/v3/smtp/email", {"api-key": self.key.reveal()}, content)

    def read(self, response: Response, envelope: Envelope) -> Answer:
        """See `Provider.read`. `duplicate_parameter` says that an earlier attempt with the same key was accepted."""
        code, text = response.text("code"), response.text("message")
        if response.status in (201, 202) and (reference := response.text("messageId")):
            return sent(envelope, reference)
        if response.status == 400 and code == "duplicate_parameter":
            return sent(envelope, None)
        if code in _OF_THE_ACCOUNT:
            return refused(response, code, text, permanent=False)
        return answered(response, code, text, "x-sib-ratelimit-reset")


def _check(fields: Fields) -> None:
    if any(part.content_id is not None for part in fields.parts):
        raise Unsendable(
            "an attachment has a content_id, and Brevo shows no pictures that are in the mail",
            hint="link to the picture, or attach it without a content_id",
        )
    if len(fields.reply_to) > 1:
        raise Unsendable("reply_to: Brevo takes one address", hint="pass one")
    for name, value in fields.headers.items():
        if not value.isascii():
            raise Unsendable(f"headers[{name!r}]: Brevo takes ASCII alone", hint="percent-encode it, or leave it out")


def _mailbox(mailbox: Mailbox) -> dict[str, str]:
    return {"email": mailbox.address, **({"name": mailbox.name} if mailbox.name else {})}


def _html_of(text: str) -> str:
    return f'<div style="white-space: pre-wrap">{escape(text)}</div>'
