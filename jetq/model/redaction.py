"""Redaction: finds values that are secret by annotation or by name, and keeps them out of all that jetq shows."""

from __future__ import annotations

import re
import sys
import types
import typing
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Any, TypeVar
from urllib.parse import quote, quote_plus

import msgspec
from msgspec import Raw

from jetq.model.annotations import annotations_of

__all__ = [
    "HIDDEN",
    "RedactedRepr",
    "Secret",
    "assumed",
    "is_secret",
    "is_secret_name",
    "redacted",
    "redactor",
    "secret_texts",
]

T = TypeVar("T")

HIDDEN = "***"
"""The text that is shown in place of a secret."""


class _Marker:
    """What `Secret` adds to an annotation."""

    def __repr__(self) -> str:
        return "Secret"


_MARKER = _Marker()

Secret = Annotated[T, _MARKER]
"""`Secret[str]`: a plain str, which jetq never shows. For a task's parameters and result, and for the fields of a
Struct, dataclass, TypedDict or NamedTuple.

The annotation changes neither what the task gets nor what is stored: the job's run needs the value, so the stored job
has it.
"""

_SECRET_WORDS = frozenset(
    "password passwords passwd passphrase pwd secret secrets token tokens credential credentials cookie cookies"
    " authorization apikey apikeys jwt otp".split()
)
_SECRET_KEYS = frozenset("api private secret access encryption signing".split())
"""The words that make a secret of a following `key` or `keys`: an api key is secret, a customer's key is not."""

_QUALIFIER = type(typing.Final)
"""The type of Final, Required, NotRequired, and ReadOnly of Python 3.13, which qualify the field of a class."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_DEEPEST = 100
"""The most levels of arrays and objects that are looked through: the same on every Python, whatever its stack holds.
Values nested more deeply are secret as a whole."""

_SHORTEST = 4
_SHORTEST_LINE = 8
_MOST_TEXTS = 1_000


@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Return whether a parameter, field, key or header called `name` is secret, as `db_password` and `X-Api-Key` are.

    Only whole words count, in snake, camel and kebab case: `accessToken` is secret; `tokenize` and `secretary` are not.
    """
    words = [word.lower() for word in _WORD.findall(name)]
    if not _SECRET_WORDS.isdisjoint(words):
        return True
    return any(key in ("key", "keys") and kind in _SECRET_KEYS for kind, key in pairwise(words))


def is_secret(kind: Any) -> bool:
    """Return whether values annotated with `kind` are secret as a whole: `Secret[str]`, `Secret[str] | None`."""
    try:
        return _is_known_secret(kind)
    except Exception:  # the hash of `kind` may raise anything, most often because `kind` has none
        return _is_secret(kind)


def _is_secret(kind: Any) -> bool:
    return any(meta is _MARKER for each in _members(kind) for meta in getattr(each, "__metadata__", ()))


_is_known_secret = lru_cache(maxsize=1024)(_is_secret)


def redacted(values: Any, annotations: Mapping[str, Any] | None = None) -> Any:
    """Return the JSON `values` with stars in place of each secret, at any depth. None stays, because it tells nothing.

    If some value is nested too deeply to be looked through, the stars take the place of all `values`.

    annotations: those of the entries of `values`, by name. Where there is no annotation, names alone decide.
    """
    try:
        return _replaced(values, annotations or {}, lambda _: HIDDEN)
    except RecursionError:
        return HIDDEN


def secret_texts(values: Any, annotations: Mapping[str, Any] | None = None) -> frozenset[str]:
    """Return the forms that the secrets in `values` may have in a text. Forms of less than 4 characters are left out.

    All texts in `values` count as secrets if some value is nested too deeply to be looked through, or contains itself.

    values: the values by name, as Python objects or as JSON.
    """
    found: list[Any] = []
    try:
        plain = {name: _plain(value) for name, value in values.items()} if isinstance(values, dict) else values
        _replaced(plain, annotations or {}, found.append)
    except RecursionError:
        found = [values]
    return frozenset(
        form for leaf in _leaves(found) for form in _forms(leaf) if len(form) >= _SHORTEST and form != HIDDEN
    )


def redactor(texts: frozenset[str]) -> Callable[[str], str]:
    """Return a function that puts stars in place of each of `texts` in a text.

    For more than 1,000 `texts`, the function puts stars in place of the whole text.
    """
    if not texts:
        return _as_it_is
    if len(texts) > _MOST_TEXTS:  # a search for so many texts would hold up the worker
        return lambda text: HIDDEN if text else text
    longest_first = sorted(texts, key=len, reverse=True)  # a secret may contain another

    def hide(text: str) -> str:
        # One by one: to compile a pattern of a megabyte takes seconds, and a pattern of many words is slower than this.
        for secret in longest_first:
            text = text.replace(secret, HIDDEN)
        return text

    return hide


class RedactedRepr:
    """A base of Structs: the repr tells the size of bytes instead of their contents."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, _discreet(getattr(self, name))) for name in getattr(self, "__struct_fields__", ())]


class _Size:
    """Takes the place of bytes in a repr, and tells their number."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __repr__(self) -> str:
        return f"<{self._size} bytes>"


