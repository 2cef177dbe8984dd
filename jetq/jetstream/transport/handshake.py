"""One attempt to reach a server that jetq can use."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict
from urllib.parse import urlsplit

import msgspec
import nats.errors
from msgspec import Struct
from nats.aio.client import RawCredentials
from nats.nuid import NUID

from jetq.errors import SettingsError
from jetq.jetstream.transport.api_prefix import api_prefix
from jetq.jetstream.transport.connect_errors import explain, unusable
from jetq.jetstream.transport.message import Message
from jetq.jetstream.transport.nats_client import NatsClient
from jetq.settings import Settings

__all__ = ["OLDEST_SERVER", "PING_INTERVAL", "certified_name", "check_files", "connect", "server_version"]

OLDEST_SERVER = (2, 14)
"""The first version that has what jetq stores: cron schedules, time zones and rollups of schedules (ADR-51)."""

PING_INTERVAL = 5
"""Seconds between pings, so that something is heard of a live connection at least that often."""

_SILENCE = 1.0
_LONGEST_PATH = 1024
_JETSTREAM_OFF = frozenset({10039, 10076})
_JWT = re.compile(r"-+BEGIN NATS USER JWT-+\s+(\S+)\s+-+END NATS USER JWT-+")
_SEED = re.compile(r"-+BEGIN USER NKEY SEED-+\s+(\S+)\s+-+END USER NKEY SEED-+")
_VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?")


class _Credentials(TypedDict, total=False):
    user: str
    password: str
    token: str
    user_credentials: RawCredentials
    nkeys_seed_str: str


class _Error(Struct):
    err_code: int = 0
    description: str = ""


class _AccountInfo(Struct):
    domain: str = ""
    error: _Error | None = None


async def connect(
    settings: Settings,
    url: str,
    *,
    name: str,
    within: float,
    complain: Callable[[str], None],
    tls_hostname: str | None = None,
    await_jetstream: bool = True,
    domain: str | None = None,
) -> NatsClient:
    """Return a connected client of the server at `url`, which is new enough and has JetStream.

    `tls_hostname` is the name that the server's certificate must bear, if not the one in `url`. `await_jetstream`:
    silence about JetStream is a failure; a cluster that elects a leader is silent for up to 10 s. `domain` is the
    domain of the JetStream that was used before; the server's must be the same. Raises BrokerUnavailable after at most
    `within` seconds, SettingsError if a file that `settings` name is of no use.
    """
    client = NatsClient(secure=settings.wants_tls, complain=complain)
    try:
        try:
            async with asyncio.timeout(within):
                await _handshake(client, settings, url, name, within, tls_hostname)
                _check_version(client, url)
                await _check_jetstream(client, settings, url, None if await_jetstream else _SILENCE)
                _check_domain(client, url, domain)
        except SettingsError:
            raise
        except Exception as error:
            raise explain(error, client, settings, url, within) from None
    except BaseException:
        client.drop("abandoned")
        raise
    client.complain = complain
    return client


def check_files(settings: Settings) -> None:
    """Raise SettingsError if a file that `settings` name is missing or of no use: waiting does not help then."""
    _credentials(settings)
    if settings.wants_tls:
        _tls_context(settings)


def certified_name(settings: Settings, url: str) -> str | None:
    """Return the name that the certificate of the server at `url` must bear, if not the one in `url`; otherwise None.

    Servers of a cluster advertise addresses, and their certificates bear the name that was configured.
    """
    host = urlsplit(url).hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return None
    return None if url in settings.servers else urlsplit(settings.servers[0]).hostname


def server_version(client: NatsClient) -> tuple[int, int, int]:
    """Return the version in the server's greeting; zeros if it cannot be read."""
    match = _VERSION.match(str(client.greeting.get("version", "")))
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else (0, 0, 0)


# --- steps


async def _handshake(
    client: NatsClient, settings: Settings, url: str, name: str, within: float, tls_hostname: str | None
) -> None:
    await client.connect(
        [url],
        name=name,
        error_cb=_quiet,
        allow_reconnect=False,
        connect_timeout=within,  # type: ignore[arg-type]  # nats-py declares int and takes any number
        ping_interval=PING_INTERVAL,
        max_outstanding_pings=sys.maxsize,  # the connection's watch decides: it counts bytes, not answers
        tls=_tls_context(settings) if settings.wants_tls else None,
        tls_hostname=tls_hostname,
        tls_handshake_first=settings.tls_first,
        skip_subject_validation=True,  # jetq's names are checked before they become subjects
        **_credentials(settings),
    )
    if not client.is_connected:
        raise nats.errors.UnexpectedEOF


def _check_version(client: NatsClient, url: str) -> None:
    if server_version(client)[:2] < OLDEST_SERVER:
        oldest = ".".join(map(str, OLDEST_SERVER))
        raise unusable(
            url,
            f"it is NATS {client.greeting.get('version', 'of an unknown version')}, and jetq needs {oldest} or newer",
            "upgrade it (the packages of Linux distributions are old), or run `jetq server`",
        )


