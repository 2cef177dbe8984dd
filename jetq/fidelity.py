"""What JSON gives back as it was, and what it would change on the way. Types first, then values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct, ValidationError
from msgspec.inspect import AnyType, CustomType, FloatType, NoneType, Type, TypedDictType, UnionType

__all__ = [
    "NO_JSON_FORM",
    "Unencodable",
    "checked",
    "difference",
    "dropped_key",
    "drops_keys",
    "foreign_type",
    "from_json",
    "is_vague",
    "to_json",
    "type_name",
]

DEEPEST = 200
"""Levels of nesting let through where a type sets no bound. The worker decodes from a deeper stack than the caller."""

NO_JSON_FORM = "has no JSON form"

_NATIVE = (datetime, date, time, timedelta, UUID, Decimal, bytes, bytearray, memoryview)
"""Types a Python value must have already; unless told so, msgspec would also make them from text."""

_EXACT = frozenset({type(None), bool, int, str, bytes, datetime, date, time, timedelta, UUID, Decimal})


class Unencodable(TypeError):
    """A value that has no JSON form. The text is the name of its type."""


def to_json(value: Any) -> Any:
    """The JSON form of what msgspec alone cannot encode: a path, or a str of a class of its own. Raises Unencodable."""
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, str):
        return str.__str__(value)
    raise Unencodable(type_name(type(value)))


def from_json(kind: type[Any], value: Any) -> Any:
    """A `kind` that msgspec alone cannot decode, from its JSON form."""
    if kind is object:
        return value
    if not isinstance(value, str):
        raise ValidationError(f"Expected `{kind.__name__}`, got `{type(value).__name__}`")
    return kind(value)


def checked(values: Mapping[str, Any], kind: type[Any]) -> Any:
    """Python `values` as a `kind`, each of its annotated type already. Raises msgspec.ValidationError."""
    return msgspec.convert(values, kind, strict=True, builtin_types=_NATIVE, dec_hook=_as_it_is)


def _as_it_is(kind: type[Any], value: Any) -> Any:
    return value  # and msgspec refuses what is no `kind`


# --- types


def foreign_type(info: Type) -> str | None:
    """The name of a type within `info` that has no JSON form."""
    for node in _nodes(info):
        if isinstance(node, CustomType) and node.cls is not object and not issubclass(node.cls, PurePath):
            return type_name(node.cls)
    return None


def is_vague(info: Type) -> bool:
    """Whether the type alone does not settle what comes back.

    It says nothing of some value (Any), takes None where a NaN would have become null, or nests without bound.
    """
    for node in _nodes(info):
        if node is None or isinstance(node, AnyType) or (isinstance(node, CustomType) and node.cls is object):
            return True
        if isinstance(node, UnionType) and {FloatType, NoneType} <= {type(each) for each in node.types}:
            return True
    return False


def drops_keys(info: Type) -> bool:
    """Whether decoding passes over keys that the type does not name, as a TypedDict does."""
    return any(isinstance(node, TypedDictType) for node in _nodes(info))


def _nodes(info: Type) -> Iterator[Type | None]:
    """`info` and the types in it, each once; None for one that contains itself."""
    return _walk(info, set(), set())


def _walk(info: Any, around: set[int], done: set[int]) -> Iterator[Type | None]:
    if isinstance(info, tuple):
        for each in info:
            yield from _walk(each, around, done)
    elif id(info) in around:
        yield None
    elif isinstance(info, Struct) and id(info) not in done:  # a type, or a field of one
        if isinstance(info, Type):
            yield info
        around.add(id(info))
        for name in info.__struct_fields__:
            if name not in ("cls", "default", "default_factory"):
                yield from _walk(getattr(info, name), around, done)
        around.discard(id(info))
        done.add(id(info))


# --- values


def difference(sent: Any, received: Any) -> tuple[str, str] | None:
    """The place within `sent` at which it came back as something else, and a sentence; None if it did not."""
    try:
        return _difference(sent, received, 0)
    except RecursionError:
        return "", "is nested too deeply, or contains itself"


def dropped_key(given: Any, kept: Any) -> str | None:
    """The place of a dict's key in `given` that is not in `kept`, made of it; None if all are there."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key in given:
            if key not in kept:
                return f"[{key!r}]"
    elif not (isinstance(given, list | tuple) and isinstance(kept, list | tuple)):
        return None
    for place, part in _parts(kept):
        found = dropped_key(_part(given, place), part)
        if found is not None:
            return f"{_step(kept, place)}{found}"
    return None


def _difference(sent: Any, received: Any, depth: int) -> tuple[str, str] | None:
    kind = type(sent)
    if sent is received or (kind in _EXACT and kind is type(received) and sent == received):
        return None
    if depth > DEEPEST:
        return "", f"is nested more than {DEEPEST} levels deep"
    if isinstance(sent, float) and not math.isfinite(sent):
        return "", f"{sent} {NO_JSON_FORM}"
    if kind is not type(received):
        return "", f"{type_name(kind)} is no JSON value, it would arrive as {type_name(type(received))}"
    if isinstance(sent, dict):
        for key in sent:
            if key not in received:
                return "", f"its key of type {type_name(type(key))} would arrive as text"
    for place, part in _parts(sent):
        found = _difference(part, _part(received, place), depth + 1)
        if found is not None:
            return f"{_step(sent, place)}{found[0]}", found[1]
    return None


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    """The values within `value`, each with its index, key or attribute name."""
    if isinstance(value, list | tuple):
        yield from enumerate(value)
    elif isinstance(value, dict):
        yield from value.items()
    elif not isinstance(value, type):
        for name in _fields(value):
            yield name, getattr(value, name)


def _part(value: Any, place: Any) -> Any:
    return value[place] if isinstance(value, list | tuple | dict) else getattr(value, place)


def _fields(value: Any) -> tuple[str, ...]:
    if isinstance(value, Struct):
        return value.__struct_fields__
    if dataclasses.is_dataclass(value):
        return tuple(field.name for field in dataclasses.fields(value))
    return tuple(field.name for field in getattr(type(value), "__attrs_attrs__", ()))


def _step(value: Any, place: Any) -> str:
    return f"[{place!r}]" if isinstance(value, list | tuple | dict) else f".{place}"


def type_name(kind: Any) -> str:
    """A type as error messages name it: `set`, `_thread.lock`, `shop.models.Order`."""
    module = getattr(kind, "__module__", "builtins")
    name = getattr(kind, "__qualname__", str(kind))
    return name if module == "builtins" else f"{module}.{name}"
