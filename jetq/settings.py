"""The settings of an app: one frozen struct, and the parsing and merging of its sources.

This module reads no file and no environment. `jetq.client.settings_sources` reads them and passes the values in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from difflib import get_close_matches
from typing import Annotated, Any, TypedDict, get_args, get_type_hints
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import Meta, Struct

from jetq.errors import DefinitionError, SettingsError
from jetq.migration_hints import setting_answer
from jetq.model.names import check_namespace
from jetq.units import read_span, seconds

__all__ = [
    "DEFAULT_SERVER",
    "OPEN_TO_NEW",
    "Given",
    "Layer",
    "Settings",
    "SettingsOptions",
    "from_context",
    "from_jetq_environment",
    "from_keywords",
    "from_nats_environment",
    "from_table",
    "is_service_link",
    "resolve",
    "safe_url",
]

DEFAULT_SERVER = "nats://127.0.0.1:4222"

OPEN_TO_NEW = 0.8
"""The part of `max_bytes` that new jobs may fill. The rest is for retries and for schedules that fire."""

_DAY = 86400.0
_Room = Annotated[int, Meta(ge=1024 * 1024, le=2**62)] | None


class Settings(Struct, frozen=True):
    """How jetq reaches and uses its broker. Durations are seconds; a text may have units: 30s, 10m or 1h30m."""

    servers: tuple[str, ...] = (DEFAULT_SERVER,)
    """URLs `nats://host[:port]` or `tls://host[:port]`; any that answers is used."""

    namespace: str = "jetq"
    """First token of every subject; the queues of two namespaces do not meet."""

    user: str | None = None
    """The NATS user, with `password`. jetq says who it is in one of four ways: user and password, token, creds or nkey.
    """

    password: str | None = None
    """The password of `user`."""

    token: str | None = None
    """A token, in place of user and password."""

    creds: str | None = None
    """Path of a credentials file (JWT and seed), in place of user and password."""

    nkey: str | None = None
    """Path of a file with an nkey seed, in place of user and password."""

    tls_ca: str | None = None
    """Path of a PEM file of authorities to trust in place of the system's."""

    tls_cert: str | None = None
    """Path of a PEM file with jetq's own certificate; its key may be in the same file."""

    tls_key: str | None = None
    """Path of a PEM file with the key of `tls_cert`; not needed where `tls_cert` has both."""

    tls_first: bool = False
    """Begin with TLS before the server says anything, for servers with `handshake_first`."""

    inbox_prefix: str = "_INBOX"
    """First tokens of the subjects that replies come back on, for users who may not subscribe to `_INBOX.>`."""

    jetstream_domain: str | None = None
    """The JetStream domain to use, where the server connected to is in another or has none of its own."""

    ignore_discovered_servers: bool = False
    """Connect to `servers` alone, not to the other servers of the cluster that those tell of."""

    ack_wait: Annotated[float, Meta(ge=1, le=3600)] = 30.0
    """Seconds for which a job stays with a worker that shows no sign of life, 1 s to 1 h."""

    publish_timeout: Annotated[float, Meta(ge=0.1, le=600)] = 10.0
    """Seconds for which an enqueue waits to be stored, 0.1 s to 10 min."""

    connect_timeout: Annotated[float, Meta(ge=0.1, le=600)] = 5.0
    """Seconds for which a producer waits for a connection, 0.1 s to 10 min."""

    replicas: Annotated[int, Meta(ge=1, le=5)] = 1
    """Copies of each stream in a cluster, 1 to 5."""

    dead_letter_ttl: Annotated[float, Meta(ge=1, le=3650 * _DAY)] = 30 * _DAY
    """Seconds for which dead letters are kept, 1 s to 10 years."""

    max_bytes: _Room = None
    """Bytes of room for each queue's jobs, from 1 MiB. New jobs are refused when four fifths of the room are used."""

    dead_letter_max_bytes: _Room = None
    """Bytes of room for each queue's dead letters; as much as max_bytes unless it is given."""

    result_max_bytes: _Room = None
    """Bytes of room for all results; as much as max_bytes unless it is given."""

    state_max_bytes: _Room = None
    """Bytes of room for pauses, limits and starts; as much as max_bytes unless it is given."""

    record_max_bytes: _Room = None
    """Bytes of room for records; as much as max_bytes unless it is given."""

    workflow_max_bytes: _Room = None
    """Bytes of room for what all workflows write down; as much as max_bytes unless it is given."""

    plugins: tuple[str, ...] | None = None
    """The installed plugins whose tasks a worker serves, by their names or those of their distributions, in the
    environment with commas between them; all plugins without it, none if it is empty (`plugins = []`)."""

    @property
    def wants_tls(self) -> bool:
        """Whether clear text is refused: a `tls://` server or any `tls_*` setting asks for it."""
        return bool(self.tls_ca or self.tls_cert or self.tls_first) or any(s.startswith("tls:") for s in self.servers)

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, self._shown(name)) for name in self.__struct_fields__]

    def _shown(self, name: str) -> object:
        value = getattr(self, name)
        if name == "servers":
            return tuple(map(safe_url, self.servers))
        if name in _PATHS and value is not None and _KEY_MATERIAL.search(value):
            return "***"
        return "***" if name in _SECRET and value is not None else value


