"""How a job's `Meta` and a dead letter are written into message headers, and read back from whatever stands there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from jetq.errors import NewerVersion
from jetq.model.bounds import LONGEST_HEADER, check_numbers, is_too_deep
from jetq.model.dead_letter import DeadLetter
from jetq.model.extended import Versioned, encode_extended, is_all_of, with_others
from jetq.model.failure import AttemptError
from jetq.model.job import DEFAULT_META, JobRecord, Meta
from jetq.model.result import ResultRecord

__all__ = [
    "IMPORTED_HEADER",
    "LETTER_HEADER",
    "META_HEADER",
    "OFF_HEADER",
    "SCHEDULE_HEADER",
    "WIRE_VERSION",
    "BadHeader",
    "NewerHeader",
    "Off",
    "check_letter",
    "check_meta",
    "job_headers",
    "letter_header",
    "meta_or_default",
    "meta_to_rewrite",
    "moved_headers",
    "newer_version",
    "off_headers",
    "read_extended",
    "read_letter",
    "read_meta",
    "read_off",
    "read_result",
]

T = TypeVar("T")
K = TypeVar("K", bound=Versioned)

WIRE_VERSION = 1
META_HEADER = "Jetq"
LETTER_HEADER = "Jetq-Letter"
IMPORTED_HEADER = "Jetq-Imported"
"""Of a dead letter that was read from a file: when, in unix seconds."""

SCHEDULE_HEADER = "Jetq-Schedule"
OFF_HEADER = "Jetq-Off"
"""Of a job that goes back as it came: since when, because its `Jetq` header may be one that only a newer jetq reads."""

_encode = msgspec.json.Encoder().encode
_decode_meta = msgspec.json.Decoder(Meta).decode
_decode_letter = msgspec.json.Decoder(DeadLetter).decode
_decode_result = msgspec.json.Decoder(ResultRecord).decode

_TOKEN = re.compile(r"[^.*>\s\x00-\x1f\x7f]+")
_WORDS = re.compile(r"[^*>\s\x00-\x1f\x7f]*")
"""What may stand in a subject: one token, and a task's name, which is empty for what is no job. Not what may be given
as a name: whatever came is dead-lettered under what it called itself."""


class BadHeader(ValueError):
    """A header of jetq's that does not read as one."""


class NewerHeader(BadHeader):
    """A header that says it is of a newer version of the wire format, `v`. A newer jetq reads it."""

    def __init__(self, header: str, v: int) -> None:
        super().__init__(
            f"header {header} was written in wire version {v}, this jetq reads versions up to {WIRE_VERSION}"
        )
        self.v = v


class _Version(Struct):
    v: int = 1


class Off(Struct, frozen=True, omit_defaults=True):
    """What is told of a job that went back as it came. Times are unix seconds.

    enqueued: when it was first stored. since: from when on no worker was known that can run it, None if it was only
    given back. looks: how often it was put off. by: the worker that did it last.
    """

    enqueued: float | None = None
    since: float | None = None
    looks: int = 0
    by: str = ""


_decode_version = msgspec.json.Decoder(_Version).decode
_decode_off = msgspec.json.Decoder(Off).decode


def job_headers(job: JobRecord) -> dict[str, str]:
    """The headers a job is stored with besides the broker's own: none for most jobs, which is what keeps them fast."""
    if job.as_is is not None:
        return dict(job.as_is)
    return {} if job.meta == DEFAULT_META else {META_HEADER: encode_extended(job.meta).decode()}


def off_headers(headers: Mapping[str, str], off: Off) -> dict[str, str]:
    """These headers, of a job that goes back as it came, with `off` beside them."""
    return {**headers, OFF_HEADER: _encode(off).decode()}


def read_off(headers: Mapping[str, str]) -> Off:
    """What is told of a job that went back as it came; nothing if it did not, or that cannot be read."""
    text = headers.get(OFF_HEADER) if headers else None
    if text is None:
        return Off()
    try:
        off = _read(OFF_HEADER, text, _decode_off)
        check_numbers(off, counts=("looks",), times=("enqueued", "since"))
    except ValueError:
        return Off()
    return off


def read_meta(headers: Mapping[str, str]) -> Meta:
    """The `Meta` of a delivery with these headers. Raises BadHeader if it is unreadable, NewerHeader, which is one, if
    it is of a newer wire version."""
    if not headers:
        return DEFAULT_META
    text = headers.get(META_HEADER)
    meta = DEFAULT_META if text is None else read_extended(META_HEADER, text, _decode_meta)
    if meta.enqueued is None and OFF_HEADER in headers:
        meta = replace(meta, enqueued=read_off(headers).enqueued)
    if meta is DEFAULT_META:
        return meta
    try:
        check_meta(meta)
    except ValueError as error:
        raise BadHeader(f"header {META_HEADER} says {error}") from None
    return meta


