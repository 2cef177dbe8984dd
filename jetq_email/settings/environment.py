"""Reads the settings from the environment: variables named `JETQ_EMAIL_*`, whose values are texts."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from jetq import SettingsError
from jetq_email.providers import PROVIDERS
from jetq_email.secret import Secret
from jetq_email.settings.checks import check
from jetq_email.settings.fields import PREFIX, Settings
from jetq_email.settings.webhook_secrets import WebhookSecrets

__all__ = ["current", "parse"]

_MISSING = re.compile(r"Object missing required field `(\w+)`")


def current() -> Settings:
    """Return the settings in this process's environment, as it is now. Raises SettingsError."""
    return _parse_once(tuple(item for item in os.environ.items() if item[0].startswith(PREFIX)))


@lru_cache(maxsize=8)
def _parse_once(variables: tuple[tuple[str, str], ...]) -> Settings:
    return parse(dict(variables))


def parse(environ: Mapping[str, str]) -> Settings:
    """Return the settings in `environ`. Variables without the prefix are ignored, and empty variables count as not set.

    Raises SettingsError for an unknown name, with a suggestion, and for an impossible value or combination.
    """
    values = _values(environ)
    try:
        settings = msgspec.convert(values, Settings, strict=False, dec_hook=_convert)
    except msgspec.ValidationError as error:
        raise SettingsError(_explain(error)) from None
    check(settings)
    return settings


def _values(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the values that are set, by field. Each provider and the webhooks have a dict of their own fields."""
    given = [(*_section_and_field(name), text) for name, text in environ.items() if name.startswith(PREFIX) and text]
    values: dict[str, Any] = {}
    for section, field, text in given:
        part = values.setdefault(section, {}) if section else values
        part[field] = _LISTS[field](text) if field in _LISTS else text
    return values


# --- which field


def _section_and_field(variable: str) -> tuple[str | None, str]:
    """Return the section and the field that `variable` sets. The section is a provider, `webhooks`, or None for
    `Settings`.

    Raises SettingsError if there is no such field.
    """
    name = variable.removeprefix(PREFIX).lower()
    is_upper = variable == variable.upper()
    if name in WebhookSecrets.__struct_fields__ and is_upper:
        return "webhooks", name
    section = next((each for each in PROVIDERS if name.startswith(f"{each}_")), None)
    if section is not None:
        name = name.removeprefix(f"{section}_")
    if name in _fields(section) and is_upper:
        return section, name
    raise _unknown(variable, section, name)


def _fields(section: str | None) -> list[str]:
    """Return the fields of the provider `section`. For `Settings` (None) return the fields that are set by one variable
    each."""
    if section is not None:
        return list(PROVIDERS[section].__struct_fields__)
    return [each for each in Settings.__struct_fields__ if each not in PROVIDERS and each != "webhooks"]


def _unknown(variable: str, section: str | None, name: str) -> SettingsError:
    """Return the error for an unknown `variable`. It suggests the nearest existing variable, or names all."""
    known = _fields(section)
    beginning = "" if section is None else f"{section}_"
    of_webhooks = [
        each.removeprefix(beginning) for each in WebhookSecrets.__struct_fields__ if each.startswith(beginning)
    ]
    near = difflib.get_close_matches(name, [*known, *of_webhooks], n=1, cutoff=0.5)
    if near:
        hint = f"did you mean {PREFIX}{beginning.upper()}{near[0].upper()}?"
    else:
        hint = f"known: {', '.join(each.upper() for each in known)}"
    return SettingsError(f"{variable} is not a setting of jetq_email", hint=hint)


# --- which value


def _split_at_commas(text: str) -> list[str]:
    return [each.strip() for each in text.split(",")]


def _hosts(text: str) -> list[str]:
    return [host.lower() for host in _split_at_commas(text)]


def _words(text: str) -> list[str]:
    return re.split(r"[\s,]+", text.strip())


def _arns(text: str) -> list[str]:
    return [arn for arn in _words(text) if arn]


def _routes(text: str) -> list[tuple[str, float]]:
    return [_route(each) for each in _split_at_commas(text)]


def _route(text: str) -> tuple[str, float]:
    """Return a route's name, and its weight, which follows a colon; without a colon the weight is 1. Raises
    SettingsError."""
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


_LISTS: Mapping[str, Callable[[str], Sequence[Any]]] = {
    "attachment_hosts": _hosts,
    "routes": _routes,
    "secret": _split_at_commas,
    "ses_webhook_topics": _arns,
    "topics": _words,
}
"""Functions that split the text of a field with several values. No provider has a field with one of these names."""


def _convert(kind: type, value: Any) -> Any:
    if kind is Secret or kind is Path:
        return kind(value)
    raise NotImplementedError(kind)


def _explain(error: msgspec.ValidationError) -> str:
    """Return the text of `error`, with the variable in place of the field. The text never holds the value."""
    problem, _, place = str(error).rpartition(" - at `$.")  # msgspec ends with the place, `... - at `$.port``
    if not problem:
        return str(error)
    section = place.rstrip("`").upper().replace(".", "_")
    missing = _MISSING.fullmatch(problem)
    return f"{PREFIX}{section}_{missing[1].upper()} is missing" if missing else f"{PREFIX}{section}: {problem}"