class SettingsOptions(TypedDict, total=False):
    """The keywords of `Jetq(...)` except `servers` and `namespace`. `Settings` has their meanings and ranges."""

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
    jetstream_domain: str | None
    ignore_discovered_servers: bool
    ack_wait: float | timedelta
    publish_timeout: float | timedelta
    connect_timeout: float | timedelta
    replicas: int
    dead_letter_ttl: float | timedelta
    max_bytes: int | None
    dead_letter_max_bytes: int | None
    result_max_bytes: int | None
    state_max_bytes: int | None
    record_max_bytes: int | None
    workflow_max_bytes: int | None
    plugins: tuple[str, ...] | None


class Given(Struct, frozen=True):
    """One value as a user wrote it. `source` says where the user wrote the value; errors name this source."""

    value: object
    source: str

    def __repr__(self) -> str:
        return f"<what {self.source} says>"


Layer = Mapping[str, Given]
"""The values of one source, by the name of the setting."""

_TYPES = get_type_hints(Settings, include_extras=True)
_DURATIONS = frozenset(name for name, kind in _TYPES.items() if float in get_args(kind))
_SECRET = frozenset({"password", "token"})
_PATHS = frozenset({"creds", "nkey", "tls_ca", "tls_cert", "tls_key"})
_WAYS = {"user": "user", "password": "user", "token": "token", "creds": "creds", "nkey": "nkey"}
"""The settings that say who jetq is, each with its way of the four: user, token, creds or nkey."""

_NATS_VARIABLES = {
    "NATS_URL": "servers",
    "NATS_USER": "user",
    "NATS_PASSWORD": "password",
    "NATS_TOKEN": "token",
    "NATS_CREDS": "creds",
    "NATS_NKEY": "nkey",
    "NATS_CERT": "tls_cert",
    "NATS_KEY": "tls_key",
    "NATS_CA": "tls_ca",
}
_CONTEXT_KEYS = {
    "url": "servers",
    "user": "user",
    "password": "password",
    "token": "token",
    "creds": "creds",
    "nkey": "nkey",
    "cert": "tls_cert",
    "key": "tls_key",
    "ca": "tls_ca",
    "tls_first": "tls_first",
    "inbox_prefix": "inbox_prefix",
    "jetstream_domain": "jetstream_domain",
}
_REFUSED_CONTEXT_KEYS = ("nsc", "jetstream_api_prefix", "user_jwt", "user_seed", "socks_proxy")
_COMMANDS = (
    "WORKER",
    "DEV",
    "SERVER",
    "CALL",
    "QUEUE",
    "JOB",
    "SCHEDULE",
    "DLQ",
    "SETUP",
    "DOCTOR",
    "PLUGINS",
    "WORKFLOW",
)
_FOREIGN_PREFIXES = (
    "JETQ_EMAIL_",
    "JETQ_TEST_",
    "JETQ_APP",
    "JETQ_VERBOSE",
    *(f"JETQ_{command}_" for command in _COMMANDS),
)
"""Prefixes of variables that are no settings: of the mail plugin, the tests, and the options of the `jetq` command."""

