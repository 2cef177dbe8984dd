"""What a worker is told about sending mail: one frozen struct, read from `JETQ_EMAIL_*`."""

from __future__ import annotations

import difflib
import math
import os
import re
import shlex
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from jetq import SettingsError
from jetq_email.errors import Unsendable
from jetq_email.message.address import parse_mailbox, parse_return_path
from jetq_email.message.lines import one_word
from jetq_email.providers import (
    PROVIDERS,
    Brevo,
    Mailgun,
    Postmark,
    Provider,
    Resend,
    SendGrid,
    Ses,
    check_client,
)
from jetq_email.rates import RateText
from jetq_email.secret import Secret
from jetq_email.settings.webhook_secrets import WebhookSecrets

__all__ = ["PREFIX", "TRANSPORTS", "Auth", "Settings", "Tls", "check", "current", "parse"]

PREFIX = "JETQ_EMAIL_"

TRANSPORTS = ("smtp", *PROVIDERS, "file", "console", "memory")
"""The names of what mails may be handed to."""

Auth = Literal["auto", "plain", "login", "cram-md5", "xoauth2"]
Tls = Literal["starttls", "implicit", "none"]

_PORTS: Mapping[Tls, int] = {"starttls": 587, "implicit": 465, "none": 25}
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_DNS_NAME = re.compile(r"[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*")
_EHLO = re.compile(r"\[[0-9.]+\]|\[IPv6:[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z0-9-]{1,63}")
_SHORTEST_SECRET = 16
_URL = re.compile(
    r"(?:https://[A-Za-z0-9.-]{1,253}|http://(?:localhost|127\.0\.0\.1))(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~%/-]{0,255})?"
)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How this process sends mail; field `host` is the variable `JETQ_EMAIL_HOST`, and so on. Durations are seconds.

    transport: `smtp`, the default if a host is set; the name of a provider, the default if it alone is set; `file`
        writes .eml files; `console` prints; `memory` keeps them for tests; `module:name` is a Router in Python.
    routes: several of these with their weights, `postmark:9,ses:1`. fallback: the one for mails that no route takes.
    allow_duplicates: what may have been handed to one route is handed to another all the same.
    host, port: the SMTP server; the port follows from `tls` if not given: 587, 465 or 25.
    user, password: both or neither. Not sent in clear text except to this machine.
    auth: how to log in: `plain`, `login`, `cram-md5`, `xoauth2`, or `auto` for what server and settings have.
    token: in place of a password, an access token for XOAUTH2.
    token_command: a command that prints one, alone or as JSON with `access_token` and `expires_in`. It is run,
        without a shell, for the first login, and when the token expires or the server refuses it.
    ehlo: what the worker calls itself: a full name, or an address as `[192.0.2.1]`. If it is not given, the machine's
        name if that is a full one, else its address.
    envelope_sender: where bounces go, if not to the sender of the mail; `<>` for nowhere. In it `{id}` is the job's id
        and `{recipient}` the recipient, as `ann=example.com`: each has a transaction of its own then.
    tls: `starttls` (required, never fallen back from), `implicit` (TLS from the first byte) or `none`.
    ca_file: a PEM file of authorities to trust instead of the system's.
    sender: the From address of mails that name none.
    timeout: seconds per step with the SMTP server (four times that for the content), and for fetching an attachment.
    connections: connections to the server or provider per worker process, 1 to 100.
    attempts: how often a mail is tried, from 1. With the waits between them 8 are about eight hours.
    retry_wait: how long the second attempt waits at least; the next ones 5, 15, 30, 60, 120 and 240 times that. Servers
        that put strangers off want minutes.
    rate: how many mails are started, of each of the two tasks and by all workers, like `14/s`, `/m`, `/h` or `/d`.
    outbox: the directory of transport `file`.
    template_directory: own templates, searched before the built-in ones.
    attachment_root: the directory attachments given by path come from; None refuses them.
    attachment_hosts: hosts, separated by commas, attachments given by URL come from; none refuses them.
    attachment_limit: bytes all attachments of a mail may have together.
    suppression: whether who is on the list of those who get no mail is left out.
    addresses: whether that list and the mail log keep addresses `hashed`, or `clear` as well.
    log_ttl: how long the mail log keeps what came of each mail, up to 10 years; 0 keeps no log.
    dkim_domain: the domain for which mails sent by `smtp` and `file` are signed (DKIM); None signs none.
    dkim_selector: the name below that domain under which the public key is published; several with commas between.
    dkim_key, dkim_key_file: the private key, RSA or Ed25519, in PEM's form, or the file that holds it. Of several
        selectors the keys stand one after the other.
    topics: the topics there are, separated by spaces, such as `news offers`; without any, each word is one.
    unsubscribe_url: where `jetq_email.unsubscribe.Unsubscribe` is served, such as `https://shop.example/unsubscribe`;
        mails with a topic get a link there.
    unsubscribe_mailto: an address that takes the wish to leave a topic by mail too.
    secret: signs those links, 16 characters at least. Of several, with commas between them, the first signs and all
        are known.
    ses, sendgrid, mailgun, postmark, resend, brevo: providers, whose fields are variables of their own: `token` of the
        fourth is `JETQ_EMAIL_POSTMARK_TOKEN`. Each may have a `rate`: how many mails it gets, of all workers.
    webhooks: by what webhooks are verified; see `WebhookSecrets`, whose fields are variables as they are called.
    """

    transport: str | None = None
    routes: tuple[tuple[str, float], ...] = ()
    fallback: str | None = None
    allow_duplicates: bool = False
    host: str | None = None
    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    user: str | None = None
    password: Secret | None = None
    auth: Auth = "auto"
    token: Secret | None = None
    token_command: Secret | None = None
    ehlo: str | None = None
    tls: Tls = "starttls"
    ca_file: Path | None = None
    sender: str | None = None
    envelope_sender: str | None = None
    timeout: Annotated[float, Meta(ge=0.1, le=600.0)] = 30.0
    connections: Annotated[int, Meta(ge=1, le=100)] = 10
    attempts: Annotated[int, Meta(ge=1, le=1000)] = 8
    retry_wait: Annotated[float, Meta(ge=0.0, le=86400.0)] = 60.0
    rate: RateText | None = None
    outbox: Path = Path("outbox")
    template_directory: Path | None = None
    attachment_root: Path | None = None
    attachment_hosts: tuple[str, ...] = ()
    attachment_limit: Annotated[int, Meta(ge=1)] = 25_000_000
    suppression: bool = True
    addresses: Literal["hashed", "clear"] = "hashed"
    log_ttl: Annotated[float, Meta(ge=0.0, le=315_360_000.0)] = 0.0
    dkim_domain: str | None = None
    dkim_selector: str | None = None
    dkim_key: Secret | None = None
    dkim_key_file: Path | None = None
    topics: tuple[str, ...] = ()
    unsubscribe_url: str | None = None
    unsubscribe_mailto: str | None = None
    secret: tuple[Secret, ...] = ()
    ses: Ses | None = None
    sendgrid: SendGrid | None = None
    mailgun: Mailgun | None = None
    postmark: Postmark | None = None
    resend: Resend | None = None
    brevo: Brevo | None = None
    webhooks: WebhookSecrets = WebhookSecrets()

    @property
    def has_token(self) -> bool:
        """Whether the worker logs in by a token."""
        return self.token is not None or self.token_command is not None

    @property
    def smtp_port(self) -> int:
        """`port`, or the usual one for `tls`."""
        return _PORTS[self.tls] if self.port is None else self.port

    @property
    def dkim_selectors(self) -> list[str]:
        """The names in `dkim_selector`."""
        return [name.strip() for name in (self.dkim_selector or "").split(",")]

    @property
    def chosen_transport(self) -> str:
        """The transport to use, `router` for several. Raises SettingsError if none is configured: a mail must not
        vanish into a default; also for a provider without what speaks to it."""
        chosen = self._chosen()
        if chosen in PROVIDERS:
            check_client()
        return chosen

    def _chosen(self) -> str:
        if self.routes:
            return "router"
        if self.transport is not None:
            return self.transport
        if self.host is not None:
            return "smtp"
        named = [name for name in PROVIDERS if getattr(self, name) is not None]
        if len(named) == 1:
            return named[0]
        if named:
            raise SettingsError(
                f"{len(named)} providers are set up, and none is chosen: {', '.join(named)}",
                hint=f"set {PREFIX}TRANSPORT to one of them",
            )
        raise SettingsError(
            "no mail transport is configured for this worker",
            hint=f"set {PREFIX}HOST to an SMTP server, or {PREFIX}TRANSPORT=console to print mails while developing",
        )

    def check_set_up(self, name: str) -> None:
        """Raise SettingsError if there is no transport called `name`, or what it needs is not set."""
        if name not in TRANSPORTS:
            raise SettingsError(f"there is no transport {name!r}", hint=f"known: {', '.join(TRANSPORTS)}")
        if name == "smtp" and self.host is None:
            raise SettingsError("transport smtp needs a server", hint=f"set {PREFIX}HOST")
        if name in PROVIDERS:
            self.provider(name)

    def provider(self, name: str) -> Provider:
        """The provider called `name`, with its settings. Raises SettingsError if it has none."""
        provider: Provider | None = getattr(self, name)
        if provider is None:
            needed = [f"{PREFIX}{name}_{field}".upper() for field in _required(PROVIDERS[name])]
            raise SettingsError(f"transport {name} is not set up", hint=f"set {', '.join(needed)}")
        return provider


def current() -> Settings:
    """The settings in this process's environment, as it is now. Raises SettingsError."""
    return _parse_once(tuple(item for item in os.environ.items() if item[0].startswith(PREFIX)))


