"""Postmark: https://postmarkapp.com/developer/webhooks/webhooks-overview. Not signed, but with user and password."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from jetq_email.feedback.events import Event, Kind, event, instant
from jetq_email.settings.webhook_secrets import WebhookSecrets
from jetq_email.webhooks.request import Hook, Request, check_pair, has_basic, objects

__all__ = ["Postmark"]

_BOUNCES: Mapping[object, Kind] = {
    "HardBounce": "bounce",
    "BadEmailAddress": "bounce",
    "SpamComplaint": "complaint",
    "Unsubscribe": "unsubscribed",
    "ManualSuppression": "unsubscribed",
    "Transient": "deferred",
    "SoftBounce": "deferred",
    "DnsError": "deferred",
    "Blocked": "deferred",
    "SpamNotification": "deferred",  # a filter refused the content; nobody complained
}
"""Kinds by the `Type` of a bounce, or the `SuppressionReason` of a change. Other types are not about the address."""


class Postmark(Hook):
    """Webhooks for bounces, spam complaints, subscription changes and deliveries."""

    name: ClassVar[str] = "postmark"
    challenge: ClassVar[str] = 'Basic realm="webhooks"'

    def __init__(self, user: str, password: str) -> None:
        self._user = user
        self._password = password

    @classmethod
    def of(cls, secrets: WebhookSecrets) -> Postmark | None:
        """Return the hook that the settings set up; None if they set up none. Raises SettingsError."""
        user, password = secrets.postmark_webhook_user, secrets.postmark_webhook_password
        check_pair(cls.name, user, password)
        return None if user is None or password is None else cls(user, password.reveal())

    async def verify(self, request: Request) -> bool:
        """See `Hook.verify`."""
        return has_basic(request, self._user, self._password)

    def events(self, body: bytes) -> list[Event]:
        """See `Hook.events`."""
        return [found for told in objects(body) for found in _event(told)]


def _event(told: dict[str, Any]) -> list[Event]:
    kind: Kind | None = None
    record, address, at = told.get("RecordType"), told.get("Email"), told.get("BouncedAt")
    if record == "Bounce":
        kind = _kind(told.get("Type"))
    elif record == "SpamComplaint":
        kind = "complaint"
    elif record == "Delivery":
        kind, address, at = "delivered", told.get("Recipient"), told.get("DeliveredAt")
    elif record == "SubscriptionChange" and told.get("SuppressSending") is True:
        kind, address, at = _kind(told.get("SuppressionReason")), told.get("Recipient"), told.get("ChangedAt")
    details = told.get("Details") or told.get("Description")
    return event(kind, address, "postmark", at=instant(at), detail=details, reference=told.get("MessageID"))


def _kind(told: object) -> Kind | None:
    return _BOUNCES.get(told) if isinstance(told, str) else None
