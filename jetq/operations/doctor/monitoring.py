"""The monitoring endpoint of a NATS server: what JetStream's own API does not tell."""

from __future__ import annotations

import asyncio
import http.client
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from jetq.errors import BrokerUnavailable, SettingsError
from jetq.model.deployment_facts import Monitored, Usage
from jetq.settings import safe_url

__all__ = ["ask_monitoring"]

_WITHIN = 3.0
_LONGEST = 4 * 1024 * 1024
_NANOSECONDS = 1_000_000_000


class _Config(Struct):
    store_dir: str = ""
    max_storage: int = -1
    sync_interval: int = 120 * _NANOSECONDS
    sync_always: bool = False


class _Stats(Struct):
    storage: int = 0


class _JetStream(Struct):
    config: _Config | None = None
    stats: _Stats | None = None


class _Varz(Struct):
    server_id: str
    jetstream: _JetStream | None = None


_decode = msgspec.json.Decoder(_Varz).decode


async def ask_monitoring(url: str) -> Monitored:
    """Return what the server whose monitoring is at `url`, like http://10.0.0.5:8222, tells about its storage.

    Raises SettingsError for a URL of another kind, BrokerUnavailable if no monitoring answers there within 3 s.
    """
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
        raise SettingsError(f"{safe_url(url)!r} is no URL of a server's monitoring", hint="it is like http://host:8222")
    try:
        varz = _decode(await asyncio.to_thread(_get, f"{url.rstrip('/')}/varz"))
    except (
        OSError,
        ValueError,
        http.client.HTTPException,
    ) as error:  # URLError is an OSError, DecodeError a ValueError
        reason = getattr(error, "reason", None) or error
        raise BrokerUnavailable(
            f"no monitoring of a NATS server at {safe_url(url)}: {reason}",
            hint="it is on with `http: 8222` in the server's configuration",
        ) from error
    jetstream = varz.jetstream or _JetStream()
    config, stats = jetstream.config or _Config(), jetstream.stats or _Stats()
    return Monitored(
        url=safe_url(url),
        directory=config.store_dir,
        sync_interval=0.0 if config.sync_always else config.sync_interval / _NANOSECONDS,
        storage=Usage(
            f"storage of {safe_url(url)}", stats.storage, config.max_storage if config.max_storage >= 0 else None
        ),
    )


def _get(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=_WITHIN) as answer:
            data: bytes = answer.read(_LONGEST)
            return data
    except urllib.error.HTTPError as refusal:
        refusal.close()  # a refusal is an open answer too
        raise
