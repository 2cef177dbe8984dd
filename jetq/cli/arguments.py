"""Read the words of a command line as the arguments of a task, by the task's annotations."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from jetq.cli.exit import Failed
from jetq.encoding.signature import Signature
from jetq.errors import ArgumentError
from jetq.model.annotations import unexpected

__all__ = ["Words", "fit", "read_words", "without_signature"]

_TEXTUAL = (str, bytes, bytearray, Decimal, PurePath, UUID, date, time, timedelta)
"""Types whose JSON form is text. A word for such a parameter is taken unchanged: `--zip 01234` stays five
characters."""

_ANY = (Any, inspect.Parameter.empty, object)


class Words(Struct):
    """The arguments as the user gave them: by position, by name (None for a bare `--flag`), and as one JSON object."""

    positional: list[str]
    named: dict[str, str | None]
    document: dict[str, Any]


def read_words(words: Sequence[str], document: str | None) -> Words:
    """Sort `words` into positional words and `--name value` pairs, and read `document`, which is a JSON object.

    Raises Failed for a name that is given twice, and for a `document` that is no JSON object.
    """
    positional: list[str] = []
    named: dict[str, str | None] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or word == "--":
            positional.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        if name in named:
            raise Failed(f"--{name} is given twice")
        named[name] = value if equals else rest.pop(0) if rest and not rest[0].startswith("--") else None
    return Words(positional, named, _read_document(document))


def fit(words: Words, signature: Signature, parameters: Sequence[inspect.Parameter]) -> dict[str, Any]:
    """Return the arguments of the call as JSON values by parameter name.

    Raises ArgumentError for a word that belongs to no parameter, and for a parameter that is given twice.
    """
    given: dict[str, Any] = dict(words.document)
    by_place = _take_by_place(words, signature, parameters)
    for name, value in (*by_place.items(), *_take_by_name(words, signature, parameters).items()):
        if name in given:
            raise ArgumentError(f"{signature.call_text}: multiple values for argument {name!r}")
        given[name] = value
    return given


def without_signature(words: Words, task: str) -> dict[str, Any]:
    """Return the arguments of a call of `task`, whose code is not here: each word as JSON if it is JSON, else as text.

    Raises Failed for positional words, because only the code knows the parameters' names, and for a name that is given
    twice.
    """
    if words.positional:
        module = task.rpartition(".")[0]
        where = "run jetq where its module can be imported" if module else f"by its whole name, as tasks.{task}"
        raise Failed(
            f"the code of {task} is not here, so its arguments need their names",
            hint=f"--name value, or --json '{{\"name\": value}}', or {where}",
        )
    named = {name: True if text is None else _value(text, Any) for name, text in words.named.items()}
    if twice := named.keys() & words.document.keys():
        raise Failed(f"--{twice.pop()} stands in --json too")
    return {**words.document, **named}


def _read_document(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Failed(f"--json: not a JSON object by parameter name: {error}") from None


def _take_by_place(words: Words, signature: Signature, parameters: Sequence[inspect.Parameter]) -> dict[str, Any]:
    _refuse_equals(words.positional, signature)
    values: dict[str, Any] = {}
    names = signature.positional
    for name, text in zip(names, words.positional, strict=False):
        values[name] = _value(text, signature.parameter_type(name))
    if more := words.positional[len(names) :]:
        variadic = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
        if variadic is None:
            raise ArgumentError(
                f"{signature.call_text}: takes {len(names)} positional arguments, got {len(words.positional)}"
            )
        values[variadic] = [_value(text, signature.parameter_type(variadic)) for text in more]
    return values


def _refuse_equals(positional: Sequence[str], signature: Signature) -> None:
    """Raise Failed for a word like `name=value`. Other commands take such a word by name; this command would take it as
    text."""
    for word in positional:
        name, equals, _ = word.partition("=")
        if equals and name in signature.names:
            raise Failed(
                f"{signature.call_text}: an argument by name is --{name} VALUE, and not {name}=VALUE",
                hint=f"a text that begins with '{name}=' goes by name too: --{name}={name}=...",
            )


def _take_by_name(words: Words, signature: Signature, parameters: Sequence[inspect.Parameter]) -> dict[str, Any]:
    own = {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    catch_all = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
    values: dict[str, Any] = {}
    for name, text in words.named.items():
        if name in own:
            values[name] = _named_value(name, text, signature.parameter_type(name))
        elif catch_all is not None:
            extra = values.setdefault(catch_all, {})
            extra[name] = _named_value(name, text, signature.parameter_type(catch_all))
        else:
            raise ArgumentError(f"{signature.call_text}: {unexpected(name, own - values.keys())}")
    return values


def _named_value(name: str, text: str | None, kind: Any) -> Any:
    if text is not None:
        return _value(text, kind)
    if kind is bool or kind in _ANY:
        return True
    raise Failed(f"--{name} needs a value")


def _value(text: str, kind: Any) -> Any:
    """Return `text` unchanged if `kind` wants text. Else return the JSON value in `text`, if it suits `kind`."""
    kind = _bare(kind)
    if isinstance(kind, type) and issubclass(kind, _TEXTUAL):
        return text
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text
    # `str | None` takes null as None and 3 as text. If neither suits, the error should be about the JSON value.
    return text if not _suits(value, kind) and _suits(text, kind) else value


def _bare(kind: Any) -> Any:
    while True:
        if typing.get_origin(kind) is typing.Annotated:
            kind = typing.get_args(kind)[0]
        elif isinstance(kind, typing.NewType):
            kind = kind.__supertype__
        else:
            return kind


def _suits(value: Any, kind: Any) -> bool:
    if kind in _ANY:
        return True
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return any(_suits(value, _bare(each)) for each in typing.get_args(kind))
    if isinstance(kind, type) and issubclass(kind, PurePath):
        return isinstance(value, str)
    try:
        msgspec.convert(value, kind, str_keys=True, builtin_types=())
    except (msgspec.ValidationError, ValueError):
        return False
    except TypeError:  # msgspec alone cannot check this type
        return True
    return True