def _discreet(value: Any) -> Any:
    if isinstance(value, bytes | Raw):
        return _Size(len(bytes(value)))
    if isinstance(value, tuple) and value and isinstance(value[0], bytes):
        return _Size(sum(map(len, value)))
    return redacted(value) if isinstance(value, dict) else value


def _as_it_is(text: str) -> str:
    return text


# --- values beside their annotations


def _replaced(values: Any, annotations: Mapping[str, Any], replace: Callable[[Any], Any]) -> Any:
    """Return `values` with their secrets replaced. Raises RecursionError for values nested too deeply."""
    if not isinstance(values, dict):
        return _within(values, (), replace, _DEEPEST)
    return {
        name: _named(name, value, (annotations.get(name, Any),), replace, _DEEPEST) for name, value in values.items()
    }


def _named(name: Any, value: Any, annotations: tuple[Any, ...], replace: Callable[[Any], Any], levels: int) -> Any:
    if value is not None and isinstance(name, str) and is_secret_name(name):
        return replace(value)
    return _within(value, annotations, replace, levels)


def _within(value: Any, annotations: tuple[Any, ...], replace: Callable[[Any], Any], levels: int) -> Any:
    """Return `value`, which has one of `annotations`, with its secrets replaced.

    Raises RecursionError if `value` has more than `levels` levels of arrays and objects.
    """
    if value is None:
        return None
    if any(map(is_secret, annotations)):
        return replace(value)
    if not isinstance(value, dict | list | tuple):
        return value
    if levels == 0:
        raise RecursionError
    bare = [_bare(member) for kind in annotations for member in _members(kind)]
    if isinstance(value, dict):
        return {name: _entry(name, each, bare, replace, levels - 1) for name, each in value.items()}
    return [
        _within(each, _item_annotations(bare, index, len(value)), replace, levels - 1)
        for index, each in enumerate(value)
    ]


def _entry(name: Any, value: Any, annotations: list[Any], replace: Callable[[Any], Any], levels: int) -> Any:
    """Return an entry of an object with its secrets replaced.

    The entry is a field, under its own name or its name in JSON, or any key of a mapping.
    """
    found: list[Any] = []
    for kind in annotations:
        of = typing.get_args(kind)
        for field, encoded, annotation in _fields(kind):
            if name in (field, encoded):
                name = field if is_secret_name(field) else name
                found.append(annotation)
        if len(of) == 2 and not _fields(kind):
            found.append(Annotated[Any, _MARKER] if is_secret(of[0]) else of[1])
    return _named(name, value, tuple(found), replace, levels)


def _item_annotations(annotations: list[Any], index: int, length: int) -> tuple[Any, ...]:
    """Return the annotations that the item at `index` of an array may have."""
    found: list[Any] = []
    for kind in annotations:
        of = typing.get_args(kind)
        if fields := _fields(kind):
            first = length - len(fields) if length > len(fields) else 0  # a tag may come before the fields
            if 0 <= index - first < len(fields):
                name, _, annotation = fields[index - first]
                found.append(Annotated[Any, _MARKER] if is_secret_name(name) else annotation)
        elif typing.get_origin(kind) is tuple and Ellipsis not in of:
            found += of[index : index + 1]
        elif of:
            found.append(of[0])
    return tuple(found)


# --- annotations


def assumed(annotation: Any) -> Any:
    """Return what jetq takes an annotation for that cannot be resolved: secret if its text says `Secret`, else Any."""
    return Annotated[Any, _MARKER] if "Secret" in str(annotation) else Any


def _fields(kind: Any) -> list[tuple[str, str, Any]]:
    """Return the fields of a class in order: name, name in JSON, annotation. Empty if `kind` has no fields."""
    origin = typing.get_origin(kind) or kind
    if not isinstance(origin, type):
        return []
    hints = _hints(origin)
    of = _parameters(kind)
    names = getattr(origin, "__struct_fields__", tuple(hints))
    encoded = getattr(origin, "__struct_encode_fields__", names)
    return [(name, in_json, _filled(hints.get(name, Any), of)) for name, in_json in zip(names, encoded, strict=True)]


@lru_cache(maxsize=1024)
def _hints(kind: type) -> dict[str, Any]:
    """Return the annotations of a class and of its bases, with the type parameters of generic bases filled in."""
    hints: dict[str, Any] = {}
    stored: dict[str, Any] = {}  # the annotations of the bases, not resolved
    for base in reversed(kind.__dict__.get("__orig_bases__", kind.__bases__)):
        origin = typing.get_origin(base) or base
        if isinstance(origin, type) and origin is not object:
            of = _parameters(base)
            hints |= {name: _filled(hint, of) for name, hint in _hints(origin).items()}
            stored |= annotations_of(origin)
    for name, annotation in annotations_of(kind).items():
        if typing.is_typeddict(kind) and name in stored and stored[name] == annotation:
            continue  # a TypedDict has the annotations of its bases among its own
        hints[name] = _resolved(kind, name, annotation)
    return hints