async def _check_jetstream(client: NatsClient, settings: Settings, url: str, patience: float | None) -> None:
    """Ask for the account's JetStream. Raises BrokerUnavailable if the account cannot use JetStream.

    The wait takes at most `patience` seconds; None means no limit. A JetStream without a leader at the moment is
    accepted.
    """
    answer: asyncio.Future[Message | str] = asyncio.get_running_loop().create_future()

    def settle(outcome: Message | str) -> None:
        if not answer.done():
            answer.set_result(outcome)

    def lost(reason: asyncio.Future[str]) -> None:
        settle(reason.result())

    inbox = f"{settings.inbox_prefix}.{NUID().next().decode()}"
    client.complain = settle
    client.lost.add_done_callback(lost)
    client.listen(0, inbox, settle)
    client.send(f"{api_prefix(settings.jetstream_domain)}.INFO", b"", inbox)
    await asyncio.wait([answer], timeout=patience)
    client.lost.remove_done_callback(lost)
    client.unlisten(0)
    client.forget(0)
    if not answer.done():
        return
    outcome = answer.result()
    if isinstance(outcome, str):
        raise unusable(url, f"asked for JetStream, it broke off: {outcome}", _JETSTREAM_PERMISSIONS)
    account = msgspec.json.decode(outcome.data or b"{}", type=_AccountInfo)
    if (reason := _why_no_jetstream(outcome, account, settings.jetstream_domain)) is not None:
        raise unusable(url, *reason)
    client.domain = account.domain


def _check_domain(client: NatsClient, url: str, before: str | None) -> None:
    if before is not None and client.domain not in (None, before):
        raise unusable(
            url,
            f"its JetStream is that of domain {client.domain!r}, and the jobs are in domain {before!r}",
            "set jetstream_domain (JETQ_JETSTREAM_DOMAIN), or name the servers of one domain only",
        )


_JETSTREAM_PERMISSIONS = "jetq's user must be able to publish to $JS.API.> and subscribe to its inbox (inbox_prefix)"


def _why_no_jetstream(answer: Message, account: _AccountInfo, domain: str | None) -> tuple[str, str] | None:
    if not answer.data and domain:  # 503, no responders
        return (
            f"no JetStream of domain {domain!r} answers there",
            "compare jetstream_domain (JETQ_JETSTREAM_DOMAIN) with the server's configuration; is its leaf connected?",
        )
    if not answer.data:
        return (
            "JetStream is off there",
            "start it with JetStream: nats-server -js -sd DIRECTORY, or `jetq server`; or set jetstream_domain to use "
            "that of another server",
        )
    error = account.error
    if error is not None and error.err_code in _JETSTREAM_OFF:
        return (
            f"JetStream is off for this account ({error.description})",
            "turn it on for the account of jetq's user: `jetstream: enabled` in the server's configuration",
        )
    return None


async def _quiet(error: Exception) -> None:
    """Ignore an error: nats-py's own callback prints a traceback for each. Errors that count are raised as well."""


# --- what the settings name


def _credentials(settings: Settings) -> _Credentials:
    if settings.creds is not None:
        text = _read("creds", settings.creds)
        jwt, seed = _JWT.search(text), _SEED.search(text)
        if jwt is None or seed is None:  # nats-py would search the file for ever (2.16.0)
            raise SettingsError(
                f"creds: {settings.creds} holds no user JWT and seed, so it is not a NATS credentials file",
                hint="make one with `nsc generate creds`, or name the file of a bare seed with nkey",
            )
        _check_seed("creds", settings.creds, seed[1])
        return {"user_credentials": RawCredentials(text)}
    if settings.nkey is not None:
        seed_text = _read("nkey", settings.nkey).strip()
        _check_seed("nkey", settings.nkey, seed_text)
        return {"nkeys_seed_str": seed_text}
    if settings.token is not None:
        return {"token": settings.token}
    if settings.user is not None:
        return {"user": settings.user, "password": settings.password or ""}
    return {}


def _read(setting: str, path: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(setting, path, error) from None


def _unreadable(setting: str, path: str, error: OSError | UnicodeDecodeError) -> SettingsError:
    reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else "it is not text"
    shown = path if path.isprintable() and len(path) <= _LONGEST_PATH else "what it names"  # may be the key
    return SettingsError(f"{setting}: cannot read {shown}: {reason}")


def _check_seed(setting: str, path: str, seed: str) -> None:
    try:
        import nkeys
    except ImportError:
        raise SettingsError(
            f"{setting}: signing with an nkey needs the package nkeys", hint="pip install 'nats-py[nkeys]'"
        ) from None
    try:
        nkeys.from_seed(bytearray(seed.encode())).wipe()
    except Exception:  # nkeys raises whatever its base32 and its curve do
        raise SettingsError(
            f"{setting}: {path} holds no nkey seed", hint="a user's seed is one line that starts with SU"
        ) from None


def _tls_context(settings: Settings) -> ssl.SSLContext:
    context = _trusting(settings.tls_ca)
    if settings.tls_cert is not None:
        try:
            context.load_cert_chain(settings.tls_cert, settings.tls_key, password=_no_passphrase)
        except ssl.SSLError as error:
            raise SettingsError(
                f"tls_cert: {settings.tls_cert} and its key cannot be used ({error.reason or 'not PEM'})"
            ) from None
        except OSError as error:
            paths = settings.tls_cert if settings.tls_key is None else f"{settings.tls_cert} or {settings.tls_key}"
            raise _unreadable("tls_cert", paths, error) from None
    return context


def _trusting(ca: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except ssl.SSLError:
        raise SettingsError(f"tls_ca: {ca} holds no PEM certificates") from None
    except OSError as error:
        raise _unreadable("tls_ca", str(ca), error) from None


def _no_passphrase() -> str:
    # Without this callback OpenSSL asks on the terminal.
    raise SettingsError("tls_key: the key is encrypted, and jetq takes no passphrase")
