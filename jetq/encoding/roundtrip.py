"""What JSON gives back unchanged, and what JSON would change on the way. Types first, then values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from copy import copy
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Struct, inspect
from msgspec.inspect import AnyType, CustomType, FloatType, NoneType, Type, TypedDictType, UnionType
from msgspec.structs import force_setattr

from jetq.encoding import json_text
from jetq.encoding.plain_values import stands_for
from jetq.encoding.registered_types import form_of
from jetq.encoding.type_hooks import Unencodable, encode, is_key, is_known, other_than_failure, type_name

__all__ = [
    "NO_JSON_FORM",
    "Doubt",
    "Types",
    "advice",
    "doubts",
    "exposed",
    "hides_fields",
    "is_untyped",
    "no_json",
    "round_trip_difference",
    "types_in",
    "without_json",
]

DEEPEST = 200
"""Levels of nesting let through where a type sets no bound. The worker decodes from a deeper stack than the caller."""

NO_JSON_FORM = "has no JSON form"

_LOST_SECONDS = "has a UTC offset with seconds, which would be lost"
_LOST_ZONE = "has a time zone without an offset, which would be lost"
_NAIVE = "has no time zone, and would mean another time on another machine"
_OTHER_KEY = "has a key that would arrive as another"
_REMADE = "would arrive changed: its class changes at the worker what was set already"

_OTHER_FORM = "does not come back from its JSON form as it was"

_TELL_APART = "annotate one type: JSON does not tell these apart. Structs may be in a union if each has a `tag`"
_ROOT = "class Either(RootModel[A | B])"
_EITHER = f"annotate one type: JSON does not tell these apart. Of models of pydantic make one: {_ROOT}"
_DICT = "annotate dict[...], as which it is taken and arrives"
_LIST = "annotate list[...], and pass list(value)"
_ANNOTATE = "annotate the parameter with its type, or pass JSON values: None, bool, int, float, str, list, dict"

_ADVICE = {
    _LOST_SECONDS: "pass it in UTC: value.astimezone(timezone.utc)",
    _LOST_ZONE: "pass the name of the zone as an argument of its own, or a datetime",
    _NAIVE: "pass an aware one, as datetime.now(UTC), in JSON 2026-01-31T12:00:00Z;"
    " Annotated[datetime, msgspec.Meta(tz=False)] takes those without",
    _OTHER_KEY: "annotate keys of one type, as in dict[str, ...] or dict[int, ...]",
    _OTHER_FORM: "what its JSON form leaves out, as an excluded or secret field, goes as an argument of its own",
    _REMADE: "let its __post_init__ or converter leave alone what it has made, or pass what the object is made of",
    "would arrive": _ANNOTATE,
    "a dict with keys of type ": "use keys of type str, int, float, datetime, UUID or Enum, or a list of pairs",
    "Enums must ": "give its members values that are all str or all int; only a parameter's own Enum may have others",
    "Type unions may not contain more than one custom type": _EITHER,
    "Type unions containing a custom type": _EITHER,
    "Type unions ": _TELL_APART,
    "If a type union contains ": _TELL_APART,
    "`InitVar` fields": "make it a field, or pass what the object is made of",
    "'ForwardRef(": "annotate Any where it names itself: that takes every JSON value",
    "pydantic.main.BaseModel ": f"annotate the model that is passed; of several make one: {_ROOT}",
    "pydantic.": "annotate the type its values have: str for EmailStr, datetime for AwareDatetime; what is a class of "
    "its own, as HttpUrl, is told to jetq by register_type",
    "collections.deque ": _LIST,
    "collections.abc.Itera": _LIST,
    "collections.abc.Generator ": _LIST,
    "collections.OrderedDict ": _DICT,
    "collections.Counter ": _DICT,
    "collections.defaultdict ": _DICT,
}

Types = tuple[Type, *tuple[Type | None, ...]]
"""The result of `types_in`: a type and all types within it, None for a type that contains itself."""

Doubt = Callable[[Any, Any, Any], tuple[str, str] | None]
"""Compares a value as given, as kept after its check and as it will be received. Gives the place of a change and a
sentence, or None if nothing changes."""

_DECLARED = frozenset({datetime, date, time, timedelta, Decimal})
"""Types that come out of JSON only where an annotation says so."""

_STANDARD: dict[type[Any], Type] = {datetime: inspect.DateTimeType(), date: inspect.DateType()}

_NO_KEYS = (
    inspect.TupleType | inspect.VarTupleType | inspect.ListType | inspect.SetType | inspect.FrozenSetType
    | inspect.DictType | inspect.StructType | inspect.DataclassType | inspect.NamedTupleType | inspect.TypedDictType
    | inspect.BoolType | inspect.NoneType
)  # fmt: skip
"""Types that the keys of an object in JSON cannot have, because these keys are text."""

_EXACT = frozenset({type(None), bool, int, str, bytes, datetime, date, time, timedelta, UUID, Decimal})


def advice(sentence: str) -> str | None:
    """Return what to do about a value or a type that was refused with `sentence`; None if there is no advice."""
    return next((hint for words, hint in _ADVICE.items() if words in sentence), None)


# --- types


def without_json(nodes: Types) -> str | None:
    """Return a sentence about a type of `nodes` that has no JSON form; None if all have one. Raises TypeError for an
    Enum that cannot cross."""
    for node in nodes:
        if isinstance(node, CustomType) and not is_known(node.cls):
            return f"{type_name(node.cls)} {NO_JSON_FORM}"
        if isinstance(node, inspect.ExtType):
            return f"msgspec.msgpack.Ext {NO_JSON_FORM}"
        key = _impossible_key(node.key_type) if isinstance(node, inspect.DictType) else None
        if key is not None:
            return f"a dict with keys of type {key} {NO_JSON_FORM}"
    return None


def _impossible_key(key: Type) -> str | None:
    """Return the name of the type `key`, such as `tuple`, if no key in JSON can have that type; else None."""
    kinds = key.types if isinstance(key, UnionType) else (key,)
    if all(isinstance(each, _NO_KEYS) for each in kinds):
        return type(kinds[0]).__name__.removesuffix("Type").removeprefix("Var").lower()
    return type_name(key.cls) if isinstance(key, CustomType) and is_known(key.cls) and not is_key(key.cls) else None


def doubts(nodes: Types, *, result: bool = False) -> tuple[Doubt, ...]:
    """Return how to compare values of a type with `nodes` in it: an empty tuple if the type alone settles what comes
    back.

    result: what a function returns without annotation may change if nothing gets lost, and so may a TypedDict.
    """
    found: list[Doubt] = []
    if not result and is_untyped(nodes):
        found.append(lambda given, kept, received: round_trip_difference(kept, received))
    if result and any(isinstance(node, AnyType) for node in nodes):
        found.append(lambda given, kept, received: _merged(kept, received))
    if not result and any(isinstance(node, TypedDictType) for node in nodes):
        found.append(lambda given, kept, received: _unknown_key(given, kept))
    if not result and any(isinstance(node, inspect.DateTimeType) and node.tz is None for node in nodes):
        found.append(lambda given, kept, received: naive(kept))
    if any(map(_is_remade, nodes)):
        found.append(lambda given, kept, received: changed(kept, received))
    elif any(isinstance(node, inspect.DateTimeType) for node in nodes):
        found.append(lambda given, kept, received: None if _is_equal(kept, received) else changed(kept, received))
    return tuple(found)


def hides_fields(nodes: Types) -> bool:
    """Return whether msgspec passes over fields of a class in `nodes`: fields of attrs classes that begin with an
    underscore."""
    return any(
        isinstance(node, inspect.DataclassType)
        and hasattr(node.cls, "__attrs_attrs__")
        and any(field.name.startswith("_") for field in node.fields)
        for node in nodes
    )


def _is_remade(node: Type | None) -> bool:
    """Return whether a value of `node` may equal what came back and differ all the same, or differ because of what its
    class does."""
    if isinstance(node, inspect.StructType | inspect.DataclassType):
        kind = getattr(node.cls, "__origin__", node.cls)
        return any(hasattr(kind, name) for name in ("__post_init__", "__attrs_attrs__"))
    if isinstance(node, inspect.DictType):
        return isinstance(node.key_type, UnionType | CustomType)
    return isinstance(node, inspect.TimeType) or (isinstance(node, CustomType) and form_of(node.cls) is not None)


def is_untyped(nodes: Types) -> bool:
    """Return whether the type alone does not settle what comes back.

    That is so if the type says nothing of some value (Any), takes None where a NaN would have become null, or nests
    without bound.
    """
    for node in nodes:
        if node is None or isinstance(node, AnyType) or (isinstance(node, CustomType) and node.cls is object):
            return True
        if isinstance(node, UnionType) and {FloatType, NoneType} <= {type(each) for each in node.types}:
            return True
    return False


def types_in(info: Type) -> Types:
    """Return `info` and the types in it, each once; None for a type that contains itself."""
    _, *within = _walk(info, set(), set())
    return (_standard(info), *(None if each is None else _standard(each) for each in within))


def _standard(node: Type) -> Type:
    """Return `node`, or the type datetime or date if a library that freezes the time hides that type from msgspec."""
    plain = stands_for(node.cls) if isinstance(node, CustomType) else None
    return node if plain is None else _STANDARD[plain]


def _walk(info: Any, around: set[int], done: set[int]) -> Iterator[Type | None]:
    if isinstance(info, tuple):
        for each in info:
            yield from _walk(each, around, done)
    elif id(info) in around:
        yield None
    elif isinstance(info, Struct) and id(info) not in done:  # a type, or a field of a type
        if isinstance(info, Type):
            yield info
        if isinstance(info, CustomType) and (others := other_than_failure(info.cls)) is not None:
            yield from _walk(inspect.type_info(others), around, done)
        around.add(id(info))
        for name in info.__struct_fields__:
            if name not in ("cls", "default", "default_factory"):
                yield from _walk(getattr(info, name), around, done)
        around.discard(id(info))
        done.add(id(info))


# --- values


def round_trip_difference(sent: Any, received: Any) -> tuple[str, str] | None:
    """Return the place within `sent` at which something else came back, and a sentence; None if nothing differs."""
    try:
        return _difference(sent, received, 0)
    except RecursionError:
        return "", "is nested too deeply, or contains itself"


def changed(given: Any, received: Any) -> tuple[str, str] | None:
    """Return the place within `given` at which another value came back, and a sentence; None if no value changed.

    A value that comes back as a value of its annotated type, as 3.0 for 3 and a list for a tuple, has not changed.
    """
    if given is received:
        return None
    if isinstance(given, datetime | time):
        return _moved(given, received)
    if not (isinstance(given, list | tuple | dict) or _fields(given)):
        if _is_equal(given, received):
            return None
        if form_of(type(given)) is None:
            return "", _REMADE
        compare: Any = type(given).__eq__
        return (
            None if compare is object.__eq__ else ("", _OTHER_FORM)
        )  # by object's own comparison a value equals itself alone
    if isinstance(given, dict) and isinstance(received, dict):
        return _changed_entry(given, received)
    for key, part in _parts(given):
        found = changed(part, _part(received, key))
        if found is not None:
            return f"{_step(given, key)}{found[0]}", found[1]
    return None


def _changed_entry(given: dict[Any, Any], received: dict[Any, Any]) -> tuple[str, str] | None:
    if len(given) > len(received):
        return "", _OTHER_KEY
    for (key, part), (other, arrived) in zip(given.items(), received.items(), strict=True):
        found = changed(key, other)
        if found is not None:
            return "", _OTHER_KEY if found[1] == _REMADE else found[1]
        found = changed(part, arrived)
        if found is not None:
            return f"[{key!r}]{found[0]}", found[1]
    return None


def _merged(sent: Any, received: Any) -> tuple[str, str] | None:
    """Return the place of a dict in `sent` that has lost a key in `received`, because two keys became one, and a
    sentence; None if there is no such dict."""
    if _is_equal(sent, received) or len(encode(received)) >= len(encode(sent)):
        return None
    return _merged_key(sent, received) or "", "has two keys that have the same text"


def _merged_key(sent: Any, received: Any) -> str | None:
    if isinstance(sent, dict) and isinstance(received, dict):
        if len(received) < len(sent):
            return ""
        pairs = zip(sent, sent.values(), received.values(), strict=True)
    elif isinstance(sent, list | tuple) and isinstance(received, list | tuple):
        pairs = zip(range(len(sent)), sent, received, strict=True)
    else:
        return None
    for key, part, arrived in pairs:
        found = _merged_key(part, arrived)
        if found is not None:
            return f"[{key!r}]{found}"
    return None


def _moved(given: datetime | time, received: Any) -> tuple[str, str] | None:
    if not isinstance(received, datetime | time):
        return "", _REMADE
    if given.tzinfo is not None and received.tzinfo is None:
        return "", _LOST_ZONE
    if given.utcoffset() != received.utcoffset():
        return "", _LOST_SECONDS
    return None if given.replace(tzinfo=None) == received.replace(tzinfo=None) else ("", _REMADE)


def naive(value: Any) -> tuple[str, str] | None:
    """Return the place within `value` of a datetime without a time zone, and a sentence; None if there is none."""
    if isinstance(value, datetime):
        return ("", _NAIVE) if value.tzinfo is None else None
    if isinstance(value, set | frozenset):
        value = list(value)
    for key, part in _parts(value):
        found = naive(part)
        if found is not None:
            return f"{_step(value, key)}{found[0]}", found[1]
    return None


def _is_equal(given: Any, received: Any) -> bool:
    try:
        return bool(given == received) or (given != given and received != received)  # NaN is not equal to itself
    except Exception:  # what an object's own comparison raises, or a signaling NaN's
        return type(given) is type(received)


def _unknown_key(given: Any, kept: Any) -> tuple[str, str] | None:
    key = _dropped_key(given, kept)
    return None if key is None else (key, "is unknown")


def _dropped_key(given: Any, kept: Any) -> str | None:
    """Return the place of a dict's key in `given` that is not in `kept`, which was made of `given`; None if all keys
    are there."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key in given:
            if key not in kept:
                return f"[{key!r}]"
    elif not (isinstance(given, list | tuple) and isinstance(kept, list | tuple)):
        return None
    for key, part in _parts(kept):
        found = _dropped_key(_part(given, key), part)
        if found is not None:
            return f"{_step(kept, key)}{found}"
    return None


