"""Requests to providers and their answers, as values. No provider opens a connection itself."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import blake2b
from http.client import responses
from typing import Any, ClassVar, Protocol

import msgspec
from msgspec import Struct, field

from jetq_email.errors import Unsendable
from jetq_email.message import Envelope
from jetq_email.message.address import Mailbox
from jetq_email.message.headers import own_header
from jetq_email.outcomes import Refusal, Sent
from jetq_email.redaction import without_addresses

__all__ = [
    "Answer",
    "Provider",
    "Refused",
    "Request",
    "Response",
    "Slower",
    "Unavailable",
    "Unclear",
    "addresses",
    "answered",
    "ascii_headers",
    "check_headers",
    "idempotency_key",
    "json_request",
    "refused",
    "sent",
    "told",
    "until",
]

_LONGEST_WAIT = 86400.0
"""Seconds for which a provider may ask to be left alone. A longer time is a mistake in its answer."""

_CODE = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9_.-]{1,64}")
"""The form of a provider's error code. No mail address and no sentence has this form."""

_LEAST_INSTANT = 1e9
"""A number from here on is an instant in seconds since 1970; a smaller number is seconds from now."""


class Request(Struct, frozen=True):
    """One HTTP request, a POST."""

    url: str
    headers: Mapping[str, str]
    content: bytes


class Response(Struct, frozen=True):
    """An HTTP response. The names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""

    def json(self) -> dict[str, Any]:
        """Return the JSON object in the response; an empty object if there is none."""
        try:
            decoded = msgspec.json.decode(self.content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return {}
        return decoded if isinstance(decoded, dict) else {}

    def text(self, name: str) -> str:
        """Return the text called `name` in the JSON object of the response; an empty text if there is none."""
        found = self.json().get(name)
        return found if isinstance(found, str) else ""

    def wait(self, *names: str) -> float | None:
        """Return the seconds to wait before the next request, from `Retry-After` or another header of `names`; None if
        there is none."""
        for name in ("retry-after", *names):
            if (seconds := until(self.headers.get(name, ""))) is not None:
                return seconds
        return None


class Refused(Struct, frozen=True):
    """The provider took the mail for nobody. permanent: True if the mail is the reason. Else the account, its key or
    its settings are the reason, which somebody can mend while the mail is tried again. said: the provider's words,
    which no log shows, because they may repeat words of the mail."""

    reason: str
    permanent: bool = True
    said: str = ""


class Slower(Struct, frozen=True):
    """The provider wants fewer mails. Nobody has this mail. after: seconds to wait; None if the provider does not
    say."""

    reason: str
    after: float | None = None


class Unavailable(Struct, frozen=True):
    """The provider failed. Nobody has the mail."""

    reason: str


class Unclear(Struct, frozen=True):
    """The answer does not say whether the provider has taken the mail."""

    reason: str


Answer = Sent | Refused | Slower | Unavailable | Unclear


class Provider(Protocol):
    """A company that sends mails which it gets over HTTP. It is a struct whose fields are its settings. If it has a
    field `rate`, such as `14/s`, it gets no more mails than that."""

    name: ClassVar[str]
    repeats: ClassVar[bool]
    """Whether a mail that is handed over twice may be sent twice, because the provider has no key to recognize a repeat
    by."""

    most: ClassVar[int]
    """The most recipients that a request may name."""

    shows: ClassVar[bool]
    """Whether readers see the recipients that a request names, because the provider writes To and Cc itself."""

    def build(self, envelope: Envelope) -> Request:
        """Return the request that hands over `envelope`, which is one of `in_requests`. Raises Unsendable for a mail
        that this provider cannot send."""
        ...

    def read(self, response: Response, envelope: Envelope) -> Answer:
        """Return what `response` to that request means. Raises nothing, whatever the response holds."""
        ...


# --- to a provider


def json_request(url: str, headers: Mapping[str, str], content: object) -> Request:
    """Return a request with `content` as JSON. Bytes in it are written in base64."""
    return Request(
        url, {"content-type": "application/json", "accept": "application/json", **headers}, msgspec.json.encode(content)
    )


def addresses(mailboxes: Sequence[Mailbox]) -> str:
    """Return all mailboxes in one text: `"Ann" <ann@example.com>, bob@example.com`."""
    return ", ".join(each.formatted for each in mailboxes)


def ascii_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return `headers` as they travel in a mail, each on one line, for providers that send their values unchanged."""
    written = {name: own_header(name, value, f"headers[{name!r}]").decode() for name, value in headers.items()}
    return {name: line.partition(":")[2].replace("\r\n", "").strip() for name, line in written.items()}


