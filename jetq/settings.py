"""What jetq can be told about its broker: one frozen struct, and the pure parsing and merging of its sources.

Nothing here reads a file or the environment; `jetq.config` does and hands the text over.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, TypedDict

from msgspec import Meta, Struct

__all__ = [
    "DEFAULT_SERVER",
    "Settings",
    "SettingsOptions",
    "safe_url",
]

DEFAULT_SERVER = "nats://127.0.0.1:4222"
DEFAULT_PORT = 4222

_DAY = 86400.0


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """How jetq reaches and uses its broker. Durations are seconds.

    servers: URLs `nats://host[:port]` or `tls://host[:port]`; any that answers is used.
    namespace: first token of every subject; queues of two namespaces do not meet.
    user, password, token, creds, nkey: who jetq is, by one of: user and password, a token, the path of a credentials
        file (JWT and seed), the path of a file with an nkey seed.
    tls_ca, tls_cert, tls_key: paths of PEM files: whom to trust beyond the system, and jetq's own certificate.
    tls_first: start TLS before the server says anything, for servers with `handshake_first`.
    inbox_prefix: first tokens of the subjects replies come back on, for users who may not subscribe to `_INBOX.>`.
    ack_wait: how long a job stays with a worker that shows no sign of life, 1 s to 1 h.
    publish_timeout: how long an enqueue waits to be stored, 0.1 s to 10 min.
    connect_timeout: how long a producer waits for a connection, 0.1 s to 10 min.
    replicas: copies of each stream in a cluster: 1, 3 or 5.
    dead_letter_ttl: how long dead letters are kept, 1 s to 10 years.
    """

    servers: tuple[str, ...] = (DEFAULT_SERVER,)
    namespace: str = "jetq"
    user: str | None = None
    password: str | None = None
    token: str | None = None
    creds: str | None = None
    nkey: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_first: bool = False
    inbox_prefix: str = "_INBOX"
    ack_wait: Annotated[float, Meta(ge=1.0, le=3600.0)] = 30.0
    publish_timeout: Annotated[float, Meta(ge=0.1, le=600.0)] = 10.0
    connect_timeout: Annotated[float, Meta(ge=0.1, le=600.0)] = 5.0
    replicas: int = 1
    dead_letter_ttl: Annotated[float, Meta(ge=1.0, le=3650 * _DAY)] = 30 * _DAY

    @property
    def wants_tls(self) -> bool:
        """Whether a connection in clear text is refused: a `tls://` server or any `tls_*` setting asks for it."""
        return bool(self.tls_ca or self.tls_cert or self.tls_first) or any(s.startswith("tls:") for s in self.servers)


class SettingsOptions(TypedDict, total=False):
    """The keywords of `Jetq(...)` beside `servers` and `namespace`; meanings as in `Settings`."""

    user: str | None
    password: str | None
    token: str | None
    creds: str | None
    nkey: str | None
    tls_ca: str | None
    tls_cert: str | None
    tls_key: str | None
    tls_first: bool
    inbox_prefix: str
    ack_wait: float | timedelta
    publish_timeout: float | timedelta
    connect_timeout: float | timedelta
    replicas: int
    dead_letter_ttl: float | timedelta


def safe_url(url: str) -> str:
    """`url` without what comes before its host: user, password or token."""
    scheme, separator, rest = url.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