@lru_cache(maxsize=8)
def _parse_once(variables: tuple[tuple[str, str], ...]) -> Settings:
    return parse(dict(variables))


def parse(environ: Mapping[str, str]) -> Settings:
    """The settings in `environ`; variables without the prefix are ignored, empty ones count as not set.

    Raises SettingsError for an unknown name, with a suggestion, and for an impossible value or combination.
    """
    values: dict[str, Any] = {}
    for variable, text in environ.items():
        if variable.startswith(PREFIX) and text:
            section, name = _place(variable)
            (values.setdefault(section, {}) if section else values)[name] = text
    if "attachment_hosts" in values:
        values["attachment_hosts"] = [host.strip().lower() for host in values["attachment_hosts"].split(",")]
    if topics := values.get("webhooks", {}).get("ses_webhook_topics"):
        values["webhooks"]["ses_webhook_topics"] = [topic for topic in re.split(r"[,\s]+", topics) if topic]
    if "routes" in values:
        values["routes"] = [_route(text.strip()) for text in values["routes"].split(",")]
    if "topics" in values:
        values["topics"] = re.split(r"[\s,]+", values["topics"].strip())
    if "secret" in values:
        values["secret"] = [secret.strip() for secret in values["secret"].split(",")]
    try:
        settings = msgspec.convert(values, Settings, strict=False, dec_hook=_convert)
    except msgspec.ValidationError as error:
        raise SettingsError(_explain(error)) from None
    check(settings)
    return settings