def idempotency_key(envelope: Envelope) -> str:
    """Return a key of 32 hexadecimal digits. It is the same in every attempt of a job to send the same mail to the same
    recipients.

    The mail's text is part of the key, so that a dead job that was given other arguments sends another mail. Files are
    no part of the key, because a file fetched from a URL may differ each time.
    """
    fields = envelope.fields
    whole = [envelope.job_id, fields.sender.formatted, fields.subject, fields.text, fields.html, *envelope.recipients]
    return blake2b(msgspec.json.encode(whole), digest_size=16).hexdigest()


def check_headers(provider: Provider, envelope: Envelope, reserved: frozenset[str]) -> None:
    """Raise Unsendable if the author's headers hold a name that `provider` keeps for itself. reserved: names in lower
    case."""
    for name in envelope.fields.headers:
        if name.lower() in reserved:
            raise Unsendable(f"headers[{name!r}]: {provider.name} keeps it for itself", hint="leave it out")


# --- from a provider


def sent(envelope: Envelope, reference: str | None, but: Mapping[str, str] | None = None) -> Sent:
    """Return a `Sent`: the provider has taken the mail, but not for the addresses in `but` (in lower case), each with
    the reason."""
    turned_away = but or {}
    return Sent(
        tuple(each for each in envelope.recipients if each.lower() not in turned_away),
        tuple(
            Refusal(each, 550, turned_away[each.lower()]) for each in envelope.recipients if each.lower() in turned_away
        ),
        reference,
    )


def until(text: str) -> float | None:
    """Return the seconds until the time in `text`: a number of seconds, an instant in seconds since 1970, or a date as
    HTTP and mail write it. At most one day; None if `text` is none of these."""
    text = text.strip()
    try:
        seconds = float(text)
        if seconds >= _LEAST_INSTANT:
            seconds -= datetime.now(UTC).timestamp()
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(text).astimezone(UTC) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError, IndexError, OverflowError, OSError):
            return None
    return min(max(seconds, 0.0), _LONGEST_WAIT) if math.isfinite(seconds) else None


def told(response: Response, code: object) -> str:
    """Return what a log may say about an answer: its status, and the provider's error code, if it is one. Nothing that
    could come from the mail is in it."""
    if _CODE.fullmatch(str(code or "")):
        return f"{response.status} {code}"
    return f"{response.status} {responses.get(response.status, '')}".rstrip()


def refused(response: Response, code: object, words: str, *, permanent: bool) -> Refused:
    """Return a `Refused`: the mail was taken for nobody, because of `code` and `words`."""
    return Refused(told(response, code), permanent, without_addresses(words))


def answered(response: Response, code: object, words: str, *resets: str) -> Answer:
    """Return what the status of `response` means. It means the same with every provider.

    code, words: the reason, for programs and for people. resets: the provider's own headers that say when it takes
    mails again.
    """
    reason, wait = told(response, code), response.wait(*resets)
    if response.status == 429 or (response.status == 503 and "retry-after" in response.headers and wait is not None):
        return Slower(reason, wait)
    if response.status >= 500 or response.status in (408, 425):
        return Unavailable(reason)
    if response.status in (401, 402, 403, 404, 405, 407):
        return refused(response, code, words, permanent=False)  # the key, account or URL is wrong, not the mail
    if response.status >= 400:
        return refused(response, code, words, permanent=True)
    return Unclear(reason)
