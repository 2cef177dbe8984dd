"""Postmark: https://postmarkapp.com/developer/api/email-api."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from msgspec import Struct

from jetq_email.message import Envelope
from jetq_email.message.mime import Part, content_type_of
from jetq_email.providers.exchange import (
    Answer,
    Request,
    Response,
    addresses,
    answered,
    json_request,
    refused,
    sent,
)
from jetq_email.providers.recipients import check_addresses, places
from jetq_email.rates import RateText
from jetq_email.secret import Secret

__all__ = ["Postmark"]

_INACTIVE = re.compile(r"inactive addresses:\s*(.*?)\.\s", re.DOTALL)
"""The recipients that would get nothing, in the message of an answer. The answer has no field for them."""

_OF_THE_ACCOUNT = frozenset({10, 400, 401, 405, 411, 412, 413, 1101, 1235})
"""Error codes that are not about the mail, but about the key, sender, plan or stream, which somebody can mend."""

_INACTIVE_RECIPIENT = 406


class Postmark(Struct, frozen=True, kw_only=True):
    """Sends mails through Postmark, by the token of a server. Postmark has no key to recognize a repeat by, so each
    mail is sent at least once.

    token: the server's token. stream: the message stream; `outbound` is the stream for transactional mail.
    """

    name: ClassVar[str] = "postmark"
    repeats: ClassVar[bool] = True
    most: ClassVar[int] = 50
    shows: ClassVar[bool] = True

    token: Secret
    stream: str = "outbound"
    url: str = "https://api.postmarkapp.com"
    rate: RateText | None = None

    def build(self, envelope: Envelope) -> Request:
        """See `Provider.build`."""
        fields = envelope.fields
        check_addresses(self, envelope)
        content: dict[str, Any] = {
            "From": fields.sender.formatted,
            "Subject": fields.subject,
            "TextBody": fields.text,
            "MessageStream": self.stream,
        }
        for place, mailboxes in places(envelope).filled:
            content[place.capitalize()] = addresses(mailboxes)
        if fields.reply_to:
            content["ReplyTo"] = addresses(fields.reply_to)
        if fields.html is not None:
            content["HtmlBody"] = fields.html
        if fields.tag is not None:
            content["Tag"] = fields.tag
        if files := fields.files:
            content["Attachments"] = [_file(part) for part in files]
        headers = {**fields.headers, "Message-ID": fields.message_id, "X-PM-KeepID": "true"}
        content["Headers"] = [{"Name": name, "Value": value} for name, value in headers.items()]
        return json_request(f"{self.url}/email", {"x-postmark-server-token": self.token.reveal()}, content)

    def read(self, response: Response, envelope: Envelope) -> Answer:
        """See `Provider.read`."""
        code, text = _code(response), response.text("Message")
        inactive = _inactive(text)
        if response.status == 200 and code == 0 and (reference := response.text("MessageID")):
            return sent(envelope, reference, inactive)
        if response.status == 422 and code in _OF_THE_ACCOUNT:
            return refused(response, code or None, text, permanent=False)
        if response.status == 422 and code == _INACTIVE_RECIPIENT:
            return sent(envelope, None, inactive)
        return answered(response, code or None, text)


def _code(response: Response) -> int:
    code = response.json().get("ErrorCode")
    return code if isinstance(code, int) else 0


def _file(part: Part) -> dict[str, Any]:
    named = {} if part.content_id is None else {"ContentID": f"cid:{part.content_id}"}
    return {"Name": part.filename, "Content": part.content, "ContentType": content_type_of(part), **named}


def _inactive(text: str) -> dict[str, str]:
    found = _INACTIVE.search(text)
    names = [] if found is None else found[1].lower().split(",")
    return {name.strip(): "inactive at Postmark: an earlier mail bounced, or was complained of" for name in names}