def _route(text: str) -> tuple[str, float]:
    """A name, and behind a colon its weight."""
    name, colon, weight = text.partition(":")
    try:
        share = float(weight) if colon else 1.0
    except ValueError:
        share = 0.0
    if not 0 < share < math.inf:
        raise SettingsError(
            f"{PREFIX}ROUTES: {weight!r} is no weight for {name}",
            hint=f"a number above 0, as in {name}:9; what is to take mails only when the others do not is the"
            f" {PREFIX}FALLBACK",
        )
    return name, share


def _place(variable: str) -> tuple[str | None, str]:
    """The field that `variable` sets, and the provider or the webhooks that it is one of."""
    name = variable.removeprefix(PREFIX).lower()
    if name in WebhookSecrets.__struct_fields__ and variable == variable.upper():
        return "webhooks", name
    section = next((each for each in PROVIDERS if name.startswith(f"{each}_")), None)
    if section is not None:
        name = name.removeprefix(f"{section}_")
    known = [each for each in Settings.__struct_fields__ if each not in PROVIDERS and each != "webhooks"]
    if section is not None:
        known = list(PROVIDERS[section].__struct_fields__)
    if name in known and variable == variable.upper():
        return section, name
    prefix = PREFIX if section is None else f"{PREFIX}{section.upper()}_"
    beginning = "" if section is None else f"{section}_"
    of_webhooks = [
        each.removeprefix(beginning) for each in WebhookSecrets.__struct_fields__ if each.startswith(beginning)
    ]
    near = difflib.get_close_matches(name, [*known, *of_webhooks], n=1, cutoff=0.5)
    hint = f"did you mean {prefix}{near[0].upper()}?" if near else f"known: {', '.join(n.upper() for n in known)}"
    raise SettingsError(f"{variable} is not a setting of jetq_email", hint=hint)


