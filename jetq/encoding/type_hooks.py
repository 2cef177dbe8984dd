"""Hooks for types that msgspec does not know: enums that msgspec refuses, paths and addresses, subclasses of known
types, unions with a workflow's Failure.

An Enum crosses as the JSON of its member's value, and a value whose class is a subclass of datetime, date, time,
timedelta, Decimal, float, int, str or bytes crosses as a value of that class.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, EnumMeta
from functools import cache, partial
from pathlib import PurePath
from typing import Annotated, Any, cast
from uuid import UUID

import msgspec
from msgspec import Struct, ValidationError
from msgspec.inspect import Type, type_info

from jetq.encoding.plain_values import BASES, fitted, stands_for
from jetq.encoding.registered_types import form_of
from jetq.encoding.signature_text import explained, shown_type

__all__ = [
    "Unencodable",
    "checker",
    "encode",
    "from_json",
    "is_key",
    "is_known",
    "known",
    "other_than_failure",
    "to_json",
    "type_name",
]

_NATIVE = (datetime, date, time, timedelta, UUID, Decimal, bytes, bytearray, memoryview)
"""Types that a Python value must have already; without this list msgspec would also make them from text."""


_BY_TEXT = frozenset(
    f"ipaddress.IPv{version}{each}" for version in (4, 6) for each in ("Address", "Interface", "Network")
) | {"fractions.Fraction"}
"""Names of classes made from the text that `str` gives, beside the paths. The classes are not imported here, because
that takes time."""


class Unencodable(TypeError):
    """A value that has no JSON form. The text is the name of its type."""


def to_json(value: Any) -> Any:
    """Return the JSON form of a value that msgspec alone cannot encode. Raises Unencodable."""
    if isinstance(value, Enum):
        return value.value
    form = form_of(type(value))
    if form is not None:
        return form.to_json(value)
    for base, plain in BASES.items():
        if isinstance(value, base):
            return plain(value)
    if _is_by_text(type(value)):
        return str(value)
    raise Unencodable(type_name(type(value)))


encode = msgspec.json.Encoder(enc_hook=to_json).encode
"""The JSON of any value that has one."""


def from_json(kind: type[Any], value: Any) -> Any:
    """Return a value of `kind`, which msgspec alone cannot decode, from its JSON form. Raises ValueError; msgspec adds
    the place."""
    if kind is object:
        return value
    enum = _enum_of(kind)
    if enum is not None:
        return _member(enum, value)
    if isinstance(kind, _OrFailure):
        return kind.decode(value)
    form = form_of(kind)
    if form is not None:
        return form.from_json(value)
    plain = stands_for(kind)
    if plain is not None:
        return msgspec.convert(value, plain)
    if not isinstance(value, str):
        raise ValueError(f"Expected `{kind.__name__}`, got `{type(value).__name__}`")
    return kind(value)


def checker(kind: type[Struct], fields: Mapping[str, Type]) -> Callable[[Mapping[str, Any]], Any]:
    """Return a function that makes a `kind`, which has `fields`, of Python values. Each value must have its annotated
    type already.

    The function raises msgspec.ValidationError.
    """

    def check(values: Mapping[str, Any]) -> Any:
        try:
            return _convert(values, kind)
        except ValidationError:  # also for a member of an int Enum, or a value of a subclass, which are right
            made = {name: fitted(value, fields[name]) for name, value in values.items()}
        return _convert(made, kind)

    return check


def _given(kind: type[Any], value: Any) -> Any:
    return kind.check(value) if isinstance(kind, _OrFailure) else value  # and msgspec refuses what is no `kind`


_convert = partial(msgspec.convert, strict=True, builtin_types=_NATIVE, dec_hook=_given)


def is_known(kind: type[Any]) -> bool:
    """Return whether `to_json` and `from_json` know the class `kind`. Raises TypeError for an Enum that cannot
    cross."""
    enum = _enum_of(kind)
    if enum is not None:
        _members(enum)
        return True
    if isinstance(kind, _OrFailure):
        return True
    return kind is object or _is_by_text(kind) or form_of(kind) is not None


def _is_by_text(kind: type[Any]) -> bool:
    return issubclass(kind, PurePath) or type_name(kind) in _BY_TEXT


def is_key(kind: type[Any]) -> bool:
    """Return whether values of the class `kind`, which the hooks know, may be the keys of an object."""
    enum = _enum_of(kind)
    if enum is None:
        return form_of(kind) is None and not isinstance(kind, _OrFailure)
    return not any(text[:1] in (b"[", b"{", b"t", b"f") for text in _members(enum))


# --- enums


class _StandIn(type):
    """The class of the classes that replace, in annotations, an Enum which msgspec refuses. The Enum's members are
    instances of such a class."""

    enum: type[Enum]

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, cls.enum)


def known(kind: Any) -> Any:
    """Return the annotation `kind` with a stand-in for each Enum and each union with Failure that msgspec refuses, list
    for Iterable, and datetime and date for the classes that a library that freezes the time has put in their place.

    msgspec refuses an Enum whose values are neither all str nor all int of 64 bits. The fields of classes stay as they
    are. Raises TypeError for an Enum that cannot cross.
    """
    enum = _enum_of(kind)
    if enum is not None:
        return _stand_in(enum) if _is_refused(enum) else kind
    plain = stands_for(kind)
    if plain is not None:
        return plain
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal or not inner:
        return kind
    if origin is Annotated:
        first = known(inner[0])
        return kind if first is inner[0] else Annotated[first, *inner[1:]]
    replaced = tuple(known(each) for each in inner)
    if origin is Iterable or any(new is not old for new, old in zip(replaced, inner, strict=True)):
        instead: dict[Any, Any] = {Iterable: list, types.UnionType: typing.Union}
        kind = instead.get(origin, origin)[replaced]
    return _or_failure(replaced) or kind if origin in (types.UnionType, typing.Union) else kind


def _is_refused(enum: type[Enum]) -> bool:
    values = [member.value for member in enum]
    if not values or all(type(value) is str for value in values):
        return False
    return not all(type(value) is int and -(2**63) <= value < 2**63 for value in values)


@cache
def _stand_in(enum: type[Enum]) -> type[Any]:
    _members(enum)
    return _StandIn(enum.__name__, (), {"enum": enum, "__module__": enum.__module__, "__qualname__": enum.__qualname__})


def _enum_of(kind: Any) -> type[Enum] | None:
    """Return the Enum that `kind` is, or is the stand-in for; None for anything else."""
    enum: Any = kind.enum if isinstance(kind, _StandIn) else kind
    return cast("type[Enum]", enum) if isinstance(enum, EnumMeta) else None


def _member(enum: type[Enum], value: Any) -> Any:
    """Return the member of `enum` whose value has the JSON form `value`, which is text for the key of an object."""
    members = _members(enum)
    found = members.get(msgspec.json.encode(value))
    if found is None and isinstance(value, str):
        found = members.get(value.encode("utf-8", "surrogatepass"))
    if found is not None:
        return found
    try:
        return enum(value)  # a combination of flags, or what its `_missing_` takes
    except Exception:
        raise ValueError("Not one of the allowed values") from None


@cache
def _members(enum: type[Enum]) -> dict[bytes, Enum]:
    """Return the members of `enum` by the JSON of their values. Raises TypeError for an Enum that cannot cross."""
    members: dict[bytes, Enum] = {}
    for member in enum:
        try:
            text = encode(member.value)
        except Exception:
            text = b"null"
        if text == b"null":
            raise TypeError(f"the value of {type_name(enum)}.{member.name} has no JSON form of its own")
        if text in members:
            raise TypeError(f"{type_name(enum)}.{members[text].name} and .{member.name} have the same JSON form")
        members[text] = member
    return members


# --- unions with Failure


_FAILURE = "jetq.model.workflows.failure.Failure"
"""The name of the class, which is not imported here because that takes time."""


class _OrFailure(type):
    """The class of the classes that replace, in annotations, a union of Failure and types that msgspec does not tell
    apart from it. The JSON of a Failure has a tag."""

    others: Any
    """The union without Failure."""
    check: Callable[[Any], Any]
    """Returns a value as the union takes it. Raises ValueError."""
    decode: Callable[[Any], Any]
    """Makes a value of its JSON form. Raises ValueError."""

    def __instancecheck__(cls, value: Any) -> bool:
        return True  # `check` or `decode` has made the value


def other_than_failure(kind: Any) -> Any | None:
    """Return the annotation of the values that are no Failure if `kind` is the stand-in for a union with Failure; None
    for anything else."""
    return kind.others if isinstance(kind, _OrFailure) else None


def _or_failure(kinds: tuple[Any, ...]) -> Any | None:
    """Return the stand-in for the union of `kinds` if Failure is one and msgspec refuses the union; None else. Raises
    TypeError if msgspec refuses the union of the others."""
    failure = next((each for each in kinds if type_name(each) == _FAILURE), None)
    if failure is None or _is_taken(kinds):
        return None
    others: Any = typing.Union[tuple(each for each in kinds if each is not failure)]  # noqa: UP007
    info = type_info(others)
    decode_other = msgspec.json.Decoder(others, dec_hook=from_json).decode
    tag = {failure.__struct_config__.tag_field: failure.__struct_config__.tag}

    def is_tagged(value: Any) -> bool:
        return isinstance(value, dict) and tag.items() <= value.items()

    def check(value: Any) -> Any:
        if isinstance(value, failure):
            return value
        if is_tagged(value):
            raise ValueError("a dict with the tag of a Failure would arrive as a Failure")
        try:
            return _convert(value, others)
        except ValidationError:
            return _convert(fitted(value, info), others)

    def decode(value: Any) -> Any:
        return msgspec.convert(value, failure) if is_tagged(value) else decode_other(encode(value))

    name = f"{shown_type(others)} | Failure"
    return _OrFailure(name, (), {"others": others, "check": _told(check), "decode": _told(decode)})


def _is_taken(kinds: tuple[Any, ...]) -> bool:
    try:
        type_info(typing.Union[kinds])  # noqa: UP007 (a tuple)
    except TypeError:
        return False
    return True


def _told(function: Callable[[Any], Any]) -> staticmethod[[Any], Any]:
    """Return `function` as a method of a class, with the place of a fault at the beginning of the sentence, because
    msgspec adds the place of the whole at the end."""

    def told(value: Any) -> Any:
        try:
            return function(value)
        except ValidationError as error:
            raise ValueError(explained(error)) from None

    return staticmethod(told)


def type_name(kind: Any) -> str:
    """Return a type as error messages name it: `set`, `_thread.lock`, `shop.models.Order`."""
    module = getattr(kind, "__module__", "builtins")
    name = getattr(kind, "__qualname__", str(kind))
    return name if module == "builtins" else f"{module}.{name}"
