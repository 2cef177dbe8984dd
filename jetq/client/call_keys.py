"""The keys of a call, made of the call's arguments as `@task(key=...)` and `@task(limit_per=...)` say."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from string import Formatter
from typing import Any

from jetq.encoding.signature import Signature
from jetq.errors import ArgumentError, DefinitionError
from jetq.model.redaction import is_secret, is_secret_name

__all__ = ["call_key", "check_template"]

KeyOption = str | Callable[..., str]


def check_template(key: KeyOption, signature: Signature, option: str = "key") -> None:
    """Raise DefinitionError if the text `key`, given as `option`, names something that is no parameter of the task, or
    names a secret: keys are part of subjects and ids, which everybody sees. A function as `key` is not checked."""
    if callable(key):
        return
    try:
        fields = [field for _, field, _, _ in Formatter().parse(key) if field is not None]
    except ValueError as error:
        raise DefinitionError(f"{option} {key!r} of {signature.name} is no template: {error}") from None
    for field in fields:
        name = field.partition(".")[0].partition("[")[0]
        if name not in signature.names:
            raise DefinitionError(
                f"{option} {key!r} names {name!r}, which is no parameter of {signature.call_text}",
                hint="write a brace that is meant as such twice: {{",
            )
        if is_secret(signature.annotations.get(name)) or any(map(is_secret_name, re.split(r"[.\[\]]", field))):
            raise DefinitionError(
                f"{option} {key!r} of {signature.name} names a secret, and keys are stored and shown as they are",
                hint="give it a function that returns a hash, or the name of another parameter",
            )


def call_key(key: KeyOption, signature: Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Return the key of one call. Raises ArgumentError if the arguments give no key."""
    try:
        made: object = key(*args, **kwargs) if callable(key) else key.format(**signature.values(args, kwargs))
    except Exception as error:
        given = {**dict(zip(signature.names, args, strict=False)), **kwargs}
        message = signature.redact(f"{type(error).__name__}: {error}", given)
        raise ArgumentError(f"{signature.name}: these arguments give no key: {message}") from None
    if not isinstance(made, str) or not made:
        shown = "an empty text" if made == "" else type(made).__name__
        raise ArgumentError(f"{signature.name}: a key is a text that is not empty, and these arguments give {shown}")
    return made