def _required(provider: type[Struct]) -> list[str]:
    return [field.name for field in msgspec.structs.fields(provider) if field.required]


def _convert(kind: type, value: Any) -> Any:
    if kind is Secret or kind is Path:
        return kind(value)
    raise NotImplementedError(kind)


def _explain(error: msgspec.ValidationError) -> str:
    """msgspec ends with the place, `... - at `$.port``; its text never holds the value."""
    problem, _, place = str(error).rpartition(" - at `$.")
    if not problem:
        return str(error)
    section = place.rstrip("`").upper().replace(".", "_")
    missing = _MISSING.fullmatch(problem)
    return f"{PREFIX}{section}_{missing[1].upper()} is missing" if missing else f"{PREFIX}{section}: {problem}"


def check(settings: Settings) -> None:
    """Raise SettingsError if `settings` say what cannot be, or not together."""
    if settings.host is not None and ("@" in settings.host or "/" in settings.host):  # it may hold a password
        raise SettingsError(
            f"{PREFIX}HOST is a host's name or address, and this is a URL or more",
            hint=f"port, user and password have variables of their own: {PREFIX}PORT, {PREFIX}USER, {PREFIX}PASSWORD",
        )
    _check_transports(settings)
    _check_login(settings)
    if settings.ehlo is not None and not _EHLO.fullmatch(settings.ehlo):
        raise SettingsError(
            f"{PREFIX}EHLO is neither a full name nor an address in brackets",
            hint="such as mail.example.com, [192.0.2.1] or [IPv6:2001:db8::1]",
        )
    _check_dkim(settings)
    _check_unsubscribing(settings)
    try:
        if settings.sender is not None:
            parse_mailbox(settings.sender, f"{PREFIX}SENDER")
        if settings.unsubscribe_mailto is not None:
            parse_mailbox(settings.unsubscribe_mailto, f"{PREFIX}UNSUBSCRIBE_MAILTO")
        for topic in settings.topics:
            one_word(topic, f"{PREFIX}TOPICS")
        if settings.envelope_sender is not None:
            parse_return_path(settings.envelope_sender, f"{PREFIX}ENVELOPE_SENDER")
    except Unsendable as error:
        raise SettingsError(error.message, hint=error.hint) from None


