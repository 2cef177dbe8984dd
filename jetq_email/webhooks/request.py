"""One request of a webhook as a value, and functions that the providers' modules share to verify and read requests."""

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
    """One request. headers: names in lower case. now: the time at which it came, in seconds since 1970."""

    headers: Mapping[str, str]
    body: bytes
    now: float


class Junk(JetqError):
    """The body is one that its provider would not send."""


class Unverifiable(JetqError):
    """It cannot be found out now whether a request is genuine, so the provider should come again."""


class Hook(ABC):
    """The webhooks of one provider.

    name: the end of the path of its route. challenge: how a client without credentials is asked for them, if the
    provider uses HTTP's own authentication.
    """

    name: ClassVar[str]
    challenge: ClassVar[str] = ""

    @abstractmethod
    async def verify(self, request: Request) -> bool:
        """Return whether `request` comes from the provider. Raises Junk, and Unverifiable."""

    @abstractmethod
    def events(self, body: bytes) -> list[Event]:
        """Return the events in `body`, without those that are unknown here. Raises Junk."""

    def confirms(self, body: bytes) -> str | None:
        """Return the URL that must be fetched so that the provider goes on; None if it asks for nothing. Raises
        Junk."""
        return None


def decoded(body: bytes) -> Any:
    """Return the JSON in `body`. Raises Junk."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Junk("the body is not JSON") from None


def objects(body: bytes) -> list[dict[str, Any]]:
    """Return the objects in `body`, which is one object or an array of objects. Raises Junk."""
    content = decoded(body)
    several = content if isinstance(content, list) else [content]
    if not all(isinstance(each, dict) for each in several):
        raise Junk("the body is not an object of JSON, nor an array of them")
    return several


def below(holder: object, *names: str) -> Any:
    """Return the value in `holder` under `names`, each within the one before; None if there is none."""
    for name in names:
        holder = holder.get(name) if isinstance(holder, dict) else None
    return holder


def same(one: str, other: str) -> bool:
    """Return whether both texts are the same. The time that this takes does not depend on where they differ."""
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


def is_recent(told: object, now: float, within: float) -> bool:
    """Return whether `told`, seconds since 1970 as text or number, is at most `within` seconds away from now."""
    try:
        return abs(now - float(told)) <= within  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False


def has_basic(request: Request, user: str, password: str) -> bool:
    """Return whether `request` has that user and password by HTTP's basic authentication (RFC 7617)."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    try:
        given = b64decode(encoded.strip(), validate=True)
    except ValueError:
        return False
    expected = f"{user}:{password}".encode()
    return scheme.lower() == "basic" and hmac.compare_digest(given, expected)


def check_pair(provider: str, user: object, password: object) -> None:
    """Raise SettingsError if only one of `user` and `password` is set."""
    if (user is None) != (password is None):
        begin = f"JETQ_EMAIL_{provider.upper()}_WEBHOOK"
        raise SettingsError(f"{begin}_USER and {begin}_PASSWORD go together, and only one of them is set")
