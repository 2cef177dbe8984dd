"""What is secret, by annotation or by name, and how it is kept out of everything that is shown."""

from __future__ import annotations

import re
import types
import typing
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Any, TypeVar
from urllib.parse import quote, quote_plus

import msgspec
from msgspec import Raw

__all__ = ["HIDDEN", "Discreet", "Secret", "hidden", "is_secret", "is_secret_name", "secret_texts", "veil"]

T = TypeVar("T")

HIDDEN = "***"
"""What stands in place of a secret."""


class _Marker:
    """What `Secret` adds to an annotation."""

    def __repr__(self) -> str:
        return "Secret"


_MARKER = _Marker()

Secret = Annotated[T, _MARKER]
"""`Secret[str]`: a plain str, which jetq never shows. For a task's parameters and result, and for the fields of a
Struct, dataclass, TypedDict or NamedTuple.

It changes neither what the task gets nor what is stored: the stored job has the value, because its run needs it.
"""

_SECRET_WORDS = frozenset(
    "password passwords passwd passphrase pwd secret secrets token tokens credential credentials cookie cookies"
    " authorization apikey apikeys jwt otp".split()
)
_SECRET_KEYS = frozenset("api private secret access encryption signing".split())
"""Before the word `key` or `keys`: an api key is secret, a customer's key is not."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SHORTEST = 4
_SHORTEST_LINE = 8
_MOST_TEXTS = 1_000


@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Whether a parameter, field, key or header called `name` is secret: `db_password`, `accessToken`, `X-Api-Key`.

    Whole words count, of snake, camel and kebab case: `tokenize` and `secretary` are no secrets.
    """
    words = [word.lower() for word in _WORD.findall(name)]
    if not _SECRET_WORDS.isdisjoint(words):
        return True
    return any(key in ("key", "keys") and kind in _SECRET_KEYS for kind, key in pairwise(words))


def is_secret(kind: Any) -> bool:
    """Whether values annotated with `kind` are secret as a whole: `Secret[str]`, `Secret[str] | None`."""
    return any(meta is _MARKER for each in _members(kind) for meta in getattr(each, "__metadata__", ()))


def hidden(values: Any, kinds: Mapping[str, Any] | None = None) -> Any:
    """JSON `values` with stars in place of what is secret, at any depth. None stays, because it tells nothing.

    kinds: the annotations of what `values` has, by name; without one, names decide alone.
    """
    try:
        return _replaced(values, kinds or {}, lambda _: HIDDEN)
    except RecursionError:  # too deep to be looked through
        return HIDDEN


def secret_texts(values: Any, kinds: Mapping[str, Any] | None = None) -> frozenset[str]:
    """The forms in which what is secret in `values` may stand in a text, those of 4 characters or more.

    values: by name, as Python has them or as JSON.
    """
    found: list[Any] = []
    if isinstance(values, dict):
        values = {name: _plain(value) for name, value in values.items()}
    try:
        _replaced(values, kinds or {}, found.append)
    except RecursionError:  # too deep to be looked through
        found = [values]
    return frozenset(
        form for leaf in _leaves(found) for form in _forms(leaf) if len(form) >= _SHORTEST and form != HIDDEN
    )


def veil(texts: frozenset[str]) -> Callable[[str], str]:
    """A function that puts stars in place of each of `texts`."""
    if not texts:
        return _as_it_is
    if len(texts) > _MOST_TEXTS:  # to look for so many would hold up the worker
        return lambda text: HIDDEN if text else text
    # The longest first: a secret may contain another.
    pattern = re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))))
    return lambda text: pattern.sub(HIDDEN, text)


class Discreet:
    """For a Struct: its repr tells the size of bytes instead of what is in them."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, _discreet(getattr(self, name))) for name in getattr(self, "__struct_fields__", ())]


class _Size:
    """Stands for so many bytes."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __repr__(self) -> str:
        return f"<{self._size} bytes>"


def _discreet(value: Any) -> Any:
    if isinstance(value, bytes | Raw):
        return _Size(len(bytes(value)))
    return hidden(value) if isinstance(value, dict) else value


def _as_it_is(text: str) -> str:
    return text


# --- values beside their annotations


def _replaced(values: Any, kinds: Mapping[str, Any], replace: Callable[[Any], Any]) -> Any:
    if not isinstance(values, dict):
        return _within(values, (), replace)
    return {name: _named(name, value, (kinds.get(name, Any),), replace) for name, value in values.items()}


def _named(name: Any, value: Any, kinds: tuple[Any, ...], replace: Callable[[Any], Any]) -> Any:
    if value is not None and isinstance(name, str) and is_secret_name(name):
        return replace(value)
    return _within(value, kinds, replace)


