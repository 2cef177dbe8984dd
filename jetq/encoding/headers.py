"""Message headers: how a job's `Meta` and a dead letter are written, and how they are read back from any text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from jetq.encoding.json_text import encode_extended, is_all_of, is_too_deep, with_others
from jetq.errors import NewerVersion
from jetq.model.bounds import LONGEST_HEADER, check_numbers
from jetq.model.dead_letter import DeadLetter
from jetq.model.extended import Versioned
from jetq.model.failure import AttemptError
from jetq.model.job import DEFAULT_META, JobRecord, Meta, Place
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

WIRE_VERSION = 2
"""The highest version of the wire format that is read. A value is written in version 1, except a job that has a place
in a workflow (`jetq.model.job.Meta`)."""

META_HEADER = "Jetq"
LETTER_HEADER = "Jetq-Letter"
IMPORTED_HEADER = "Jetq-Imported"
"""The header of a dead letter that was read from a file: when, in unix seconds."""

SCHEDULE_HEADER = "Jetq-Schedule"
OFF_HEADER = "Jetq-Off"
"""The header of a job that goes back as it came: what `Off` has. This is a header of its own, because the job's `Jetq`
header may be one that only a newer jetq reads."""

_encode = msgspec.json.Encoder().encode
_decode_meta = msgspec.json.Decoder(Meta).decode
_decode_letter = msgspec.json.Decoder(DeadLetter).decode
_decode_result = msgspec.json.Decoder(ResultRecord).decode

_TOKEN = re.compile(r"[^.*>\s\x00-\x1f\x7f]+")
_WORDS = re.compile(r"[^*>\s\x00-\x1f\x7f]*")
"""What a subject may contain: one token, and a task's name, which is empty for a message that is no job. Names that
callers give are held to narrower rules: whatever came is dead-lettered under what it called itself."""


_LONGEST_ID_OF_MEMBER = 60
"""The most characters of a member's id, which bounds the names of its life and step: both are parts of subjects."""

_LONGEST_NAME = 256
"""The most characters of an id or a queue in a place. Any id that jetq makes is shorter."""


class BadHeader(ValueError):
    """A header of jetq's that cannot be read."""


class NewerHeader(BadHeader):
    """A header of a newer version of the wire format, `v`, which a newer jetq reads."""

    def __init__(self, header: str, v: int) -> None:
        super().__init__(
            f"header {header} was written in wire version {v}, this jetq reads versions up to {WIRE_VERSION}"
        )
        self.v = v


class _Version(Struct):
    v: int = 1


class Off(Struct, frozen=True, omit_defaults=True):
    """What is told of a job that went back as it came. Times are unix seconds.

    enqueued: when the job was first stored. since: from when on no worker was known that can run the job; None if the
    job was only given back. looks: how often the job was put off. by: the worker that gave the job back last.
    """

    enqueued: float | None = None
    since: float | None = None
    looks: int = 0
    by: str = ""


_decode_version = msgspec.json.Decoder(_Version).decode
_decode_off = msgspec.json.Decoder(Off).decode


def job_headers(job: JobRecord) -> dict[str, str]:
    """Return the headers a job is stored with besides the broker's own: none for most jobs, which keeps these jobs
    fast."""
    if job.as_is is not None:
        return dict(job.as_is)
    return {} if job.meta == DEFAULT_META else {META_HEADER: encode_extended(job.meta).decode()}


def off_headers(headers: Mapping[str, str], off: Off) -> dict[str, str]:
    """Return `headers`, of a job that goes back as it came, with `off` beside them."""
    return {**headers, OFF_HEADER: _encode(off).decode()}


def read_off(headers: Mapping[str, str]) -> Off:
    """Return what is told of a job that went back as it came; an empty `Off` if the job did not, or if the header
    cannot be read."""
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
    """Return the `Meta` of a delivery with these headers. Raises BadHeader if the header is unreadable, and
    NewerHeader, a kind of BadHeader, if the header is of a newer wire version."""
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
    """Raise ValueError for numbers that a job cannot have, and for a place that no workflow has."""
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
    if meta.flow is not None:
        _check_place(meta.flow)


def _check_place(place: Place) -> None:
    check_numbers(
        place, counts=("member", "members_of_page", "pages"), times=("deadline", "looked"), sequences=("seen",)
    )
    for name in ("workflow", "home", "life", "step"):  # subjects are made of them
        text = getattr(place, name)
        if len(text) > _LONGEST_NAME or not _TOKEN.fullmatch(text):
            raise ValueError(f"a place whose {name} is none")
    if len(place.job_id) > _LONGEST_ID_OF_MEMBER:
        raise ValueError(f"a place whose member's id has {len(place.job_id)} characters")


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
    """Return what a header says, with the fields that only a newer jetq knows. Raises BadHeader, NewerHeader."""
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
    """Return the headers of a job that was due at `before` and is now due at `due`: the job expires that much later or
    sooner. The job leaves the line of a limit, in which it may have waited since it was due. Raises NewerVersion."""
    meta = meta_to_rewrite(headers)
    if meta.in_line is None and meta.expires is None:
        return headers
    before = before if meta.in_line is None else meta.in_line
    expires = None if meta.expires is None else meta.expires + due - before
    return {**headers, META_HEADER: encode_extended(replace(meta, in_line=None, expires=expires)).decode()}


def meta_or_default(headers: Mapping[str, str]) -> Meta:
    """Return what `read_meta` returns, for code that only looks: a header that cannot be read counts as absent. The
    worker that runs the job will say so."""
    try:
        return read_meta(headers)
    except BadHeader:
        return DEFAULT_META


def meta_to_rewrite(headers: Mapping[str, str]) -> Meta:
    """Return what `read_meta` returns, for code that writes the job anew. A header that nobody can read counts as
    absent. Raises NewerVersion for a header that a newer jetq can read."""
    try:
        return read_meta(headers)
    except NewerHeader as error:
        raise newer_version(error) from None
    except BadHeader:
        return DEFAULT_META


def newer_version(error: NewerHeader) -> NewerVersion:
    """Return the error for code that wants to change something that only a newer jetq can read."""
    return NewerVersion(f"nothing is changed: {error}", hint="use a jetq that is as new as the one that wrote it")


def letter_header(letter: DeadLetter) -> str:
    """Return a dead letter as the text of one header."""
    return encode_extended(letter).decode()


def read_letter(text: str) -> DeadLetter:
    """Return the dead letter in a header's text. Raises BadHeader, NewerHeader for a letter of a newer version."""
    letter = read_extended(LETTER_HEADER, text, _decode_letter)
    # A replay makes subjects of these names, and adds to the numbers.
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
    """Raise NewerVersion for a letter that was made in place of a letter which only a newer jetq can read."""
    text = letter.headers.get(LETTER_HEADER)
    if text is not None:
        try:
            read_letter(text)
        except NewerHeader as error:
            raise newer_version(error) from None
        except BadHeader:
            pass  # somebody else's header: the letter is shown with its bytes like any other


def read_result(data: bytes, queue: str | None = None) -> ResultRecord | None:
    """Return how a job ended, from the body of a message. Return None for a message that is not jetq's, which anyone
    with the permission may publish, and for the result of another queue than `queue`, which may have a job of the same
    id."""
    if is_too_deep(data):
        return None
    try:
        record = _decode_result(data)
        check_numbers(record, counts=("attempt",), times=("at",))
    except (ValueError, RecursionError):
        return None
    return record if queue in (None, record.queue) else None
