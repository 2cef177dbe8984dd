"""Resend: https://resend.com/docs/api-reference/emails/send-email."""

from __future__ import annotations

from base64 import b64encode
from typing import Any, ClassVar

from msgspec import Struct

from jetq_email.message import Envelope
from jetq_email.message.address import Mailbox
from jetq_email.message.mime import Part, content_type_of
from jetq_email.providers.exchange import (
    Answer,
    Refused,
    Request,
    Response,
    Slower,
    Unclear,
    answered,
    ascii_headers,
    idempotency_key,
    json_request,
    refused,
    sent,
    told,
)
from jetq_email.providers.recipients import check_addresses, places
from jetq_email.rates import RateText
from jetq_email.secret import Secret

__all__ = ["Resend"]

_QUOTAS = frozenset({"daily_quota_exceeded", "monthly_quota_exceeded"})
_QUOTA_WAIT = 900.0
"""Seconds, unless the answer says more. A quota is one of a day or a month, and somebody may raise it."""

_SPECIALS = frozenset('()<>[]:;@\\,."')
"""Characters for which a display name must be quoted (RFC 5322 3.2.3)."""


class Resend(Struct, frozen=True, kw_only=True):
    """Sends mails through Resend. Resend recognizes a repeat by a key for 24 hours, so each recipient gets a mail once.

    key: an API key that may send. url: another endpoint.

    Unlike with other providers, an invitation is a file, and Resend sets its own Message-ID.
    """

    name: ClassVar[str] = "resend"
    repeats: ClassVar[bool] = False
    most: ClassVar[int] = 50
    shows: ClassVar[bool] = True

    key: Secret
    url: str = "https://api.resend.com"
    rate: RateText | None = None

    def build(self, envelope: Envelope) -> Request:
        """See `Provider.build`."""
        fields = envelope.fields
        check_addresses(self, envelope)
        content: dict[str, Any] = {
            "from": _sender(fields.sender),
            "subject": fields.subject,
            "text": fields.text,
            **{place: [_recipient(each) for each in mailboxes] for place, mailboxes in places(envelope).filled},
        }
        if fields.html is not None:
            content["html"] = fields.html
        if fields.reply_to:
            content["reply_to"] = [_recipient(each) for each in fields.reply_to]
        if fields.headers:
            content["headers"] = ascii_headers(fields.headers)
        if fields.tag is not None:
            content["tags"] = [{"name": "tag", "value": fields.tag}]
        if files := fields.files:
            content["attachments"] = [_file(part) for part in files]
        headers = {"authorization": f"Bearer {self.key.reveal()}", "idempotency-key": idempotency_key(envelope)}
        return json_request(f"{self.url}/emails", headers, content)

    def read(self, response: Response, envelope: Envelope) -> Answer:
        """See `Provider.read`.

        If the key was used with another content, an earlier attempt had a file that has changed since. It is unknown
        here whether that attempt's mail was sent. Sending the mail now might send it twice, and calling it sent might
        lose it. So the job becomes a dead letter that says what to do.
        """
        kind, text = response.text("name"), response.text("message")
        if response.status == 200 and (reference := response.text("id")):
            return sent(envelope, reference)
        if kind == "concurrent_idempotent_requests":
            return Unclear(told(response, kind))
        if kind == "invalid_idempotent_request":
            return Refused("409 an attempt before has handed it over with other files: see Resend's list of emails")
        if kind in _QUOTAS:
            return Slower(told(response, kind), max(response.wait("ratelimit-reset") or 0.0, _QUOTA_WAIT))
        if kind == "validation_error" and "api key" in text.lower():  # 400 or 401, by the version of its API
            return refused(response, kind, text, permanent=False)
        return answered(response, kind, text, "ratelimit-reset")


def _sender(mailbox: Mailbox) -> str:
    """Return the sender. Resend takes the name unchanged, also beyond ASCII, but refuses an encoded name."""
    if not mailbox.name or _SPECIALS.intersection(mailbox.name):
        return mailbox.formatted
    return f"{mailbox.name} <{mailbox.address}>"


def _recipient(mailbox: Mailbox) -> str:
    """Return any other address. Resend refuses a name in quotes, so a name that needs quotes is encoded (RFC 2047)."""
    if not _SPECIALS.intersection(mailbox.name):
        return _sender(mailbox)
    name = mailbox.name
    pieces = [name[at : at + 10] for at in range(0, len(name), 10)]  # at most 40 octets, which fit into 75 columns
    words = " ".join(f"=?utf-8?b?{b64encode(piece.encode()).decode()}?=" for piece in pieces)
    return f"{words} <{mailbox.address}>"


def _file(part: Part) -> dict[str, Any]:
    shown = {} if part.content_id is None else {"content_id": part.content_id}
    return {"filename": part.filename, "content": part.content, "content_type": content_type_of(part), **shown}