def _check_login(settings: Settings) -> None:
    ways = {"PASSWORD": settings.password, "TOKEN": settings.token, "TOKEN_COMMAND": settings.token_command}
    named = [f"{PREFIX}{name}" for name, value in ways.items() if value is not None]
    if len(named) > 1:
        raise SettingsError(f"{' and '.join(named)} exclude each other", hint="set one of them")
    if (settings.user is None) != (not named):
        needed = named[0] if named else f"{PREFIX}PASSWORD"
        raise SettingsError(f"{PREFIX}USER and {needed} go together, and only one of them is set")
    if named and (settings.auth == "xoauth2") != settings.has_token and settings.auth != "auto":
        raise SettingsError(
            f"{PREFIX}AUTH={settings.auth} does not log in by {named[0]}",
            hint=f"xoauth2 takes {PREFIX}TOKEN or {PREFIX}TOKEN_COMMAND, the others take {PREFIX}PASSWORD",
        )
    if named and settings.tls == "none" and settings.host not in _LOOPBACK:
        secret = "token" if settings.has_token else "password"
        raise SettingsError(
            f"{PREFIX}TLS=none would send the {secret} to {settings.host} in clear text",
            hint=f"use {PREFIX}TLS=starttls or implicit, or no user and {secret}",
        )
    if settings.token_command is not None:
        try:
            is_empty = not shlex.split(settings.token_command.reveal())
        except ValueError as error:
            raise SettingsError(f"{PREFIX}TOKEN_COMMAND is no command: {error}") from None
        if is_empty:
            raise SettingsError(f"{PREFIX}TOKEN_COMMAND is no command: it is empty")


def _check_dkim(settings: Settings) -> None:
    keys = [each for each in (settings.dkim_key, settings.dkim_key_file) if each is not None]
    given = [settings.dkim_domain is not None, settings.dkim_selector is not None, bool(keys)]
    if not any(given):
        return
    if not all(given) or len(keys) != 1:
        raise SettingsError(
            f"signing mails takes {PREFIX}DKIM_DOMAIN, _DKIM_SELECTOR, and one of _DKIM_KEY and _DKIM_KEY_FILE",
            hint="set all three, or none",
        )
    for name, values in (("DOMAIN", [settings.dkim_domain or ""]), ("SELECTOR", settings.dkim_selectors)):
        for value in values:
            if not _DNS_NAME.fullmatch(value):
                raise SettingsError(
                    f"{PREFIX}DKIM_{name}: {value!r} is not a name in the DNS",
                    hint="letters, digits and '-', with points between; an international domain as xn--",
                )


def _check_transports(settings: Settings) -> None:
    if settings.routes and settings.transport is not None:
        raise SettingsError(f"{PREFIX}ROUTES and {PREFIX}TRANSPORT are both set", hint="leave one of them out")
    if not settings.routes and (settings.fallback is not None or settings.allow_duplicates):
        name = "ALLOW_DUPLICATES" if settings.fallback is None else "FALLBACK"
        raise SettingsError(
            f"{PREFIX}{name} goes with {PREFIX}ROUTES, which is not set",
            hint="a Router in Python has both as arguments: fallback=, allow_duplicates=",
        )
    named = {
        "TRANSPORT": [each for each in (settings.transport,) if each is not None and ":" not in each],
        "ROUTES": [name for name, _ in settings.routes],
        "FALLBACK": [each for each in (settings.fallback,) if each is not None],
    }
    for variable, names in named.items():
        for name in names:
            try:
                settings.check_set_up(name)
            except SettingsError as error:
                raise SettingsError(f"{PREFIX}{variable}: {error.message}", hint=error.hint) from None


def _check_unsubscribing(settings: Settings) -> None:
    if any(len(secret.reveal()) < _SHORTEST_SECRET for secret in settings.secret):
        raise SettingsError(
            f"{PREFIX}SECRET: a secret has {_SHORTEST_SECRET} characters at least",
            hint="`openssl rand -hex 32` makes one",
        )
    if settings.unsubscribe_url is None:
        if settings.unsubscribe_mailto is not None:
            raise SettingsError(f"{PREFIX}UNSUBSCRIBE_MAILTO goes with {PREFIX}UNSUBSCRIBE_URL, which is not set")
        return
    if not settings.secret:
        raise SettingsError(f"{PREFIX}UNSUBSCRIBE_URL needs {PREFIX}SECRET, which signs the links")
    if not _URL.fullmatch(settings.unsubscribe_url):
        raise SettingsError(
            f"{PREFIX}UNSUBSCRIBE_URL: it begins with https://, and has neither user nor query",  # RFC 8058 3.1
            hint="such as https://shop.example/unsubscribe; http:// is for this machine, to try it",
        )
