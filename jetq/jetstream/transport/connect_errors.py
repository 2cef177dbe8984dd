"""Why a server cannot be used: one sentence and a hint for each way in which connecting fails."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from base64 import urlsafe_b64decode
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import nats.errors

from jetq.errors import BrokerUnavailable
from jetq.jetstream.transport.nats_client import NatsClient
from jetq.settings import Settings, safe_url
from jetq.units import span

__all__ = ["explain", "unusable"]

_JWT = re.compile(r"BEGIN NATS USER JWT-+\s+[^\s.]+\.([^\s.]+)\.")


class _Claims(msgspec.Struct):
    exp: int = 0


_CLIENT_CERTIFICATE_ALERTS = frozenset(
    {
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
        "TLSV1_ALERT_UNKNOWN_CA",
    }
)


def unusable(url: str, reason: str, hint: str) -> BrokerUnavailable:
    """Return the error for a server that cannot be used, without the URL's password."""
    return BrokerUnavailable(f"cannot connect to NATS at {safe_url(url)}: {reason}", hint=hint)


def explain(error: Exception, client: NatsClient, settings: Settings, url: str, within: float) -> BrokerUnavailable:
    """Return what `error`, raised while `client` connected to `url`, means to the person who set jetq up."""
    if isinstance(error, BrokerUnavailable):
        return error
    if not client.reached:
        return unusable(url, *_not_reached(error, within))
    if isinstance(error, ssl.SSLError):
        return unusable(url, *_no_tls(error, client))
    if isinstance(error, nats.errors.SecureConnWantedError):
        return unusable(
            url,
            "it offers no TLS, and jetq sends nothing in clear text where TLS was asked for",
            "turn TLS on at the server; if clear text is meant, use nats:// and no tls_* setting",
        )
    if not client.greeting:
        return unusable(url, *_no_greeting(error, client, within))
    return unusable(url, *_refused(error, client, settings, within))


def _not_reached(error: Exception, within: float) -> tuple[str, str]:
    if isinstance(error, socket.gaierror):
        return "its host name cannot be resolved", "check the URL (NATS_URL or JETQ_SERVERS) and the DNS"
    if isinstance(error, TimeoutError):
        return f"no answer within {_rounded(within)} s", "check host, port and firewall"
    # asyncio puts the failures of several addresses of one name into one OSError without an errno.
    if isinstance(error, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in str(error):
        return "connection refused", "start a server with `jetq server`, or set NATS_URL to yours"
    return _short(error), "check the URL (NATS_URL or JETQ_SERVERS)"


def _no_tls(error: ssl.SSLError, client: NatsClient) -> tuple[str, str]:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its TLS certificate is not trusted ({error.verify_message.rstrip('.')})",
            "set tls_ca (JETQ_TLS_CA) to the PEM file of the authority that signed it",
        )
    if error.reason in _CLIENT_CERTIFICATE_ALERTS:
        return _WANTS_CERTIFICATE
    if not client.greeting:
        return (
            "it does not begin with TLS, as tls_first asks",
            "leave tls_first off unless the server has handshake_first",
        )
    return f"TLS failed ({error.reason or _short(error)})", "compare the TLS settings of the server and of jetq"


_WANTS_CERTIFICATE = (
    "it wants a client certificate that it trusts",
    "set tls_cert and tls_key (JETQ_TLS_CERT, JETQ_TLS_KEY) to yours",
)


def _no_greeting(error: Exception, client: NatsClient, within: float) -> tuple[str, str]:
    hint = "NATS listens on port 4222 unless told otherwise; a server with handshake_first needs tls_first"
    if isinstance(error, TimeoutError):
        return f"it did not greet like a NATS server within {_rounded(within)} s", hint
    if client.hung_up:
        return "it hung up without greeting like a NATS server", hint
    return "what answers there is not a NATS server", hint


def _refused(error: Exception, client: NatsClient, settings: Settings, within: float) -> tuple[str, str]:
    said = str(error).removeprefix("nats: ").strip("'")
    if "account authentication expired" in said.lower():
        return "the NATS account of its credentials has expired", "have its operator renew the account"
    if "authentication expired" in said.lower():
        said = "authorization violation"
    if "authorization violation" in said.lower():
        return _wrong_credentials(settings)
    if isinstance(error, TimeoutError) and client.is_connected:
        return (
            f"JetStream did not answer within {_rounded(within)} s",
            "is the server overloaded, or its cluster split?",
        )
    if isinstance(error, TimeoutError):
        return f"it did not finish the handshake within {_rounded(within)} s", "is the server overloaded or paused?"
    hung_up = isinstance(error, nats.errors.UnexpectedEOF | OSError)
    if client.greeting.get("tls_verify") and (hung_up or not settings.tls_cert):
        return _WANTS_CERTIFICATE
    if hung_up:
        return "it hung up during the handshake", "its log may say why"
    return f"the server said: {said}", "its log may say more"


def _wrong_credentials(settings: Settings) -> tuple[str, str]:
    if settings.creds is not None:
        if (expired := _expired(settings.creds)) is not None:
            return (
                f"the credentials in {settings.creds} expired {expired}",
                "have new ones issued (`nsc generate creds`); jetq reads the file anew each time it connects",
            )
        return f"it refused the credentials in {settings.creds}", "have they expired, or are they another operator's?"
    if settings.nkey is not None:
        return f"it refused the nkey in {settings.nkey}", "is its public key a user of the server?"
    if settings.token is not None:
        return "it refused the token", "check the token setting (JETQ_TOKEN or NATS_TOKEN)"
    if settings.user is not None:
        return f"wrong user or password (user {settings.user!r})", "check JETQ_USER and JETQ_PASSWORD, or the URL"
    return (
        "it wants credentials, and jetq has none",
        "set user and password, token, creds or nkey, e.g. NATS_CREDS=/path/to/user.creds",
    )


def _expired(path: str) -> str | None:
    """Return when the JWT in a credentials file expired, or None.

    The server does not tell an expired JWT from a wrong one.
    """
    try:
        jwt = _JWT.search(Path(path).read_text())
        claims = jwt[1] + "=" * (-len(jwt[1]) % 4) if jwt else ""
        expires = msgspec.json.decode(urlsafe_b64decode(claims), type=_Claims).exp
        then = datetime.fromtimestamp(expires, UTC)
    except (OSError, ValueError, OverflowError):
        return None
    ago = datetime.now(UTC) - then
    return (
        f"on {then:%Y-%m-%d %H:%M} UTC, {span(ago.total_seconds())} ago"
        if expires and ago.total_seconds() > 0
        else None
    )


def _rounded(within: float) -> str:
    # Rounded, so that a worker's log recognises the sentence of the attempt before, which had a few milliseconds more
    # or less.
    return f"{round(within, 1):g}"


def _short(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]
