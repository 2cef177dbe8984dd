"""Requests as providers send them: signed with keys of the tests' own, about addresses that do not exist."""

from __future__ import annotations

import hmac
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

__all__ = ["CERTIFICATE", "CERTIFICATE_URL", "PROVIDERS", "TOPIC", "VARIABLES", "Signed", "bounces", "signed", "sns"]

Signed = tuple[dict[str, str], bytes]
"""The headers and the body of a request."""

PROVIDERS = ("postmark", "sendgrid", "mailgun", "resend", "brevo", "ses")

TOPIC = "arn:aws:sns:eu-west-1:123456789012:bounces"
CERTIFICATE_URL = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem"
_SVIX = b"only the tests know this"
_EC = ec.generate_private_key(ec.SECP256R1())
_RSA = rsa.generate_private_key(65537, 2048)


def _public(key: ec.EllipticCurvePrivateKey) -> str:
    return b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


def certificate(key: rsa.RSAPrivateKey, *, days: int = 30) -> bytes:
    """One of `key`, that ends in so many days."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    end = datetime.now(UTC) + timedelta(days=days)
    built = x509.CertificateBuilder(name, name, key.public_key(), 1, end - timedelta(days=90), end)
    return built.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


CERTIFICATE = certificate(_RSA)

VARIABLES = {
    "JETQ_EMAIL_POSTMARK_WEBHOOK_USER": "postmark",
    "JETQ_EMAIL_POSTMARK_WEBHOOK_PASSWORD": "canary:of-postmark",
    "JETQ_EMAIL_SENDGRID_WEBHOOK_KEY": _public(_EC),
    "JETQ_EMAIL_MAILGUN_WEBHOOK_KEY": "canary-of-mailgun",
    "JETQ_EMAIL_RESEND_WEBHOOK_SECRET": f"whsec_{b64encode(_SVIX).decode()}",
    "JETQ_EMAIL_BREVO_WEBHOOK_TOKEN": "canary-of-brevo",
    "JETQ_EMAIL_SES_WEBHOOK_TOPICS": f"arn:aws:sns:us-east-1:123456789012:others, {TOPIC}",
}
"""All that the settings need."""


def signed(provider: str, content: object, *, at: float | None = None, **other: Any) -> Signed:
    """A request of `provider` with `content`, signed at `at`. other: a key instead of the right one, and the like."""
    return _SIGN[provider](content, time.time() if at is None else at, **other)


def _body(content: object) -> bytes:
    return content if isinstance(content, bytes) else msgspec.json.encode(content)


def _postmark(content: object, at: float, key: str = "postmark:canary:of-postmark") -> Signed:
    return {"authorization": f"Basic {b64encode(key.encode()).decode()}"}, _body(content)


def _sendgrid(content: object, at: float, key: ec.EllipticCurvePrivateKey = _EC) -> Signed:
    signature = key.sign(str(int(at)).encode() + _body(content), ec.ECDSA(hashes.SHA256()))
    name = "x-twilio-email-event-webhook"
    return {f"{name}-signature": b64encode(signature).decode(), f"{name}-timestamp": str(int(at))}, _body(content)


def _mailgun(content: object, at: float, key: str = "canary-of-mailgun", token: str = "0a" * 25) -> Signed:
    when = str(int(at))
    signature = hmac.digest(key.encode(), f"{when}{token}".encode(), "sha256").hex()
    block = {"timestamp": when, "token": token, "signature": signature}
    return {}, msgspec.json.encode({"signature": block, "event-data": content})


def _resend(content: object, at: float, key: bytes = _SVIX, id: str = "msg_1", before: str = "") -> Signed:
    signature = hmac.digest(key, f"{id}.{int(at)}.".encode() + _body(content), "sha256")
    return {
        "svix-id": id,
        "svix-timestamp": str(int(at)),
        "svix-signature": f"{before}v1,{b64encode(signature).decode()}",
    }, _body(content)


def _brevo(content: object, at: float, key: str = "Bearer canary-of-brevo") -> Signed:
    return {"authorization": key}, _body(content)


def _ses(content: object, at: float, **other: Any) -> Signed:
    text = content.decode("utf-8", "replace") if isinstance(content, bytes) else msgspec.json.encode(content).decode()
    return {"content-type": "text/plain; charset=UTF-8"}, msgspec.json.encode(sns(text, at, **other))


def sns(text: str, at: float, *, key: rsa.RSAPrivateKey = _RSA, version: str = "2", **fields: str) -> dict[str, str]:
    """A message of SNS. fields: more of it, or others."""
    when = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    message = {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": TOPIC,
        "Message": text,
        "Timestamp": when,
        "SignatureVersion": version,
        "SigningCertURL": CERTIFICATE_URL,
        **fields,
    }
    names = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
    if message["Type"] != "Notification":
        names = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    whole = "".join(f"{name}\n{message[name]}\n" for name in names if name in message)
    digest = hashes.SHA1() if version == "1" else hashes.SHA256()
    return {"Signature": b64encode(key.sign(whole.encode(), padding.PKCS1v15(), digest)).decode(), **message}


_SIGN: Mapping[str, Callable[..., Signed]] = {
    "postmark": _postmark,
    "sendgrid": _sendgrid,
    "mailgun": _mailgun,
    "resend": _resend,
    "brevo": _brevo,
    "ses": _ses,
}


def bounces(provider: str, *addresses: str) -> Sequence[object]:
    """What `provider` says when there is no mailbox at `addresses`: the contents of one or more requests."""
    if provider == "postmark":
        return [{"RecordType": "Bounce", "Type": "HardBounce", "Email": each, "MessageID": "m"} for each in addresses]
    if provider == "sendgrid":
        return [[{"event": "bounce", "type": "bounce", "email": each, "timestamp": 1600112492} for each in addresses]]
    if provider == "mailgun":
        return [
            {"event": "failed", "severity": "permanent", "reason": "bounce", "recipient": each, "timestamp": 1.5e9}
            for each in addresses
        ]
    if provider == "resend":
        return [
            {"type": "email.bounced", "data": {"to": [each], "bounce": {"type": "Permanent"}}} for each in addresses
        ]
    if provider == "brevo":
        return [{"event": "hard_bounce", "email": each, "ts_epoch": 1520363423000} for each in addresses]
    recipients = [{"emailAddress": each, "status": "5.1.1", "action": "failed"} for each in addresses]
    return [{"notificationType": "Bounce", "bounce": {"bounceType": "Permanent", "bouncedRecipients": recipients}}]