def check_meta(meta: Meta) -> None:
    """Raises ValueError for numbers that a job cannot have."""
    if meta.attempt < 1:
        raise ValueError(f"attempt {meta.attempt}; attempts count from 1")
    if meta.max_attempts is not None and meta.max_attempts < 1:
        raise ValueError(f"max_attempts {meta.max_attempts}; attempts count from 1")
    check_numbers(
        meta,
        counts=("attempt", "max_attempts", "errors_dropped", "snoozes", "replays", "edits", "crashes"),
        spans=("timeout", "result_ttl"),
        times=("enqueued", "unknown_since", "expires", "nominal", "in_line"),
    )
    _check_errors(meta.errors)


def _check_errors(errors: Iterable[AttemptError]) -> None:
    for error in errors:
        check_numbers(error, counts=("attempt",), times=("at",))


def _read(header: str, text: str, decode: Callable[[str], T]) -> T:
    if len(text) > LONGEST_HEADER:
        raise BadHeader(f"header {header} has {len(text):,} characters, more than {LONGEST_HEADER:,}")
    try:
        if is_too_deep(text.encode("utf-8", "surrogatepass")):
            raise BadHeader(f"header {header} is nested too deeply")
        return decode(text)
    except BadHeader:
        raise
    except (ValueError, RecursionError) as error:  # msgspec.DecodeError and UnicodeError are ValueErrors
        raise BadHeader(f"header {header} is unreadable: {error}") from None


def read_extended(header: str, text: str, decode: Callable[[str], K]) -> K:
    """What a header says, with the fields that only a newer jetq knows. Raises BadHeader, NewerHeader."""
    try:
        value = _read(header, text, decode)
    except BadHeader:
        _check_version(header, text)
        raise
    if value.v > WIRE_VERSION:
        raise NewerHeader(header, value.v)
    return value if is_all_of(text, value) else with_others(value, text)


def _check_version(header: str, text: str) -> None:
    v = _read(header, text, _decode_version).v
    if v > WIRE_VERSION:
        raise NewerHeader(header, v)


def moved_headers(headers: Mapping[str, str], before: float, due: float) -> Mapping[str, str]:
    """The headers of a job that was due at one time and now is at another: it expires that much later or sooner. Out
    of the line of a limit, in which it may have stood since it was due. Raises NewerVersion."""
    meta = meta_to_rewrite(headers)
    if meta.in_line is None and meta.expires is None:
        return headers
    before = before if meta.in_line is None else meta.in_line
    expires = None if meta.expires is None else meta.expires + due - before
    return {**headers, META_HEADER: encode_extended(replace(meta, in_line=None, expires=expires)).decode()}


def meta_or_default(headers: Mapping[str, str]) -> Meta:
    """`read_meta` for those who only look: what cannot be read counts as absent. Who runs the job will say so."""
    try:
        return read_meta(headers)
    except BadHeader:
        return DEFAULT_META


def meta_to_rewrite(headers: Mapping[str, str]) -> Meta:
    """`read_meta` for those who write the job anew. What nobody can read counts as absent; raises NewerVersion for what
    a newer jetq can."""
    try:
        return read_meta(headers)
    except NewerHeader as error:
        raise newer_version(error) from None
    except BadHeader:
        return DEFAULT_META


def newer_version(error: NewerHeader) -> NewerVersion:
    """What to tell who wants to change that."""
    return NewerVersion(f"nothing is changed: {error}", hint="use a jetq that is as new as the one that wrote it")


def letter_header(letter: DeadLetter) -> str:
    """A dead letter as the text of one header."""
    return encode_extended(letter).decode()


def read_letter(text: str) -> DeadLetter:
    """The dead letter in a header's text. Raises BadHeader, NewerHeader for one of a newer version."""
    letter = read_extended(LETTER_HEADER, text, _decode_letter)
    # A replay makes subjects of these names, and numbers are added to.
    for name in ("queue", "key", "id"):
        if not _TOKEN.fullmatch(getattr(letter, name)):
            raise BadHeader(f"header {LETTER_HEADER} has a {name} that is none")
    if not _WORDS.fullmatch(letter.task):
        raise BadHeader(f"header {LETTER_HEADER} has a task that is none")
    try:
        check_numbers(
            letter,
            counts=("attempt", "count", "errors_dropped", "snoozes", "replays", "edits"),
            times=("at", "enqueued"),
        )
        _check_errors(letter.errors)
    except ValueError as error:
        raise BadHeader(f"header {LETTER_HEADER} says {error}") from None
    return letter


def check_letter(letter: DeadLetter) -> None:
    """Raises NewerVersion for one that stands in the place of a letter which only a newer jetq can read."""
    text = letter.headers.get(LETTER_HEADER)
    if text is not None:
        try:
            read_letter(text)
        except NewerHeader as error:
            raise newer_version(error) from None
        except BadHeader:
            pass  # somebody else's: shown with its bytes like any other


def read_result(data: bytes, queue: str | None = None) -> ResultRecord | None:
    """How a job ended, from the body of a message; None for one that is not jetq's, which anyone with the permission
    may publish, or that is of another queue than `queue`, which may have a job of the same id."""
    if is_too_deep(data):
        return None
    try:
        record = _decode_result(data)
        check_numbers(record, counts=("attempt",), times=("at",))
    except (ValueError, RecursionError):
        return None
    return record if queue in (None, record.queue) else None
