"""SendGrid: https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event. Signed, ECDSA on P-256."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import Any, ClassVar

from jetq import SettingsError
from jetq_email.feedback.events import Event, Kind, event, instant
from jetq_email.settings.webhook_secrets import WebhookSecrets
from jetq_email.webhooks.request import Hook, Request, is_recent, objects

__all__ = ["SendGrid"]

_OLDEST = 26 * 3600.0
"""Seconds. SendGrid repeats a request for 24 hours, and does not document whether it signs each repeat anew."""

_KINDS: Mapping[object, Kind] = {
    "deferred": "deferred",
    "delivered": "delivered",
    "spamreport": "complaint",
    "unsubscribe": "unsubscribed",
}
"""Kinds of events that need no closer look. `group_unsubscribe` is missing: it is about one group of SendGrid's, not
about other mail."""

_DROPS: Mapping[object, Kind] = {
    "bounced address": "bounce",
    "invalid": "bounce",
    "spam reporting address": "complaint",
    "unsubscribed address": "unsubscribed",
}
"""Kinds by the reason, in lower case, for which SendGrid itself did not send a mail."""


class SendGrid(Hook):
    """The event webhook, with its signature turned on."""

    name: ClassVar[str] = "sendgrid"

    def __init__(self, public_key: str) -> None:
        try:
            from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
            from cryptography.hazmat.primitives import hashes
            from cryptography.hazmat.primitives.asymmetric import ec
            from cryptography.hazmat.primitives.serialization import load_der_public_key
        except ImportError:
            raise SettingsError(
                "webhooks of SendGrid need the package cryptography", hint="pip install 'jetq-nats[email,crypto]'"
            ) from None
        try:
            key = load_der_public_key(b64decode("".join(public_key.split()), validate=True))
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)):
            raise SettingsError(
                "JETQ_EMAIL_SENDGRID_WEBHOOK_KEY is not a public key of SendGrid's webhooks",
                hint="SendGrid shows it where the signature of the event webhook is turned on; it begins with MFkw",
            )

        def is_signed(signature: bytes, content: bytes) -> bool:
            try:
                key.verify(signature, content, ec.ECDSA(hashes.SHA256()))
            except InvalidSignature:
                return False
            return True

        self._is_signed = is_signed

    @classmethod
    def of(cls, secrets: WebhookSecrets) -> SendGrid | None:
        """Return the hook that the settings set up; None if they set up none. Raises SettingsError."""
        return None if secrets.sendgrid_webhook_key is None else cls(secrets.sendgrid_webhook_key)

    async def verify(self, request: Request) -> bool:
        """See `Hook.verify`. The signature covers the text of the time, followed by the body."""
        at = request.headers.get("x-twilio-email-event-webhook-timestamp", "")
        try:
            signature = b64decode(request.headers.get("x-twilio-email-event-webhook-signature", ""), validate=True)
        except ValueError:
            return False
        return self._is_signed(signature, at.encode() + request.body) and is_recent(at, request.now, _OLDEST)

    def events(self, body: bytes) -> list[Event]:
        """See `Hook.events`."""
        return [found for told in objects(body) for found in _event(told)]


def _event(told: dict[str, Any]) -> list[Event]:
    detail = told.get("reason") or told.get("response")
    at = instant(told.get("timestamp"))
    return event(_kind(told), told.get("email"), "sendgrid", at=at, detail=detail, reference=told.get("sg_message_id"))


def _kind(told: dict[str, Any]) -> Kind | None:
    what = told.get("event")
    if what == "bounce":
        # A block, or a bounce with a 4.x.x, is about this mail or this hour: SendGrid sends to that address again.
        soft = told.get("type") == "blocked" or str(told.get("status", "")).startswith("4")
        return "deferred" if soft else "bounce"
    if what == "dropped":
        return _DROPS.get(str(told.get("reason", "")).lower())
    return _KINDS.get(what) if isinstance(what, str) else None
