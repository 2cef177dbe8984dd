"""The settings for sending mail: one frozen struct, whose fields are variables of the environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from jetq import SettingsError
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

__all__ = ["PREFIX", "TRANSPORTS", "Auth", "Settings", "Tls"]

PREFIX = "JETQ_EMAIL_"

TRANSPORTS = ("smtp", *PROVIDERS, "file", "console", "memory")
"""The names of all transports."""

Auth = Literal["auto", "plain", "login", "cram-md5", "xoauth2"]
Tls = Literal["starttls", "implicit", "none"]

_PORTS: Mapping[Tls, int] = {"starttls": 587, "implicit": 465, "none": 25}


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How this process sends mail; field `host` is the variable `JETQ_EMAIL_HOST`, and so on. Durations are seconds.

    transport: `smtp`, the default if a host is set; the name of a provider, the default if it alone is set; `file`
        writes .eml files; `console` prints; `memory` keeps them for tests; `module:name` is a Router in Python.
    routes: several transports with their weights, `postmark:9,ses:1`. fallback: the transport for mails that no route
        takes.
    allow_duplicates: a mail that one route may have got is handed to another route all the same.
    host, port: the SMTP server; the port follows from `tls` if not given: 587, 465 or 25.
    user, password: both or neither. Not sent in clear text except to this machine.
    auth: how to log in: `plain`, `login`, `cram-md5`, `xoauth2`, or `auto` for a method that the server and these
        settings have.
    token: an access token for XOAUTH2, in place of a password.
    token_command: a command that prints a token, alone or as JSON with `access_token` and `expires_in`. It is run,
        without a shell, for the first login, and when the token expires or the server refuses it.
    ehlo: the name that the worker gives to the server: a full host name, or an address such as `[192.0.2.1]`. By
        default the machine's name if that is a full one, else its address.
    envelope_sender: the address that bounces go to, if not the sender of the mail; `<>` means that nobody gets bounces.
        In it `{id}` is the job's id, and `{recipient}` the recipient, as `ann=example.com`; with `{recipient}` each
        recipient has a transaction of their own.
    tls: `starttls` (required; there is no fallback to clear text), `implicit` (TLS from the first byte) or `none`.
    ca_file: a PEM file of authorities to trust instead of the system's.
    sender: the From address of mails that have no other.
    timeout: seconds per step with the SMTP server (four times that for the content), and for fetching an attachment.
    connections: connections to the server or provider per worker process, 1 to 100.
    attempts: how often a mail is tried, from 1. With the waits between them 8 are about eight hours.
    retry_wait: the least time before the second attempt; the next attempts wait 5, 15, 30, 60, 120 and 240 times as
        long. Servers that put off unknown senders want minutes.
    rate: how many mails all workers start of each of the two tasks, like `14/s`, or with `/m`, `/h` or `/d`.
    outbox: the directory of transport `file`.
    template_directory: your own templates, searched before the built-in ones.
    attachment_root: the directory from which attachments given by path are read; None refuses these attachments.
    attachment_hosts: the hosts, separated by commas, from which attachments given by URL are fetched; none refuses
        these attachments.
    attachment_limit: the bytes that all attachments of a mail may have together.
    suppression: whether mails leave out recipients who are on the list of those who get no mail.
    addresses: `hashed` if that list and the mail log keep only hashes of addresses, `clear` if they keep addresses too.
    log_ttl: how long the mail log keeps the outcome of each mail, up to 10 years; 0 keeps no log.
    dkim_domain: the domain for which mails sent by `smtp` and `file` are signed (DKIM); None signs none.
    dkim_selector: the name below that domain under which the public key is published; several with commas between.
    dkim_key, dkim_key_file: the private key, RSA or Ed25519, in PEM's form, or the file that holds it. For several
        selectors give the keys one after the other.
    topics: all topics, separated by spaces, such as `news offers`; without this setting every word is a topic.
    unsubscribe_url: where `jetq_email.unsubscribe.Unsubscribe` is served, such as `https://shop.example/unsubscribe`;
        mails with a topic get a link there.
    unsubscribe_mailto: an address to which recipients can also write to leave a topic.
    secret: signs those links, 16 characters at least. There may be several, with commas between them: the first signs,
        and links signed with any of them work.
    ses, sendgrid, mailgun, postmark, resend, brevo: the providers. Each of their fields is a variable of its own:
        `token` of `postmark` is `JETQ_EMAIL_POSTMARK_TOKEN`. Each may have a `rate`: how many mails the provider gets
        from all workers.
    webhooks: the secrets that verify webhooks; see `WebhookSecrets`, whose fields are variables of the same name.
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
        """Whether the worker logs in with a token."""
        return self.token is not None or self.token_command is not None

    @property
    def smtp_port(self) -> int:
        """The `port`, or the usual port for `tls`."""
        return _PORTS[self.tls] if self.port is None else self.port

    @property
    def dkim_selectors(self) -> list[str]:
        """The names in `dkim_selector`."""
        return [name.strip() for name in (self.dkim_selector or "").split(",")]

    @property
    def chosen_transport(self) -> str:
        """The transport to use; `router` for several routes.

        Raises SettingsError if none is configured, because a mail must not be lost in a default transport. Also raised
        for a provider if its HTTP client is not installed.
        """
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
        """Raise SettingsError if there is no transport called `name`, or if a setting that it needs is missing."""
        if name not in TRANSPORTS:
            raise SettingsError(f"there is no transport {name!r}", hint=f"known: {', '.join(TRANSPORTS)}")
        if name == "smtp" and self.host is None:
            raise SettingsError("transport smtp needs a server", hint=f"set {PREFIX}HOST")
        if name in PROVIDERS:
            self.provider(name)

    def provider(self, name: str) -> Provider:
        """Return the provider called `name`, with its settings. Raises SettingsError if the provider has no
        settings."""
        provider: Provider | None = getattr(self, name)
        if provider is None:
            needed = [f"{PREFIX}{name}_{field}".upper() for field in _required(PROVIDERS[name])]
            raise SettingsError(f"transport {name} is not set up", hint=f"set {', '.join(needed)}")
        return provider


def _required(provider: type[Struct]) -> list[str]:
    """Return the provider's fields that have no default."""
    return [field.name for field in msgspec.structs.fields(provider) if field.required]
