"""Types of the application's own as arguments and results: how each becomes JSON, and comes back.

Models of pydantic are known without being registered.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import EnumMeta
from functools import cache
from typing import Any, NamedTuple, TypeVar, cast

from msgspec import Raw
from msgspec.inspect import CustomType, type_info
from msgspec.json import encode

from jetq.errors import DefinitionError

__all__ = ["Form", "form_of", "register_type"]

T = TypeVar("T")


class Form(NamedTuple):
    """The JSON form of a type: a function that makes JSON of a value, and a function that makes a value of JSON."""

    to_json: Callable[[Any], Any]
    from_json: Callable[[Any], Any]


_registered: dict[type[Any], Form] = {}


def register_type(kind: type[T], *, to_json: Callable[[T], Any], from_json: Callable[[Any], T]) -> None:
    """Let values of the class `kind` be arguments and results of tasks, also in lists, dicts and fields.

    to_json: takes a value and returns its JSON form: text, a number, a list or a dict, also with values inside that may
    be arguments themselves. from_json: takes what JSON gives back and returns a value; any exception that it raises
    refuses the value. Both functions run at the caller and at the worker, so register the type where both import it,
    before the first task that uses the type. A value of a subclass arrives as a `kind`. Registering a class again
    replaces its functions.

    Raises DefinitionError for what is no class, and for a type that jetq knows already.
    """
    if not isinstance(kind, type):
        raise DefinitionError(f"register_type takes a class, not {kind!r}")
    if not isinstance(type_info(kind), CustomType) or isinstance(kind, EnumMeta):
        raise DefinitionError(f"{kind.__name__} has a JSON form already", hint="register a class that has none")
    for name, function in (("to_json", to_json), ("from_json", from_json)):
        if not callable(function):
            raise DefinitionError(f"register_type({kind.__name__}): {name} takes a function, not {function!r}")
    _registered[kind] = Form(to_json, from_json)


def form_of(kind: type[Any]) -> Form | None:
    """Return the form of the class `kind`, registered for it or for a class that it is derived from; None if there is
    none."""
    for each in kind.__mro__:
        if each in _registered:
            return _registered[each]
    if hasattr(kind, "__pydantic_validator__") and hasattr(kind, "model_dump"):
        return _pydantic_form(cast("Any", kind))
    return None


@cache
def _pydantic_form(kind: Any) -> Form | None:
    from pydantic import (
        VERSION,
        BaseModel,
        ValidationError,
    )  # `kind` is a model of pydantic, so pydantic is imported already

    if kind is BaseModel:  # no value can be made of the base class
        return None
    # By the names of the fields, whatever aliases they have; for a model with aliases pydantic takes names since 2.11.
    by_name = tuple(map(int, VERSION.split(".")[:2])) >= (2, 11)
    taken: dict[str, bool] = {"by_alias": True, "by_name": True} if by_name else {}

    def dump(value: Any) -> Any:
        return Raw(value.model_dump_json(round_trip=True, by_alias=not by_name).encode())

    def validate(value: Any) -> Any:
        try:  # from JSON, in which a strict model takes text for a datetime
            return kind.model_validate_json(encode(value), **taken)
        except ValidationError as error:
            # pydantic's own text has the values in it, which may be secret.
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from None

    return Form(dump, validate)
