"""Keys that sign mails, and the records in the DNS with which others check the signatures."""

from __future__ import annotations

from base64 import b64encode
from functools import lru_cache

import dkim
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

__all__ = ["DOMAIN", "SELECTORS", "pem", "verifies"]

DOMAIN = "example.org"
SELECTORS = "rsa2026,ed2026"


@lru_cache
def _private() -> dict[str, RSAPrivateKey | Ed25519PrivateKey]:
    return {"rsa2026": generate_private_key(65537, 2048), "ed2026": Ed25519PrivateKey.generate()}


@lru_cache
def pem() -> str:
    """Both private keys, in the order of SELECTORS."""
    return "".join(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode() for key in _private().values()
    )


def _record(name: bytes, timeout: float = 5) -> bytes:
    selector, _, domain = name.decode().partition("._domainkey.")
    assert domain.rstrip(".") == DOMAIN
    private = _private()[selector]
    if isinstance(private, Ed25519PrivateKey):
        return b"v=DKIM1; k=ed25519; p=" + b64encode(private.public_key().public_bytes_raw())
    der = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return b"v=DKIM1; k=rsa; p=" + b64encode(der)


def verifies(message: bytes) -> list[bool]:
    """Whether each signature of `message`, from the first, is good, as dkimpy judges it."""
    count = message[: message.index(b"\r\n\r\n")].count(b"DKIM-Signature:")
    return [_verifies(message, at) for at in range(count)]


def _verifies(message: bytes, at: int) -> bool:
    try:
        return bool(dkim.DKIM(message).verify(at, dnsfunc=_record))
    except dkim.ValidationError:
        return False