_SERVICE_LINK = re.compile(r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://")

_PORTS = range(1, 65536)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_KEY_MATERIAL = re.compile(r"-----BEGIN |\bS[UAOCN][A-Z2-7]{56}\b|\beyJ[\w-]{20,}")
"""Matches PEM, a seed or a JWT. These are contents of a file, never its path."""

_INBOX_PREFIX = re.compile(r"[A-Za-z0-9_$-]+(\.[A-Za-z0-9_$-]+)*")
_DOMAIN = re.compile(r"[A-Za-z0-9_$-]+")


# --- sources


def from_keywords(keywords: Mapping[str, object]) -> Layer:
    """Return the settings among the keywords of `Jetq(...)`; None means not given.

    Raises SettingsError for an unknown name.
    """
    _refuse_unknown(keywords, str, "Jetq() has no setting {!r}", "Jetq({}=...)")
    return {name: Given(value, f"{name} of Jetq()") for name, value in keywords.items() if value is not None}


def from_jetq_environment(environment: Mapping[str, str]) -> Layer:
    """Return the settings in the variables `JETQ_<SETTING>`. An empty variable counts as not set.

    Raises SettingsError for an unknown variable `JETQ_*`.
    """
    known = {_variable(name): name for name in _TYPES}
    ours = [
        name
        for name, value in environment.items()
        if name in known
        or (name.startswith("JETQ_") and not name.startswith(_FOREIGN_PREFIXES) and not is_service_link(name, value))
    ]
    _refuse_unknown(ours, _variable, "the environment variable {} is none of jetq's", "{}=...")
    return {known[name]: Given(environment[name], name) for name in ours if environment[name]}


def from_nats_environment(environment: Mapping[str, str]) -> Layer:
    """Return the settings in the variables that the `nats` command reads too.

    Any other variable that starts with `NATS_` may belong to another program, and is no error.
    """
    return {
        setting: Given(environment[name], name) for name, setting in _NATS_VARIABLES.items() if environment.get(name)
    }


def from_table(table: Mapping[str, object], file: str) -> Layer:
    """Return the settings in a TOML table. Raises SettingsError for an unknown key."""
    _refuse_unknown(table, str, f"{file} has a key {{!r}} that is no setting of jetq", "{} = ...")
    return {name: Given(value, f"{name} in {file}") for name, value in table.items()}


def from_context(context: Mapping[str, object], name: str) -> Layer:
    """Return the settings in a context, as the `nats` command stores contexts.

    Raises SettingsError for a key that jetq cannot honour.
    """
    for key in _REFUSED_CONTEXT_KEYS:
        if context.get(key):
            raise SettingsError(
                f"the NATS context {name!r} sets {key}, which jetq does not know how to use",
                hint="use a context without it, or set NATS_URL and the credentials instead of NATS_CONTEXT",
            )
    given = {
        setting: Given(context[key], f"{key} of the NATS context {name!r}")
        for key, setting in _CONTEXT_KEYS.items()
        if context.get(key)
    }
    # The `nats` command chooses in this order when a context holds several ways.
    ways = [way for way in ("user", "creds", "nkey", "token") if way in given]
    return {setting: value for setting, value in given.items() if _WAYS.get(setting) in (None, *ways[:1])}


def is_service_link(name: str, value: str) -> bool:
    """Return whether Kubernetes has set the variable `name`.

    Each container gets some variables for each service, and a service may be named jetq:
    https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
    """
    return bool(_SERVICE_LINK.fullmatch(name)) or (name.endswith("_PORT") and bool(_SERVICE_URL.match(value)))


def _variable(setting: str) -> str:
    return f"JETQ_{setting.upper()}"


def _refuse_unknown(names: Iterable[str], spelt: Callable[[str], str], message: str, line: str) -> None:
    """Raise SettingsError for a name that no setting has.

    spelt: gives the name of a setting as the source spells it. message: the error, with a place for the wrong name.
    line: how a user sets a setting in the source, with a place for its name.
    """
    known = [spelt(setting) for setting in _TYPES]
    for name in names:
        if name in known:
            continue
        text = message.format(name)
        setting, instead = setting_answer(name.removeprefix("JETQ_").lower(), _TYPES)
        if setting is not None:
            instead = line.format(spelt(setting))
        if instead is not None:
            raise SettingsError(f"{text}: {instead}")
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are: {', '.join(sorted(known))}"
        raise SettingsError(text, hint=hint)


# --- merging


def resolve(layers: Sequence[Layer]) -> Settings:
    """Return the settings that `layers` give: the first layer with a setting wins, and the rest are defaults.

    Who jetq is comes from one way only: the way of the first layer that names one. So a token in the environment does
    not meddle with the credentials file in the code. Raises SettingsError, which names the setting and its source.
    """
    merged: dict[str, Any] = {}
    sources: dict[str, str] = {}
    way = None
    for layer in layers:
        values = _parsed(layer)
        way = way or _way(values, layer)
        for name, value in values.items():
            if name not in merged and _WAYS.get(name) in (None, way):
                merged[name] = value
                sources[name] = layer[name].source if name in layer else layer["servers"].source
    _check_pairs(merged, sources)
    return Settings(**merged)


def _parsed(layer: Layer) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, given in layer.items():
        if name == "servers":
            values["servers"], user = _servers(given)
            for key, value in user.items():
                if key in layer and layer[key].value != value:
                    raise SettingsError(
                        f"{given.source} and {layer[key].source} name different credentials",
                        hint="leave them out of the URL",
                    )
                values[key] = value
        else:
            values[name] = _value(name, given)
    return values


def _way(values: Mapping[str, Any], layer: Layer) -> str | None:
    ways = {_WAYS[name]: layer.get(name, layer.get("servers")) for name in values if name in _WAYS}
    if len(ways) > 1:
        sources = " and ".join(given.source for given in ways.values() if given is not None)
        raise SettingsError(
            f"{sources} contradict each other",
            hint="jetq takes one of: user and password, token, creds, nkey",
        )
    return next(iter(ways), None)


def _check_pairs(values: Mapping[str, Any], sources: Mapping[str, str]) -> None:
    if "user" in values and "password" not in values:
        raise SettingsError(f"{sources['user']}: a user without a password", hint="is it a token? set NATS_TOKEN")
    if "password" in values and "user" not in values:
        raise SettingsError(f"{sources['password']}: a password without a user", hint="set user, e.g. JETQ_USER")
    if "tls_key" in values and "tls_cert" not in values:
        raise SettingsError(
            f"{sources['tls_key']}: a key without a certificate", hint="set tls_cert, e.g. JETQ_TLS_CERT"
        )


# --- values


def _value(name: str, given: Given) -> object:
    value = given.value
    try:
        if isinstance(value, timedelta):
            value = seconds(value, name)
        elif name in _DURATIONS and isinstance(value, str):
            value = read_span(value, name)
        elif name == "plugins" and isinstance(value, str):
            value = [each.strip() for each in value.split(",") if each.strip()]
        # A text is the value itself, or, in the environment, may be a number or a truth value.
        value = msgspec.convert(value, _TYPES[name], strict=not isinstance(value, str))
        if name in _PATHS and _KEY_MATERIAL.search(str(value)):
            raise SettingsError(
                f"{given.source}: expected the path of a file, got what stands in one",
                hint="write it into a file that only jetq's user may read, and name that",
            )
        if name == "namespace":
            check_namespace(str(value))
        if name == "inbox_prefix" and not _INBOX_PREFIX.fullmatch(str(value)):
            raise ValueError("expected subject tokens without wildcards, like _INBOX or _INBOX.jetq")
        if name == "jetstream_domain" and (not _DOMAIN.fullmatch(str(value)) or value == "API"):
            raise ValueError("expected the name of a JetStream domain, one word like hub")
    except (DefinitionError, msgspec.ValidationError, TypeError, ValueError) as error:
        shown = "" if name in _SECRET else f", got {given.value!r}"
        reason = str(error).replace("`", "").removeprefix(f"{name}: ").partition(", got ")[0]
        raise SettingsError(f"{given.source}: {reason[:1].lower()}{reason[1:]}{shown}") from None
    return value


def _servers(given: Given) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the URLs without their credentials, and these credentials by setting (empty if no URL has any)."""
    written = given.value.split(",") if isinstance(given.value, str) else given.value
    if not isinstance(written, list | tuple) or not all(isinstance(url, str) for url in written):
        raise SettingsError(f"{given.source}: expected URLs, got {type(given.value).__name__}")
    parsed = [_server(url.strip(), given.source, whole=given.value) for url in written if url.strip()]
    if not parsed:
        raise SettingsError(f"{given.source}: expected at least one URL, like {DEFAULT_SERVER}")
    users = [user for _, user in parsed if user]
    if any(user != users[0] for user in users):
        raise SettingsError(f"{given.source}: the URLs name different credentials", hint="set user and password")
    return tuple(url for url, _ in parsed), users[0] if users else {}


def _server(written: str, source: str, *, whole: object) -> tuple[str, dict[str, str]]:
    url = written if "://" in written else f"nats://{written}"
    # The list was split at commas, so a password with a comma was split too: `written` may be its first half.
    shown = "one of several" if isinstance(whole, str) and "@" in whole and "@" not in written else safe_url(written)
    wrong = SettingsError(f"{source}: {shown!r} is no URL of a NATS server", hint=f"like {DEFAULT_SERVER}")
    try:
        parts = urlsplit(url)
        port = 4222 if parts.port is None else parts.port
        host = parts.hostname
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("nats", "tls"):
        raise SettingsError(f"{source}: {safe_url(url)}: jetq connects over nats:// or tls://, not {parts.scheme}://")
    if not host or not host.isprintable() or " " in host or port not in _PORTS or parts.path.strip("/") or parts.query:
        raise wrong
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}:{port}", _user(parts.username, parts.password)


def _user(username: str | None, password: str | None) -> dict[str, str]:
    if not username:
        return {}
    if password is None:  # a token, as in every NATS client
        return {"token": unquote(username)}
    return {"user": unquote(username), "password": unquote(password)}


def safe_url(url: str) -> str:
    """Return `url` without its credentials: the user, password or token before its host."""
    scheme = _SCHEME.match(url)
    return f"{scheme[0] if scheme else ''}{url[scheme.end() if scheme else 0 :].rpartition('@')[2]}"
