"""Fields that a newer jetq has added to stored values: an older jetq keeps them, unread, when it rewrites a value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct, field
from msgspec.structs import replace

__all__ = ["Extended", "Versioned", "encode_extended", "is_all_of", "with_others"]

_PLACE = "*"
"""The name under which the encoder writes `others`, before they get their own names. No field has this name."""

_AS_PLACE = f'"{_PLACE}":'

_encode = msgspec.json.Encoder().encode
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode


class Extended(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A value on the wire.

    others: the fields of the value that this version of jetq does not know, each as a name and its JSON.

    Guarantee: tests/unit/properties/test_headers.py: no code that writes a job, letter or schedule anew drops such a
    field.
    """

    others: tuple[tuple[str, bytes], ...] = field(default=(), name=_PLACE)


class Versioned(Extended, frozen=True, omit_defaults=True, kw_only=True):
    """A value on the wire that names the version of its wire format, `v`."""

    v: int = 1


K = TypeVar("K", bound=Extended)


def is_all_of(text: str, value: Extended) -> bool:
    """Return whether `value`, which was decoded from `text`, surely has all fields of `text`.

    That is so if this version of jetq writes `value` as exactly this text. The check takes a tenth of the time of
    `with_others`, and most texts pass.
    """
    return _encode(value).decode() == text and _AS_PLACE not in text


def with_others(value: K, text: bytes | str | Raw) -> K:
    """Return `value`, which was decoded from the JSON object `text`, with the unknown fields of `text` as `others`.

    The same is done for each Extended value inside `value`.
    """
    found, changes = _decode_fields(text), dict[str, Any]()
    known = set()
    for name, encode_name in _names(value):
        known.add(encode_name)
        inner = getattr(value, name)
        if isinstance(inner, Extended) and encode_name in found:
            changes[name] = with_others(inner, found[encode_name])
        elif isinstance(inner, tuple) and inner and isinstance(inner[0], Extended):
            raws = _decode_list(found[encode_name])
            changes[name] = tuple(with_others(*pair) for pair in zip(inner, raws, strict=True))
    changes["others"] = tuple((name, bytes(raw)) for name, raw in found.items() if name not in known)
    return replace(value, **changes)


def encode_extended(value: Extended) -> bytes:
    """Return the JSON of `value`, with its `others` under their own names."""
    plain = _encode(value)
    return _encode(_merged(value, plain)) if _AS_PLACE.encode() in plain else plain


def _merged(value: Extended, plain: bytes) -> Mapping[str, Any]:
    made: dict[str, Any] = dict(_decode_fields(plain))
    made.pop(_PLACE, None)
    for name, encode_name in _names(value):
        inner = getattr(value, name)
        if encode_name not in made:
            continue
        if isinstance(inner, Extended):
            made[encode_name] = _merged(inner, _encode(inner))
        elif isinstance(inner, tuple) and inner and isinstance(inner[0], Extended):
            made[encode_name] = [_merged(one, _encode(one)) for one in inner]
    return {**made, **{name: Raw(raw) for name, raw in value.others}}


def _names(value: Struct) -> Iterable[tuple[str, str]]:
    """Return the name of each field, and its name on the wire.

    `msgspec.structs.fields` would evaluate the annotations at every call (msgspec 0.22): a millisecond for each job.
    """
    return zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True)
