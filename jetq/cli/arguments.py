"""Words of a command line as the arguments of a task, guided by its annotations."""

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
"""Types whose JSON form is text, so that a word is taken as it stands: `--zip 01234` stays five characters."""

_ANY = (Any, inspect.Parameter.empty, object)


class Words(Struct):
    """What was given: by place, by name (None for a bare `--flag`), and as one JSON object."""

    positional: list[str]
    named: dict[str, str | None]
    document: dict[str, Any]


def read_words(words: Sequence[str], document: str | None) -> Words:
    """Sort `words` into positions and `--name value` pairs. Raises Failed for what is neither or stands twice."""
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
    """The JSON values of the call by parameter name. Raises ArgumentError for what has no parameter to go to."""
    given: dict[str, Any] = dict(words.document)
    by_place = _take_by_place(words, signature, parameters)
    for name, value in (*by_place.items(), *_take_by_name(words, signature, parameters).items()):
        if name in given:
            raise ArgumentError(f"{signature.call_text}: multiple values for argument {name!r}")
        given[name] = value
    return given


def without_signature(words: Words, task: str) -> dict[str, Any]:
    """The JSON values of a call of `task`, whose code is not here: each word as JSON if it is some, else as text."""
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
    """Raise Failed for `name=value`, which other commands take by name and this one would take as text."""
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
    """`text` as it stands where `kind` wants text, else the JSON in it, if there is any that suits."""
    kind = _bare(kind)
    if isinstance(kind, type) and issubclass(kind, _TEXTUAL):
        return text
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text
    # `str | None` takes null as None and 3 as text; where neither suits, the refusal should speak of the JSON value.
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
    except TypeError:  # a type that msgspec alone cannot judge
        return True
    return True
