"""Resend: https://resend.com/docs/webhooks. Signed by Svix: https://docs.svix.com/receiving/verifying-payloads/how-manual."""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any, ClassVar

from jetq import SettingsError
from jetq_email.feedback.events import Event, Kind, event, instant
from jetq_email.settings.webhook_secrets import WebhookSecrets
from jetq_email.webhooks.request import Hook, Request, below, is_recent, objects, same

__all__ = ["Resend"]

_OLDEST = 300.0
"""Seconds, as in Svix's own libraries. Each attempt is signed anew."""

_KINDS: Mapping[object, Kind] = {
    "email.delivered": "delivered",
    "email.delivery_delayed": "deferred",
    "email.complained": "complaint",
}
_ORIGINS: Mapping[object, Kind] = {"bounce": "bounce", "complaint": "complaint"}


class Resend(Hook):
    """Webhooks for `email.bounced`, `email.complained` and so on, and for `suppression.added`."""

    name: ClassVar[str] = "resend"

    def __init__(self, secret: str) -> None:
        try:
            self._key = b64decode(secret.removeprefix("whsec_"), validate=True)
        except ValueError:
            self._key = b""
        if not self._key:
            raise SettingsError(
                "JETQ_EMAIL_RESEND_WEBHOOK_SECRET is not the signing secret of a webhook",
                hint="Resend shows it with the webhook; it begins with whsec_",
            )

    @classmethod
    def of(cls, secrets: WebhookSecrets) -> Resend | None:
        """Return the hook that the settings set up; None if they set up none. Raises SettingsError."""
        return None if secrets.resend_webhook_secret is None else cls(secrets.resend_webhook_secret.reveal())

    async def verify(self, request: Request) -> bool:
        """See `Hook.verify`. While a secret is changed a request has several signatures; one that fits is enough."""
        id, at = request.headers.get("svix-id", ""), request.headers.get("svix-timestamp", "")
        content = f"{id}.{at}.".encode() + request.body
        expected = b64encode(hmac.digest(self._key, content, "sha256")).decode()
        signatures = [each.partition(",") for each in request.headers.get("svix-signature", "").split()]
        fits = [same(signature, expected) for version, _, signature in signatures if version == "v1"]
        return any(fits) and is_recent(at, request.now, _OLDEST)

    def events(self, body: bytes) -> list[Event]:
        """See `Hook.events`."""
        return [found for told in objects(body) for found in _event(told)]


def _event(told: dict[str, Any]) -> list[Event]:
    what, data = told.get("type"), told.get("data")
    at, bounce = instant(told.get("created_at")), below(data, "bounce")
    if what == "suppression.added":
        origin = below(data, "origin")
        kind = _ORIGINS.get(origin) if isinstance(origin, str) else None
        return event(kind, below(data, "email"), "resend", at=at, reference=below(data, "source_id"))
    if what == "email.bounced":
        kind = "bounce" if below(bounce, "type") in (None, "Permanent") else "deferred"
    else:
        kind = _KINDS.get(what) if isinstance(what, str) else None
    detail = below(bounce, "message")
    return event(kind, _only_recipient(data), "resend", at=at, detail=detail, reference=below(data, "email_id"))


def _only_recipient(data: object) -> object:
    """Return the recipient if the mail had only one. For a mail to several, Resend does not say whose event it is, and
    nobody must be taken for another; `suppression.added` reports those."""
    known = [each for name in ("to", "cc", "bcc") for each in _several(below(data, name))]
    headers = [below(each, "name") for each in _several(below(data, "headers"))]
    copied = any(isinstance(name, str) and name.lower() in ("cc", "bcc") for name in headers)
    return known[0] if len(known) == 1 and not copied else None


def _several(value: object) -> list[Any]:
    if isinstance(value, str):
        return [value]
    return value if isinstance(value, list) else []
