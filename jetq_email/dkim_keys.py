"""Reads the keys that sign a worker's mails from its settings."""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import sha256

from jetq import SettingsError
from jetq_email.dkim import Key, Signer
from jetq_email.settings import PREFIX, Settings

__all__ = ["signer_for"]

_LEAST_BITS = 1024
"""Bits of an RSA key. Receivers count a signature with a shorter key as none (RFC 8301 3.2)."""

_PEM = re.compile(r"-----BEGIN ([A-Z ]*)PRIVATE KEY-----.*?-----END \1PRIVATE KEY-----", re.DOTALL)


def signer_for(settings: Settings) -> Signer | None:
    """Return the signer of mails sent with these settings; None if mails are not signed.

    Raises SettingsError for a key that is missing, unreadable or too short, or of a kind that signs no mail.
    """
    if settings.dkim_domain is None:
        return None
    blocks = [found[0] for found in _PEM.finditer(_pem(settings))]
    selectors = settings.dkim_selectors
    if len(blocks) != len(selectors):
        raise SettingsError(
            f"{_where(settings)} has {len(blocks)} private keys, and {PREFIX}DKIM_SELECTOR names {len(selectors)}",
            hint="one key in PEM's form for each selector, one after the other, in the same order",
        )
    keys = (_key(selector, pem, settings) for selector, pem in zip(selectors, blocks, strict=True))
    return Signer(settings.dkim_domain, tuple(keys))


def _where(settings: Settings) -> str:
    return f"{PREFIX}DKIM_KEY" if settings.dkim_key_file is None else f"the file {settings.dkim_key_file}"


def _pem(settings: Settings) -> str:
    if settings.dkim_key is not None:
        return settings.dkim_key.reveal().replace("\\n", "\n")  # a variable of one line has the two characters \n
    assert settings.dkim_key_file is not None  # Settings requires one of both
    try:
        return settings.dkim_key_file.read_text("ascii")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text"
        raise SettingsError(
            f"the file {settings.dkim_key_file} of {PREFIX}DKIM_KEY_FILE cannot be read: {reason}",
            hint="it holds the private key in PEM's form, and the worker's user needs to read it",
        ) from None


def _key(selector: str, pem: str, settings: Settings) -> Key:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError:
        raise SettingsError(
            "signing mails needs the package cryptography", hint="pip install 'jetq-nats[email,crypto]'"
        ) from None
    what = f"the key of {selector!r} in {_where(settings)}"
    try:
        private = load_pem_private_key(pem.encode(), password=None)
    except TypeError:
        raise SettingsError(f"{what} is encrypted", hint="store it without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise SettingsError(f"{what} cannot be read", hint="is it whole? It begins with -----BEGIN") from None
    if isinstance(private, Ed25519PrivateKey):
        return Key(selector, "ed25519-sha256", lambda octets: private.sign(sha256(octets).digest()))  # RFC 8463 3
    if not isinstance(private, RSAPrivateKey):
        raise SettingsError(f"{what} is neither an RSA key nor one of Ed25519, which alone sign mails")
    if private.key_size < _LEAST_BITS:
        raise SettingsError(
            f"{what} has {private.key_size} bits, and receivers take {_LEAST_BITS} and more",
            hint="make one of 2048 bits: openssl genrsa -out dkim.pem 2048",
        )
    return Key(selector, "rsa-sha256", _rsa(private.sign))


def _rsa(sign: Callable[..., bytes]) -> Callable[[bytes], bytes]:
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    return lambda octets: sign(octets, PKCS1v15(), SHA256())
