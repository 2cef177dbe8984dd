"""Values as msgspec takes them: a plain value for a value of a subclass, and an Enum's value for its member.

The given value stays as it was: the parts that change are made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import Any, TypeVar

from msgspec import inspect

__all__ = ["BASES", "fitted", "stands_for"]


T = TypeVar("T")


def _plain_datetime(kind: type[datetime], value: datetime) -> datetime:
    at = (value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond)
    return _same(value, kind(*at, tzinfo=value.tzinfo, fold=value.fold))


def _plain_date(kind: type[date], value: date) -> date:
    return kind(value.year, value.month, value.day)


def _plain_time(value: time) -> time:
    return time(value.hour, value.minute, value.second, value.microsecond, value.tzinfo, fold=value.fold)


def _plain_timedelta(value: timedelta) -> timedelta:
    return _same(value, timedelta.__add__(value, timedelta()))


def _same(value: Any, made: T) -> T:
    if made == value:
        return made
    raise ValueError(f"{type(value).__name__} holds more than {type(made).__name__} can, as nanoseconds")


BASES: dict[type[Any], Callable[[Any], Any]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    datetime: partial(_plain_datetime, datetime),  # before date, because datetime is a subclass of date
    date: partial(_plain_date, date),
    time: _plain_time,
    timedelta: _plain_timedelta,
    Decimal: Decimal,
    bytes: bytes,
}
"""How a value of a subclass becomes a value of its base. The bases are kept in tables because a library that freezes
the time puts its own classes under the names of a module."""

_APART: dict[type[Any], type[Any]] = {int: bool, date: datetime}
"""Subclasses whose values are not taken for values of their base."""

_BASE_OF: dict[type[inspect.Type], type[Any]] = {
    inspect.StrType: str,
    inspect.IntType: int,
    inspect.FloatType: float,
    inspect.DateTimeType: datetime,
    inspect.DateType: date,
    inspect.TimeType: time,
    inspect.TimeDeltaType: timedelta,
    inspect.DecimalType: Decimal,
}


_FREEZABLE = ((datetime, datetime(2000, 1, 1)), (date, date(2000, 1, 1)))
"""The classes that a library that freezes the time replaces by its own, each with a value."""


def stands_for(kind: Any) -> type[Any] | None:
    """Return datetime or date if the class `kind` is that class, or a class that a library that freezes the time has
    put in its place: plain values pass as values of `kind`. Return None for any other class.

    While such a library is at work, msgspec takes its class, and even the real one, for a type of the application's
    own.
    """
    if isinstance(kind, type):
        for base, value in _FREEZABLE:
            if issubclass(kind, base) and isinstance(value, kind):
                return base
    return None


def fitted(value: Any, info: inspect.Type) -> Any:
    """Return `value` of the type `info`, as msgspec takes it. A value that is not of that type stays, for msgspec to
    refuse.

    Raises ValueError for a datetime or timedelta of a subclass that holds more than its base can.
    """
    base = stands_for(info.cls) if isinstance(info, inspect.CustomType) else _BASE_OF.get(type(info))
    if base is not None:
        return BASES[base](value) if _is_of_subclass(value, base) else value
    match info:
        case inspect.EnumType() | inspect.CustomType():  # the second for an Enum with a metaclass of its own
            return value.value if isinstance(value, Enum) and type(value) is info.cls else value
        case inspect.UnionType():
            return _fitted_to_one(value, info.types)
        case inspect.DictType() if isinstance(value, dict):
            made = {fitted(key, info.key_type): fitted(each, info.value_type) for key, each in value.items()}
            return made if len(made) == len(value) else value
        case inspect.TupleType() if _is_array(value) and len(value) == len(info.item_types):
            return [fitted(each, kind) for each, kind in zip(value, info.item_types, strict=True)]
        case inspect.ListType() | inspect.VarTupleType() | inspect.SetType() | inspect.FrozenSetType() if _is_array(
            value
        ):
            return [fitted(each, info.item_type) for each in value]
        case inspect.NamedTupleType() if type(value) in (list, tuple):
            kinds = [field.type for field in info.fields]
            return [fitted(each, kind) for each, kind in zip(value, kinds, strict=False)] + list(value[len(kinds) :])
        case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType() if isinstance(value, Mapping):
            types = {field.encode_name: field.type for field in info.fields}
            return {name: fitted(each, types[name]) if name in types else each for name, each in value.items()}
        case _:
            return value


def _fitted_to_one(value: Any, types: tuple[inspect.Type, ...]) -> Any:
    for each in types:
        made = fitted(value, each)
        if made is not value:
            return made
    return value


def _is_array(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset)


def _is_of_subclass(value: Any, base: type[Any]) -> bool:
    """Return whether the class of `value` is derived from `base`, and its values may be taken for values of `base`."""
    return type(value) is not base and isinstance(value, base) and not isinstance(value, _APART.get(base, ()))
