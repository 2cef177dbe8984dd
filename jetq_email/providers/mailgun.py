"""Mailgun: https://documentation.mailgun.com/docs/mailgun/api-reference/send/mailgun/messages."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable
from hashlib import blake2b
from typing import ClassVar
from urllib.parse import quote

from msgspec import Struct

from jetq_email.message import Envelope
from jetq_email.providers.exchange import (
    Answer,
    Refused,
    Request,
    Response,
    Slower,
    answered,
    refused,
    sent,
    told,
    until,
)
from jetq_email.providers.recipients import check_addresses
from jetq_email.rates import RateText
from jetq_email.secret import Secret

__all__ = ["Mailgun"]

_LIMIT = re.compile(r"limit exceeded(?:, try again after (.{1,40}))?", re.IGNORECASE)
"""The answer to a domain that has sent as much as it may in an hour. Its status is not always 429."""

_OF_THE_ACCOUNT = re.compile(
    r"not allowed to send|sandbox|free accounts|activate|disabled|domain not found", re.IGNORECASE
)
"""Words in its answer to a domain or an account that may not send. The status may be 400 then."""

_FRONT_PAGE = b"Mailgun Magnificent API"
"""The answer, with status 200, to a URL that is not one of its API."""


class Mailgun(Struct, frozen=True, kw_only=True):
    """Sends mails through Mailgun, which gets the same bytes as an SMTP server. Mailgun has no key to recognize a
    repeat by, so each mail is sent at least once, always under the same Message-ID.

    key: a sending key of the domain, or the key of the account. domain: the domain that Mailgun sends for. url:
        `https://api.eu.mailgun.net` for a domain in the EU.
    """

    name: ClassVar[str] = "mailgun"
    repeats: ClassVar[bool] = True
    most: ClassVar[int] = 1000
    shows: ClassVar[bool] = False

    key: Secret
    domain: str
    url: str = "https://api.mailgun.net"
    rate: RateText | None = None

    def build(self, envelope: Envelope) -> Request:
        """See `Provider.build`."""
        check_addresses(self, envelope)
        fields = [("to", ", ".join(envelope.recipients))]
        if envelope.fields.tag is not None:
            fields.append(("o:tag", envelope.fields.tag))
        content_type, content = _form(fields, envelope.message)
        login = b64encode(f"api:{self.key.reveal()}".encode()).decode()
        headers = {"authorization": f"Basic {login}", "content-type": content_type, "accept": "application/json"}
        return Request(f"{self.url}/v3/{quote(self.domain, safe='')}/messages.mime", headers, content)

    def read(self, response: Response, envelope: Envelope) -> Answer:
        """See `Provider.read`."""
        text = response.text("message")
        if response.status == 200 and (reference := response.text("id")):
            return sent(envelope, reference)
        if response.status == 200 and _FRONT_PAGE in response.content:
            return Refused("its front page: JETQ_EMAIL_MAILGUN_DOMAIN or _URL is wrong", permanent=False)
        if response.status in (400, 403, 420) and (limit := _LIMIT.search(text)):
            return Slower(told(response, "limit-exceeded"), response.wait() or until(limit[1] or ""))
        if response.status == 400 and _OF_THE_ACCOUNT.search(text):
            return refused(response, "may-not-send", text, permanent=False)
        return answered(response, None, text)


def _form(fields: Iterable[tuple[str, str]], message: bytes) -> tuple[str, bytes]:
    """Return the content type and the bytes of a form (RFC 7578) with `fields` and the file `message`.

    The fields need no escaping: they are addresses and tags, without line breaks or quotes in the places that matter.
    """
    boundary = blake2b(message, digest_size=16).hexdigest()
    parts = [
        *(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields
        ),
        f'--{boundary}\r\nContent-Disposition: form-data; name="message"; filename="message.eml"\r\n'
        "Content-Type: message/rfc822\r\n\r\n",
    ]
    content = b"".join(("".join(parts).encode(), message, f"\r\n--{boundary}--\r\n".encode()))
    return f"multipart/form-data; boundary={boundary}", content
