"""What a webhook is: one request as a value, and what the providers' modules share to verify and read it."""

from __future__ import annotations

import hmac
from abc import ABC, abstractmethod
from base64 import b64decode
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
from msgspec import Struct

from jetq import JetqError, SettingsError
from jetq_email.feedback.events import Event

__all__ = [
    "Hook",
    "Junk",
    "Request",
    "Unverifiable",
    "below",
    "check_pair",
    "decoded",
    "has_basic",
    "is_recent",
    "objects",
    "same",
]


class Request(Struct, frozen=True):
    """One request. headers: names in small letters. now: when it came, in seconds since 1970."""

    headers: Mapping[str, str]
    body: bytes
    now: float


class Junk(JetqError):
    """A body that its provider would not send."""


class Unverifiable(JetqError):
    """Nobody can tell now whether a request is genuine: the provider is to come again."""


class Hook(ABC):
    """The webhooks of one provider.

    name: by which its route ends. challenge: how a client that has not said who it is is asked for it, where that is by
    HTTP's own authentication.
    """

    name: ClassVar[str]
    challenge: ClassVar[str] = ""

    @abstractmethod
    async def verify(self, request: Request) -> bool:
        """Return whether `request` is the provider's. Raises Junk, and Unverifiable."""

    @abstractmethod
    def events(self, body: bytes) -> list[Event]:
        """Return what it tells, without what is unknown here. Raises Junk."""

    def confirms(self, body: bytes) -> str | None:
        """Return the URL that is to be visited so that the provider goes on, if it asks for that. Raises Junk."""
        return None


def decoded(body: bytes) -> Any:
    """Return the JSON in `body`. Raises Junk."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Junk("the body is not JSON") from None


def objects(body: bytes) -> list[dict[str, Any]]:
    """Return the objects in `body`, which is one or an array of them. Raises Junk."""
    content = decoded(body)
    several = content if isinstance(content, list) else [content]
    if not all(isinstance(each, dict) for each in several):
        raise Junk("the body is not an object of JSON, nor an array of them")
    return several


def below(holder: object, *names: str) -> Any:
    """Return what stands in an object under `names`, one within the other; None if nothing does."""
    for name in names:
        holder = holder.get(name) if isinstance(holder, dict) else None
    return holder


def same(one: str, other: str) -> bool:
    """Return whether both are the same text, found out in a time that does not depend on where they differ."""
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


def is_recent(told: object, now: float, within: float) -> bool:
    """Return whether the seconds since 1970 that are `told`, as text or number, are `within` seconds of now."""
    try:
        return abs(now - float(told)) <= within  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False


def has_basic(request: Request, user: str, password: str) -> bool:
    """Return whether `request` names that user and password by HTTP's basic authentication (RFC 7617)."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    try:
        given = b64decode(encoded.strip(), validate=True)
    except ValueError:
        return False
    expected = f"{user}:{password}".encode()
    return scheme.lower() == "basic" and hmac.compare_digest(given, expected)


def check_pair(provider: str, user: object, password: object) -> None:
    """Raise SettingsError if only one of both is there."""
    if (user is None) != (password is None):
        begin = f"JETQ_EMAIL_{provider.upper()}_WEBHOOK"
        raise SettingsError(f"{begin}_USER and {begin}_PASSWORD go together, and only one of them is set")
