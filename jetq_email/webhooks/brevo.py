"""Brevo: https://developers.brevo.com/docs/transactional-webhooks. Its requests are not signed, but have a token, or
user and password."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from jetq_email.feedback.events import Event, Kind, event, instant
from jetq_email.settings.webhook_secrets import WebhookSecrets
from jetq_email.webhooks.request import Hook, Request, check_pair, has_basic, objects, same

__all__ = ["Brevo"]

_KINDS: Mapping[object, Kind] = {
    "hard_bounce": "bounce",
    "invalid_email": "bounce",
    "soft_bounce": "deferred",
    "deferred": "deferred",
    "spam": "complaint",
    "complaint": "complaint",
    "unsubscribe": "unsubscribed",
    "unsubscribed": "unsubscribed",
    "delivered": "delivered",
}
"""Kinds of events by Brevo's names. `blocked` is missing: it may have several reasons, and does not say which."""


class Brevo(Hook):
    """Webhooks for transactional mails, one by one or batched."""

    name: ClassVar[str] = "brevo"
    challenge: ClassVar[str] = 'Basic realm="webhooks"'

    def __init__(self, token: str | None, user: str | None = None, password: str | None = None) -> None:
        self._token = token
        self._user = user
        self._password = password

    @classmethod
    def of(cls, secrets: WebhookSecrets) -> Brevo | None:
        """Return the hook that the settings set up; None if they set up none. Raises SettingsError."""
        token, user, password = secrets.brevo_webhook_token, secrets.brevo_webhook_user, secrets.brevo_webhook_password
        check_pair(cls.name, user, password)
        if token is None and user is None:
            return None
        shown = [None if each is None else each.reveal() for each in (token, password)]
        return cls(shown[0], user, shown[1])

    async def verify(self, request: Request) -> bool:
        """See `Hook.verify`."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if self._token is not None and scheme.lower() == "bearer":
            return same(token.strip(), self._token)
        if self._user is None or self._password is None:
            return False
        return has_basic(request, self._user, self._password)

    def events(self, body: bytes) -> list[Event]:
        """See `Hook.events`."""
        return [found for told in objects(body) for found in _event(told)]


def _event(told: dict[str, Any]) -> list[Event]:
    what = told.get("event")
    kind = _KINDS.get(what) if isinstance(what, str) else None
    # The other times are in the account's time zone.
    at = instant(told.get("ts_epoch"), 0.001)
    reference = told.get("message-id")
    return event(kind, told.get("email"), "brevo", at=at, detail=told.get("reason"), reference=reference)