def _resolved(kind: type, name: str, annotation: Any) -> Any:
    holder = types.SimpleNamespace(__annotations__={name: annotation})
    module = vars(sys.modules.get(kind.__module__, typing))
    try:
        # The names of the class itself go first, as `typing` does it for a class.
        return typing.get_type_hints(holder, module, dict(vars(kind)), include_extras=True)[name]
    except Exception:  # whatever the evaluation of an annotation raises
        return assumed(annotation)


def _parameters(kind: Any) -> dict[Any, Any]:
    """Return the value of each type parameter of a generic: `{T: str}` for `Box[str]`."""
    origin = typing.get_origin(kind) or kind
    of = getattr(origin, "__parameters__", ())
    return dict(zip(of, typing.get_args(kind), strict=False)) if isinstance(of, tuple) else {}


def _filled(hint: Any, of: Mapping[Any, Any]) -> Any:
    """Return `hint` with the type parameters anywhere inside it replaced by their values `of`."""
    if isinstance(hint, TypeVar):
        return of.get(hint, hint)
    free = getattr(hint, "__parameters__", ())
    if not free or not of or typing.get_origin(hint) is None:
        return hint
    return hint[tuple(of.get(each, each) for each in free)]


def _members(kind: Any) -> Iterator[Any]:
    """Yield the annotations that `kind` is made of: the members of a union, and what an alias or a NewType means.

    An Annotated is yielded itself, followed by the members of the annotation in it.
    """
    if hasattr(kind, "__metadata__"):
        yield kind
        within = [kind.__origin__]
    elif typing.get_origin(kind) in (typing.Union, types.UnionType):
        within = list(typing.get_args(kind))
    elif isinstance(typing.get_origin(kind), _QUALIFIER):
        within = list(typing.get_args(kind)[:1])
    elif isinstance(kind, typing.NewType):
        within = [kind.__supertype__]
    elif _is_alias(kind):
        within = [kind.__value__]
    elif _is_alias(typing.get_origin(kind)):
        within = [_filled(kind.__origin__.__value__, _parameters(kind))]
    elif isinstance(kind, TypeVar):
        within = [each for each in (kind.__bound__, *kind.__constraints__, _default(kind)) if each is not None]
    else:
        yield kind
        return
    for each in within:
        yield from _members(each)


def _is_alias(kind: Any) -> bool:
    """Return whether `kind` is a `type X = ...` of Python 3.12, or the same of typing_extensions."""
    return type(kind).__name__ == "TypeAliasType"


def _default(variable: Any) -> Any:
    """Return the default of a type parameter, which Python 3.13 has; None without a default."""
    return variable.__default__ if getattr(variable, "has_default", bool)() else None


def _bare(kind: Any) -> Any:
    return getattr(kind, "__origin__", kind) if hasattr(kind, "__metadata__") else kind


# --- the forms of secrets in a text


def _plain(value: Any, levels: int = _DEEPEST) -> Any:
    """Return `value` as plain JSON values, converted piece by piece if the whole cannot be converted at once.

    Raises RecursionError if `value` is nested too deeply.
    """
    try:
        return msgspec.to_builtins(value, enc_hook=_text, str_keys=True)
    except Exception:  # a class of an application may raise anything
        pass
    if levels == 0:
        raise RecursionError
    if isinstance(value, dict):
        return {_text(name): _plain(each, levels - 1) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each, levels - 1) for each in value]
    if isinstance(value, str):  # this text has characters that UTF-8 cannot hold
        return value
    return {name: _plain(each, levels - 1) for name, each in _attributes(value).items()} or _text(value)


def _attributes(value: Any) -> dict[str, Any]:
    """Return the values of the fields of an object that can be read, by name."""
    found: dict[str, Any] = {}
    with suppress(Exception):  # even to ask its class may raise
        for name, _, _ in _fields(type(value)):
            with suppress(Exception):
                found[name] = getattr(value, name)
    return found


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception:
        return ""


def _leaves(values: list[Any]) -> Iterator[str]:
    left, seen = list(values), set[int]()
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield _text(value)
        elif value is None or isinstance(value, bool) or id(value) in seen:
            continue
        else:
            seen.add(id(value))
            left += _parts(value)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if attributes := _attributes(value):
        return list(attributes.values())
    with suppress(Exception):
        return [msgspec.to_builtins(value)]
    return [_text(value)]


def _forms(text: str) -> Iterator[str]:
    """Yield `text`, its escaped forms in Python, JSON and URLs, its longer lines, and the bytes of a base64 text."""
    yield text
    yield text.strip()
    yield repr(text)[1:-1]
    if text.isascii() and text.isprintable() and text.isalnum():
        pass  # such a text has the same form everywhere
    else:
        valid = text.encode("utf-8", "replace").decode()
        yield msgspec.json.encode(valid).decode()[1:-1]
        yield quote(valid, safe="")
        yield quote(valid)
        yield quote_plus(valid)
        yield from (line for line in text.splitlines() if len(line) >= _SHORTEST_LINE)
    try:
        raw = b64decode(text, validate=True)
    except ValueError:
        return
    if len(raw) >= _SHORTEST:
        yield repr(raw)[2:-1]
