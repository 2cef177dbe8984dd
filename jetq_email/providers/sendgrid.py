"""SendGrid: https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import Struct

from jetq_email.errors import Unsendable
from jetq_email.message import Envelope, Fields
from jetq_email.message.address import Mailbox
from jetq_email.message.mime import Part, content_type_of
from jetq_email.providers.exchange import (
    Answer,
    Request,
    Response,
    answered,
    ascii_headers,
    check_headers,
    json_request,
    refused,
    sent,
)
from jetq_email.providers.recipients import check_addresses, places
from jetq_email.rates import RateText
from jetq_email.secret import Secret

__all__ = ["SendGrid"]

_RESERVED = frozenset({"x-sg-id", "x-sg-eid", "dkim-signature"})
"""Headers that a mail could have otherwise. Mails here can set no other header of SendGrid's list anyway."""

_NO_CREDITS = "maximum credits exceeded"


class SendGrid(Struct, frozen=True, kw_only=True):
    """Sends mails through SendGrid. SendGrid has no key to recognize a repeat by, so each mail is sent at least once,
    always under the same Message-ID.

    key: an API key with the permission `Mail Send`. url: `https://api.eu.sendgrid.com` for a subuser in the EU.

    Unlike with other providers, an invitation is a file, and a file's type has no parameters (no charset, no method),
    because SendGrid refuses a semicolon in the type. A mail without a subject is refused here, as SendGrid would refuse
    it.
    """

    name: ClassVar[str] = "sendgrid"
    repeats: ClassVar[bool] = True
    most: ClassVar[int] = 1000
    shows: ClassVar[bool] = True

    key: Secret
    url: str = "https://api.sendgrid.com"
    rate: RateText | None = None

    def build(self, envelope: Envelope) -> Request:
        """See `Provider.build`."""
        fields = envelope.fields
        check_addresses(self, envelope)
        check_headers(self, envelope, _RESERVED)
        if not fields.subject.strip():
            raise Unsendable("subject: SendGrid takes no mail without one", hint="pass subject=")
        named = {place: [_recipient(each) for each in mailboxes] for place, mailboxes in places(envelope).filled}
        content: dict[str, Any] = {
            "personalizations": [named],
            "from": _mailbox(fields.sender),
            "subject": fields.subject,
            "content": _texts(fields),
            "headers": {**ascii_headers(fields.headers), "Message-ID": fields.message_id},
        }
        if fields.reply_to:
            content["reply_to_list"] = [_mailbox(each) for each in fields.reply_to]
        if fields.tag is not None:
            content["categories"] = [fields.tag]
        if files := fields.files:
            content["attachments"] = [_file(part) for part in files]
        return json_request(f"{self.url}/v3/mail/send", {"authorization": f"Bearer {self.key.reveal()}"}, content)

    def read(self, response: Response, envelope: Envelope) -> Answer:
        """See `Provider.read`."""
        if response.status == 202:
            return sent(envelope, response.headers.get("x-message-id"))
        field, text = _error(response)
        if _NO_CREDITS in text.lower():
            return refused(response, "no-credits", text, permanent=False)
        return answered(response, field, text, "x-ratelimit-reset")


def _mailbox(mailbox: Mailbox) -> dict[str, str]:
    return {"email": mailbox.address, **({"name": mailbox.name} if mailbox.name else {})}


def _recipient(mailbox: Mailbox) -> dict[str, str]:
    """Return a recipient. SendGrid puts the name into the header unchanged (issue 291 of sendgrid/sendgrid-python)."""
    if not any(character in mailbox.name for character in ",;"):
        return _mailbox(mailbox)
    return {"email": mailbox.address, "name": mailbox.formatted.rpartition(" <")[0]}


def _texts(fields: Fields) -> list[dict[str, str]]:
    """Return the text before the HTML, as SendGrid demands. Neither may be empty."""
    texts = [{"type": "text/plain", "value": fields.text or " "}]
    if fields.html is not None:
        texts.append({"type": "text/html", "value": fields.html or " "})
    return texts


def _file(part: Part) -> dict[str, Any]:
    shown = {} if part.content_id is None else {"content_id": part.content_id}
    return {
        "content": part.content,
        "filename": part.filename,
        "type": content_type_of(part).partition(";")[0],
        "disposition": "inline" if shown else "attachment",
        **shown,
    }


def _error(response: Response) -> tuple[object, str]:
    """Return the field that is wrong, if the answer names one, and all messages of `{"errors": [{"message": ...,
    "field": ...}]}`."""
    errors = response.json().get("errors")
    found = [error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []
    field = next((field for error in found if isinstance(field := error.get("field"), str)), None)
    return field, "; ".join(message for error in found if isinstance(message := error.get("message"), str))
