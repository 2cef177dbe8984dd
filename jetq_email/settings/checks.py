"""Checks settings for values, and for combinations of values, that are impossible."""

from __future__ import annotations

import re
import shlex

from jetq import SettingsError
from jetq_email.errors import Unsendable
from jetq_email.message.address import parse_mailbox, parse_return_path
from jetq_email.message.lines import one_word
from jetq_email.settings.fields import PREFIX, Settings

__all__ = ["check"]

_DNS_NAME = re.compile(r"[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*")
_EHLO = re.compile(r"\[[0-9.]+\]|\[IPv6:[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z0-9-]{1,63}")
_SHORTEST_SECRET = 16
"""Characters that a secret must have at least."""

_URL = re.compile(
    r"(?:https://[A-Za-z0-9.-]{1,253}|http://(?:localhost|127\.0\.0\.1))(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~%/-]{0,255})?"
)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def check(settings: Settings) -> None:
    """Raise SettingsError for an impossible value or combination in `settings`."""
    _check_host(settings)
    _check_transports(settings)
    _check_login(settings)
    _check_greeting(settings)
    _check_dkim(settings)
    _check_unsubscribing(settings)
    _check_addresses(settings)


def _check_host(settings: Settings) -> None:
    if settings.host is not None and ("@" in settings.host or "/" in settings.host):
        raise SettingsError(  # the value is not repeated, because it may hold a password
            f"{PREFIX}HOST is a host's name or address, and this is a URL or more",
            hint=f"port, user and password have variables of their own: {PREFIX}PORT, {PREFIX}USER, {PREFIX}PASSWORD",
        )


def _check_greeting(settings: Settings) -> None:
    if settings.ehlo is not None and not _EHLO.fullmatch(settings.ehlo):
        raise SettingsError(
            f"{PREFIX}EHLO is neither a full name nor an address in brackets",
            hint="such as mail.example.com, [192.0.2.1] or [IPv6:2001:db8::1]",
        )


def _check_addresses(settings: Settings) -> None:
    """Raise SettingsError for a text that is no address, and for a topic that is not one word."""
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
        _check_command(settings.token_command.reveal())


def _check_command(command: str) -> None:
    try:
        is_empty = not shlex.split(command)
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
