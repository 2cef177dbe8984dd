"""SES, through topics of SNS: https://docs.aws.amazon.com/ses/latest/dg/notification-contents.html. Signed with RSA."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from jetq import SettingsError
from jetq_email.errors import TransportError
from jetq_email.feedback.events import Event, Kind, event, instant
from jetq_email.feedback.sns import CERTIFICATE, SUBSCRIPTION, fetch
from jetq_email.settings.webhook_secrets import WebhookSecrets
from jetq_email.webhooks.request import Hook, Junk, Request, Unverifiable, below, decoded, is_recent

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

__all__ = ["Ses"]

_OLDEST = 24 * 3600.0
"""Seconds. SNS repeats a message for an hour, whatever its delivery policy."""

_MOST_CERTIFICATES = 8
"""Certificates to keep. Each region has one, with a new one about once a year."""

_SIGNED = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_SIGNED_OF_SUBSCRIPTIONS = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
"""The signed fields of these messages, in the order of
https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html."""


class Ses(Hook):
    """Notifications of bounces, complaints and deliveries, or events of a configuration set, from certain topics.

    Anybody can make SNS sign messages. A message counts as one of SES because it comes from one of our topics.
    """

    name: ClassVar[str] = "ses"

    def __init__(self, topics: Collection[str], fetch: Callable[[str], Awaitable[bytes]] = fetch) -> None:
        for package, extra in (("cryptography", "crypto"), ("httpx2", "http")):
            if find_spec(package) is None:
                raise SettingsError(
                    f"webhooks of SES need the package {package}", hint=f"pip install 'jetq-nats[email,{extra}]'"
                )
        if bad := [topic for topic in topics if not topic.startswith("arn:aws") or topic.count(":") != 5]:
            raise SettingsError(
                f"JETQ_EMAIL_SES_WEBHOOK_TOPICS: {bad[0]!r} is not the ARN of a topic",
                hint="one looks like arn:aws:sns:eu-west-1:123456789012:bounces",
            )
        self._topics = frozenset(topics)
        self._fetch = fetch
        self._certificates: dict[str, Certificate] = {}

    @classmethod
    def of(cls, secrets: WebhookSecrets) -> Ses | None:
        """Return the hook that the settings set up; None if they set up none. Raises SettingsError."""
        return cls(secrets.ses_webhook_topics) if secrets.ses_webhook_topics else None

    async def verify(self, request: Request) -> bool:
        """See `Hook.verify`."""
        message = _message(request.body)
        at, url = instant(message.get("Timestamp")), message.get("SigningCertURL", "")
        if message.get("TopicArn") not in self._topics or at is None or not CERTIFICATE.fullmatch(url):
            return False
        if not is_recent(at.timestamp(), request.now, _OLDEST):
            return False
        return _is_signed(message, await self._certificate(url), request.now)

    def events(self, body: bytes) -> list[Event]:
        """See `Hook.events`. A notification that is not JSON comes from SNS itself, which says that a topic is set
        up."""
        message = _message(body)
        if message.get("Type") != "Notification":
            return []
        try:
            return _events(msgspec.json.decode(message.get("Message", "")))
        except (msgspec.DecodeError, RecursionError):
            return []

    def confirms(self, body: bytes) -> str | None:
        """See `Hook.confirms`."""
        message = _message(body)
        if message.get("Type") != "SubscriptionConfirmation":
            return None
        url = message.get("SubscribeURL", "")
        if not SUBSCRIPTION.fullmatch(url):
            raise Junk("the address at which to confirm a subscription is not one of SNS")
        return url

    async def _certificate(self, url: str) -> Certificate:
        from cryptography.x509 import load_pem_x509_certificate

        if url not in self._certificates:
            try:
                certificate = load_pem_x509_certificate(await self._fetch(url))
            except TransportError as error:
                raise Unverifiable(f"the certificate of SNS cannot be had: {error.message}") from error
            except ValueError:
                raise Unverifiable("what stands in place of the certificate of SNS is none") from None
            while len(self._certificates) >= _MOST_CERTIFICATES:
                self._certificates.pop(next(iter(self._certificates)))
            self._certificates[url] = certificate
        return self._certificates[url]


def _message(body: bytes) -> dict[str, str]:
    """Return the texts in a message of SNS. Other values are left out, and so are not part of what is verified."""
    content = decoded(body)
    if not isinstance(content, dict):
        raise Junk("the body is not an object of JSON")
    return {name: value for name, value in content.items() if isinstance(value, str)}


def _is_signed(message: dict[str, str], certificate: Certificate, now: float) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    digest = {"1": hashes.SHA1(), "2": hashes.SHA256()}.get(message.get("SignatureVersion", ""))
    names = _SIGNED if message.get("Type") == "Notification" else _SIGNED_OF_SUBSCRIPTIONS
    content = "".join(f"{name}\n{message[name]}\n" for name in names if name in message)
    key, at = certificate.public_key(), datetime.fromtimestamp(now, UTC)
    if digest is None or not isinstance(key, rsa.RSAPublicKey):
        return False
    if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
        return False
    try:
        signature = b64decode(message.get("Signature", ""), validate=True)
        key.verify(signature, content.encode(), padding.PKCS1v15(), digest)
    except (ValueError, InvalidSignature):
        return False
    return True


def _events(told: Any) -> list[Event]:
    """Return the events in a notification (`notificationType`) or in an event of a configuration set (`eventType`)."""
    what = below(told, "notificationType") or below(told, "eventType")
    if what == "Bounce":
        bounce = below(told, "bounce")
        # No permanent bounce is about the mail alone: that would be the transient ContentRejected.
        kind: Kind = "bounce" if below(bounce, "bounceType") == "Permanent" else "deferred"
        return _each(told, kind, bounce, below(bounce, "bouncedRecipients"))
    if what == "Complaint":
        complaint = below(told, "complaint")
        who = below(complaint, "complainedRecipients")
        # Most mailbox providers do not say who complained: the list has all recipients at that provider.
        alone = isinstance(who, list) and len(who) == 1
        if not alone or below(complaint, "complaintFeedbackType") == "not-spam":
            return []
        return _each(told, "complaint", complaint, who)
    if what == "Delivery":
        delivery = below(told, "delivery")
        return _each(told, "delivered", delivery, below(delivery, "recipients"))
    if what == "DeliveryDelay":
        delay = below(told, "deliveryDelay")
        return _each(told, "deferred", delay, below(delay, "delayedRecipients"))
    return []


def _each(told: Any, kind: Kind, about: Any, recipients: Any) -> list[Event]:
    at, reference = instant(below(about, "timestamp")), below(told, "mail", "messageId")
    found: list[Event] = []
    for each in recipients if isinstance(recipients, list) else []:
        address = below(each, "emailAddress") if isinstance(each, dict) else each
        detail = below(each, "diagnosticCode")
        found += event(kind, address, "ses", at=at, detail=detail, reference=reference)
    return found
