"""Mailgun: https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks. The body holds the signature."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any, ClassVar

from jetq_email.feedback.events import Event, Kind, event, instant
from jetq_email.settings.webhook_secrets import WebhookSecrets
from jetq_email.webhooks.request import Hook, Request, below, decoded, is_recent, objects, same

__all__ = ["Mailgun"]

_OLDEST = 10 * 3600.0
"""Seconds. Mailgun repeats a request for 8 hours, and does not document whether it signs each repeat anew."""

_KINDS: Mapping[object, Kind] = {"delivered": "delivered", "complained": "complaint"}

_REASONS: Mapping[object, Kind] = {
    "bounce": "bounce",
    "suppress-bounce": "bounce",
    "suppress-complaint": "complaint",
    "suppress-unsubscribe": "unsubscribed",
}
"""Kinds of permanent failures. Other reasons, such as `old` and `espblock`, are about the mail or the sender. A failure
that Mailgun later counts as a hard bounce is a `suppress-bounce` at the next mail."""


class Mailgun(Hook):
    """Webhooks for permanent and temporary failures, complaints, unsubscribes and deliveries."""

    name: ClassVar[str] = "mailgun"

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    @classmethod
    def of(cls, secrets: WebhookSecrets) -> Mailgun | None:
        """Return the hook that the settings set up; None if they set up none."""
        return None if secrets.mailgun_webhook_key is None else cls(secrets.mailgun_webhook_key.reveal())

    async def verify(self, request: Request) -> bool:
        """See `Hook.verify`. Mailgun signs only a time and a token, not the content."""
        block = below(decoded(request.body), "signature")
        at, token, signature = (below(block, name) for name in ("timestamp", "token", "signature"))
        if not (isinstance(at, str | int) and isinstance(token, str) and isinstance(signature, str)):
            return False
        expected = hmac.digest(self._key, f"{at}{token}".encode(), "sha256").hex()
        return same(signature, expected) and is_recent(at, request.now, _OLDEST)

    def events(self, body: bytes) -> list[Event]:
        """See `Hook.events`."""
        return [found for told in objects(body) for found in _event(told.get("event-data"))]


def _event(told: Any) -> list[Event]:
    status = below(told, "delivery-status")
    return event(
        _kind(told),
        below(told, "recipient"),
        "mailgun",
        at=instant(below(told, "timestamp")),
        detail=below(status, "message") or below(status, "description"),
        reference=below(told, "message", "headers", "message-id"),
    )


def _kind(told: Any) -> Kind | None:
    what = below(told, "event")
    if what == "failed":
        permanent = below(told, "severity") == "permanent"
        reason = below(told, "reason")
        return _REASONS.get(reason, "deferred") if permanent and isinstance(reason, str) else "deferred"
    if what == "unsubscribed":
        return None if below(told, "mailing-list") else "unsubscribed"  # unsubscribed only from one of Mailgun's lists
    return _KINDS.get(what) if isinstance(what, str) else None