def _within(value: Any, kinds: tuple[Any, ...], replace: Callable[[Any], Any]) -> Any:
    """`value`, which is of one of `kinds`, with its secret parts replaced."""
    if value is None:
        return None
    if any(map(is_secret, kinds)):
        return replace(value)
    bare = [_bare(member) for kind in kinds for member in _members(kind)]
    if isinstance(value, dict):
        return {name: _entry(name, each, bare, replace) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_within(each, _item_kinds(bare, place, len(value)), replace) for place, each in enumerate(value)]
    return value


def _entry(name: Any, value: Any, kinds: list[Any], replace: Callable[[Any], Any]) -> Any:
    """An entry of an object: a field under its own name and the one it is encoded as, or any key of a mapping."""
    found: list[Any] = []
    for kind in kinds:
        of = typing.get_args(kind)
        for field, encoded, annotation in _fields(kind):
            if name in (field, encoded):
                name = field if is_secret_name(field) else name
                found.append(annotation)
        if len(of) == 2 and not _fields(kind):
            found.append(Annotated[Any, _MARKER] if is_secret(of[0]) else of[1])
    return _named(name, value, tuple(found), replace)


def _item_kinds(kinds: list[Any], place: int, length: int) -> tuple[Any, ...]:
    """What the item at `place` of an array may be annotated with."""
    found: list[Any] = []
    for kind in kinds:
        of = typing.get_args(kind)
        if fields := _fields(kind):
            first = length - len(fields) if length > len(fields) else 0  # a tag may stand before them
            if 0 <= place - first < len(fields):
                name, _, annotation = fields[place - first]
                found.append(Annotated[Any, _MARKER] if is_secret_name(name) else annotation)
        elif typing.get_origin(kind) is tuple and Ellipsis not in of:
            found += of[place : place + 1]
        elif of:
            found.append(of[0])
    return tuple(found)


def _fields(kind: Any) -> list[tuple[str, str, Any]]:
    """The fields of a class in order: name, name in JSON, annotation. Empty for what has none."""
    origin = typing.get_origin(kind) or kind
    if not isinstance(origin, type) or not hasattr(origin, "__annotations__"):
        return []
    hints = _hints(origin)
    of: dict[Any, Any] = dict(zip(getattr(origin, "__parameters__", ()), typing.get_args(kind), strict=False))
    names = getattr(origin, "__struct_fields__", tuple(hints))
    encoded = getattr(origin, "__struct_encode_fields__", names)
    return [
        (name, in_json, of.get(hint, hint) if isinstance(hint := hints.get(name, Any), TypeVar) else hint)
        for name, in_json in zip(names, encoded, strict=True)
    ]


@lru_cache(maxsize=1024)
def _hints(kind: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind, include_extras=True)
    except Exception:  # whatever evaluating an annotation raises; names still tell
        return dict.fromkeys(kind.__annotations__, Any)


def _members(kind: Any) -> Iterator[Any]:
    """`kind`, or what it is a union of or another name for; what is annotated comes with its annotation."""
    while True:
        if hasattr(kind, "__metadata__"):
            yield kind
            kind = kind.__origin__
        elif typing.get_origin(kind) in (typing.Union, types.UnionType):
            for each in typing.get_args(kind):
                yield from _members(each)
            return
        elif typing.get_origin(kind) in (typing.Required, typing.NotRequired, typing.Final):
            kind = typing.get_args(kind)[0]
        elif isinstance(kind, typing.NewType):
            kind = kind.__supertype__
        elif type(kind).__name__ == "TypeAliasType":  # of Python 3.12
            kind = kind.__value__
        else:
            yield kind
            return


def _bare(kind: Any) -> Any:
    return getattr(kind, "__origin__", kind) if hasattr(kind, "__metadata__") else kind


# --- secrets as they may stand in a text


def _plain(value: Any) -> Any:
    try:
        return msgspec.to_builtins(value, enc_hook=str, str_keys=True)
    except Exception:  # what encodes it is somebody's own, or it has no end
        return value if isinstance(value, str) else None


def _leaves(values: list[Any]) -> Iterator[str]:
    left = list(values)
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple):
            left += value
        elif isinstance(value, str):
            yield value
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield repr(value)


def _forms(text: str) -> Iterator[str]:
    """`text`, escaped as in Python, JSON and URLs, the lines of one that has several, and the bytes of base64."""
    yield text
    yield text.strip()
    yield repr(text)[1:-1]
    if text.isascii() and text.isprintable() and text.isalnum():
        pass  # the same everywhere
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
