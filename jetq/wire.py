"""How a job's `Meta` and a dead letter are written into message headers, and read back from whatever stands there."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from jetq.model import DEFAULT_META, DeadLetter, JobRecord, Meta

__all__ = [
    "LETTER_HEADER",
    "META_HEADER",
    "SCHEDULE_HEADER",
    "WIRE_VERSION",
    "BadHeader",
    "job_headers",
    "letter_header",
    "meta_or_default",
    "moved_headers",
    "read_letter",
    "read_meta",
]

WIRE_VERSION = 1
META_HEADER = "Jetq"
LETTER_HEADER = "Jetq-Letter"
SCHEDULE_HEADER = "Jetq-Schedule"

_encode = msgspec.json.Encoder().encode
_decode_meta = msgspec.json.Decoder(Meta).decode
_decode_letter = msgspec.json.Decoder(DeadLetter).decode


class BadHeader(ValueError):
    """A header of jetq's that does not read as one."""


def job_headers(job: JobRecord) -> dict[str, str]:
    """The headers a job is stored with besides the broker's own: none for most jobs, which is what keeps them fast."""
    return {} if job.meta == DEFAULT_META else {META_HEADER: _encode(job.meta).decode()}


def read_meta(headers: Mapping[str, str]) -> Meta:
    """The `Meta` of a delivery with these headers. Raises BadHeader if it is unreadable or of a newer wire version."""
    text = headers.get(META_HEADER) if headers else None
    if text is None:
        return DEFAULT_META
    try:
        meta = _decode_meta(text)
    except (ValueError, RecursionError) as error:  # msgspec.DecodeError and UnicodeError are ValueErrors
        raise BadHeader(f"header {META_HEADER} is unreadable: {error}") from None
    if meta.v > WIRE_VERSION:
        raise BadHeader(f"the job was written in wire version {meta.v}, this jetq reads versions up to {WIRE_VERSION}")
    if meta.attempt < 1:
        raise BadHeader(f"header {META_HEADER} says attempt {meta.attempt}; attempts count from 1")
    return meta


def moved_headers(headers: Mapping[str, str], before: float, due: float) -> Mapping[str, str]:
    """The headers of a job that was due at one time and now is at another: it expires that much later or sooner. Out
    of the line of a limit, in which it may have stood since it was due."""
    meta = meta_or_default(headers)
    if meta.in_line is None and meta.expires is None:
        return headers
    before = before if meta.in_line is None else meta.in_line
    expires = None if meta.expires is None else meta.expires + due - before
    return {**headers, META_HEADER: _encode(replace(meta, in_line=None, expires=expires)).decode()}


def meta_or_default(headers: Mapping[str, str]) -> Meta:
    """`read_meta` for those who only look: what cannot be read counts as absent. Who runs the job will say so."""
    try:
        return read_meta(headers)
    except BadHeader:
        return DEFAULT_META


def letter_header(letter: DeadLetter) -> str:
    """A dead letter as the text of one header."""
    return _encode(letter).decode()


def read_letter(text: str) -> DeadLetter:
    """The dead letter in a header's text. Raises BadHeader."""
    try:
        return _decode_letter(text)
    except (ValueError, RecursionError) as error:
        raise BadHeader(f"header {LETTER_HEADER} is unreadable: {error}") from None