def _difference(sent: Any, received: Any, depth: int) -> tuple[str, str] | None:
    kind = type(sent)
    if sent is received or (kind in _EXACT and kind is type(received) and sent == received):
        return None
    if depth > DEEPEST:
        return "", f"is nested more than {DEEPEST} levels deep"
    if isinstance(sent, float) and not math.isfinite(sent):
        return "", f"{sent} {NO_JSON_FORM}"
    if kind is not type(received) and not (type(received) in _DECLARED and isinstance(sent, type(received))):
        return "", f"{type_name(kind)} is no JSON value, it would arrive as {type_name(type(received))}"
    if isinstance(sent, dict):
        for key in sent:
            if key not in received:
                return "", f"its key of type {type_name(type(key))} would arrive as text"
    for key, part in _parts(sent):
        found = _difference(part, _part(received, key), depth + 1)
        if found is not None:
            return f"{_step(sent, key)}{found[0]}", found[1]
    return None


def exposed(value: Any) -> Any:
    """Return `value` with a dict of all fields in place of each object of an attrs class or dataclass, because msgspec
    would leave out private fields of attrs classes."""
    if isinstance(value, dict):
        return {key: exposed(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [exposed(each) for each in value]
    if isinstance(value, Struct):
        made = copy(value)
        for name in value.__struct_fields__:
            force_setattr(made, name, exposed(getattr(value, name)))
        return made
    names = () if isinstance(value, type) else _fields(value)
    return {name: exposed(getattr(value, name)) for name in names if hasattr(value, name)} if names else value


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the values within `value`, each after its index, key or attribute name."""
    if isinstance(value, list | tuple):
        yield from enumerate(value)
    elif isinstance(value, dict):
        yield from value.items()
    elif not isinstance(value, type):
        for name in _fields(value):
            yield name, getattr(value, name, UNSET)


def _part(value: Any, key: Any) -> Any:
    return value[key] if isinstance(value, list | tuple | dict) else getattr(value, key, UNSET)


def _fields(value: Any) -> tuple[str, ...]:
    if isinstance(value, Struct):
        return value.__struct_fields__
    if dataclasses.is_dataclass(value):
        return tuple(field.name for field in dataclasses.fields(value))
    return tuple(field.name for field in getattr(type(value), "__attrs_attrs__", ()))


def _step(value: Any, key: Any) -> str:
    return f"[{key!r}]" if isinstance(value, list | tuple | dict) else f".{key}"


def no_json(value: Any) -> tuple[str, str] | None:
    """Return where in `value` there is something without a JSON form, and a sentence; None if there is nothing like
    that."""
    try:
        body = encode(value)
    except Unencodable as error:
        return "", f"cannot encode {error} as JSON"
    except RecursionError:
        return "", "is nested too deeply, or contains itself"
    except UnicodeEncodeError:
        return "", "has characters that UTF-8 cannot hold (a lone surrogate)"
    except Exception as error:  # msgspec's own refusals, and whatever an attribute of the value raises
        return "", f"cannot be encoded as JSON: {error}"
    if json_text.is_too_deep(body):  # counted in the text: how deep the stack goes differs between Pythons and threads
        return "", f"is nested deeper than {json_text.DEEPEST} levels"
    if b"null" in body:  # what a NaN becomes
        found = round_trip_difference(value, msgspec.json.decode(body))
        return found if found is not None and found[1].endswith(NO_JSON_FORM) else None
    return None
