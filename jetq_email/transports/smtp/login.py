"""Logs in at an SMTP server, with a password, or with a token that expires and is fetched again."""

from __future__ import annotations

import asyncio
import math
import re
import shlex
import subprocess
import time
from collections.abc import Callable
from typing import Any

import msgspec
from aiosmtplib import SMTP

from jetq_email.errors import TransportError
from jetq_email.settings import Settings

__all__ = ["Login"]

_TOKEN = re.compile(r"[!-~]{1,16000}")
"""The form of a token. RFC 6750 2.1 allows fewer characters; none of them is a blank."""

_EARLY = 60.0
"""Seconds before its expiry from which a token is no longer used."""


class Login:
    """Logs in with the user and password, or with the token, of the settings; does nothing if there are none."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._token: str | None = None
        self._expires = math.inf
        self._fetching = asyncio.Lock()

    async def log_in(self, client: SMTP) -> None:
        """Log `client` in. Raises what aiosmtplib raises, SMTPAuthenticationError if the login is refused, and
        TransportError if the command for a token fails."""
        settings = self._settings
        if settings.user is None:
            return
        if settings.has_token:
            await client.auth_xoauth2(settings.user, await self._current_token())
            return
        assert settings.password is not None  # Settings refuses a user without either
        method: dict[str, Callable[..., Any]] = {
            "plain": client.auth_plain, "login": client.auth_login, "cram-md5": client.auth_crammd5,
        }  # fmt: skip
        await method.get(settings.auth, client.login)(settings.user, settings.password.reveal())

    @property
    def printed_token(self) -> str | None:
        """The token that the command printed for an earlier login; None if there is none."""
        return self._token

    def forget(self, token: str | None) -> None:
        """Forget `token`, which the server has refused, so that the command prints another token, unless it has done so
        already."""
        if token is None or token == self._token:
            self._token = None

    async def _current_token(self) -> str:
        settings = self._settings
        if settings.token is not None:
            return settings.token.reveal()
        async with self._fetching:  # run the command once for all connections
            if self._token is None or time.time() >= self._expires - _EARLY:
                printed = await asyncio.to_thread(_run, settings)
                self._token, self._expires = _read(printed)
            return self._token


def _run(settings: Settings) -> str:
    """Return what the command prints. Errors hold neither the output nor the command, because both hold secrets."""
    assert settings.token_command is not None
    try:
        done = subprocess.run(
            shlex.split(settings.token_command.reveal()),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=settings.timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _no_token(f"did not end within {settings.timeout:g} s") from None
    except OSError as error:
        raise _no_token(f"cannot be run: {error.strerror}") from None
    if done.returncode != 0:
        raise _no_token(f"ended with code {done.returncode}")
    return done.stdout.decode(errors="replace")


def _read(printed: str) -> tuple[str, float]:
    """Return the token and its expiry in unix time. `printed` is a token alone, the answer of an OAuth server (RFC 6749
    5.1), or the output of `az account get-access-token`."""
    text = printed.strip()
    try:
        answer = msgspec.json.decode(text)
    except msgspec.DecodeError:
        answer = None
    fields: dict[str, Any] = answer if isinstance(answer, dict) else {"access_token": text}
    token = fields.get("access_token") or fields.get("accessToken")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise _no_token("printed no token")
    if (left := _number(fields.get("expires_in"))) is not None:
        return token, time.time() + left
    at = _number(fields.get("expires_on"))
    return token, math.inf if at is None else at


def _number(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, int | float | str) else None
    except ValueError:
        return None


def _no_token(what: str) -> TransportError:
    return TransportError(
        f"the command in JETQ_EMAIL_TOKEN_COMMAND {what}",
        hint="run it by hand as the worker's user: it has to print the token, or JSON with access_token and expires_in",
    )
