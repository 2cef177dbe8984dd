"""JSON texts from the broker: whether they are nested too deeply, and the fields in them that only a newer jetq knows.

Anyone with the permission may have written these texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from jetq.model.extended import OTHERS, Extended

__all__ = ["DEEPEST", "TOO_DEEP", "decode_plain", "encode_extended", "is_all_of", "is_too_deep", "with_others"]

DEEPEST = 500
"""The most levels of arrays and objects in what jetq decodes. This is half of the stack that Python gives by default
(1,000 frames): a worker and its middleware need some frames too. Without a bound a deep text ends in RecursionError,
or, in a process with a higher recursion limit, in a crash."""

TOO_DEEP = f"arrays and objects in it are nested deeper than {DEEPEST} levels"

_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}

_AS_OTHERS = f'"{OTHERS}":'

_encode = msgspec.json.Encoder().encode
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode


def decode_plain(raw: bytes) -> Any:
    """Return JSON values from their bytes. Raises ValueError for bytes that are not JSON, or are nested too deeply."""
    if is_too_deep(raw):
        raise ValueError(TOO_DEEP)
    try:
        return msgspec.json.decode(raw)
    except RecursionError:  # this stack is deep already
        raise ValueError(TOO_DEEP) from None


def is_too_deep(text: bytes) -> bool:
    """Return whether the JSON `text` is nested deeper than `DEEPEST`, without decoding it.

    The answer for a text that is no JSON may be False, however deep the text is.
    """
    if text.count(b"[") + text.count(b"{") <= DEEPEST:
        return False
    brackets = _STRINGS.sub(b"", text).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > DEEPEST


K = TypeVar("K", bound=Extended)


def is_all_of(text: str, value: Extended) -> bool:
    """Return whether `value`, which was decoded from `text`, surely has all fields of `text`.

    That is so if this version of jetq writes `value` as exactly this text. The check takes a tenth of the time of
    `with_others`, and most texts pass.
    """
    return _encode(value).decode() == text and _AS_OTHERS not in text


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
    return _encode(_merged(value, plain)) if _AS_OTHERS.encode() in plain else plain


def _merged(value: Extended, plain: bytes) -> Mapping[str, Any]:
    made: dict[str, Any] = dict(_decode_fields(plain))
    made.pop(OTHERS, None)
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
