"""Exceptions as values: captured at the worker whatever they do, and made exceptions again at the caller."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, cast

import msgspec
from msgspec.structs import replace

from jetq.encoding.headers import META_HEADER, meta_or_default
from jetq.encoding.json_text import encode_extended
from jetq.errors import JobTimeout, RemoteTraceback, TaskFailed
from jetq.model.dead_letter import DeadLetter
from jetq.model.failure import AttemptError, Failure, stable_type_name
from jetq.model.job import Meta

__all__ = ["bounded", "capture", "fit", "in_a_line", "members", "revive", "summarize", "text_of", "type_name"]

_TYPE = 200
_MESSAGE = 2_000
_TRACEBACK = 16_000
_TRACEBACK_ENTRY = 2_500
_SUMMARY = 300
_ARGS_BYTES = 2_000
_KEPT_FIRST, _KEPT_LAST = 1, 9
_ERRORS_BYTES = 6_000
_LEAVES_NAMED = 10
_MOST_TRACED = 1_000
_LINE = 300
_NOTICE = 40

_OWN_CODE = str(Path(__file__).parents[1]) + os.sep
_encode = msgspec.json.Encoder().encode
_held_by: Any = BaseExceptionGroup.exceptions  # a user's own class may compute another value


def capture(error: BaseException, hide: Callable[[str], str] = str) -> Failure:
    """Return `error` as text. Never raise, whatever the error's `__str__`, arguments or class do.

    The message is cut to 2,000 characters, the traceback to 16,000: the middle is left out, and the text says how much.
    The traceback of a group names the exceptions in the group. The frames of jetq that lead to the user's code are left
    out. Characters that UTF-8 cannot hold are replaced. `hide` takes secrets out of a text before the text is cut,
    because half a secret is still a secret.
    """
    return Failure(
        type=type_name(type(error)),
        message=_cut(hide(text_of(error)), _MESSAGE),
        traceback=_traceback(error, hide),
        args=_plain_args(error, hide),
    )


def members(error: BaseException) -> Iterator[BaseException]:
    """Yield `error`, and if `error` is a group all exceptions in it, at any depth: each once, in order, a group before
    its exceptions."""
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        if issubclass(type(each), BaseExceptionGroup):
            waiting += reversed(_held_by.__get__(each))


def text_of(error: BaseException) -> str:
    """Return what `error` says. Never raise, whatever the error's `__str__` does. For a group return the exceptions in
    it, ten at most, with what each says, because most groups themselves say only that they are a group."""
    try:
        return _names(error) if isinstance(error, BaseExceptionGroup) else _plain(str(error))
    except BaseException as broken:  # an exception whose text raises must still be recorded
        return f"<its text raises {type_name(type(broken))}>"


def in_a_line(failure: Failure) -> str:
    """Return `failure` for a log: its type and message on one line, the message cut to 300 characters at its end."""
    message = _printable(" ".join(failure.message.split())).rstrip(".")
    if len(message) > _LINE:
        message = f"{message[:_LINE]}..."
    return _named(failure.type, message)


def revive(failure: Failure) -> Exception:
    """Return an exception for `failure`, with the worker's traceback as its cause.

    The exception is of its own class if a module imported here already defines an exception class of that very name and
    the class takes the same arguments; otherwise the exception is a TaskFailed. No module is imported because a message
    names it, and only subclasses of Exception are built, by their ordinary constructor from JSON values. Two kinds
    always come as TaskFailed: jetq's own errors except JobTimeout, because they would speak of a call made here (a
    `Snooze` would even put off the job that waits for this one), and StopIteration, which ends the coroutine in which
    it is raised.
    """
    error = _own_class(failure)
    if error is None:
        error = TaskFailed(f"{failure.type}: {failure.message}", type=failure.type, remote_traceback=failure.traceback)
        _add_cause(error, failure)
    return error


def summarize(failure: Failure, attempt: int, at: float, worker: str) -> AttemptError:
    """Return `failure` as a line that travels with the job: its message cut to 300 characters. `at` in unix seconds."""
    message = _cut(failure.message, _SUMMARY)
    return AttemptError(attempt=attempt, type=failure.type, message=message, at=at, worker=worker)


def bounded(errors: Sequence[AttemptError], new: AttemptError) -> tuple[tuple[AttemptError, ...], int]:
    """Return as much of `errors` and `new` as a header carries, oldest first, and how many errors were dropped.

    The first error tells what began the trouble, the last nine tell how it goes on. In JSON the kept errors have at
    most 6,000 bytes: longer errors lose text, and then the oldest errors except the first are dropped.
    """
    kept = _first_and_last((*errors, new), _KEPT_LAST)
    for limit in (_SUMMARY // 2, _SUMMARY // 5):
        if len(_encode(kept)) > _ERRORS_BYTES:
            kept = tuple(replace(each, message=_cut(each.message, limit)) for each in kept)
    for last in range(_KEPT_LAST, 0, -1):
        if len(_encode(kept)) > _ERRORS_BYTES:
            kept = _first_and_last(kept, last)
    return kept, len(errors) + 1 - len(kept)


def fit(letter: DeadLetter, limit: int) -> DeadLetter:
    """Return `letter`, shortened until its JSON has at most `limit` bytes.

    The parts that tell most about the cause are cut last; the order is traceback, headers, the attempts' errors,
    message. Names, addresses, times, reason and the place in a workflow always stay, about a kilobyte, even if `limit`
    is below that.
    """
    for shorter in _shortened(letter):
        letter = shorter
        if len(_encode(letter)) <= limit:
            break
    return letter


def _shortened(letter: DeadLetter) -> Iterator[DeadLetter]:
    """Yield `letter` in ever shorter forms."""
    yield letter
    failure = letter.failure
    for limit in (8_000, 4_000):
        yield (letter := replace(letter, failure=replace(failure, traceback=_cut(failure.traceback, limit))))
    own = {
        name: value for name, value in letter.headers.items() if name == META_HEADER
    }  # a replay goes on from this header
    few = {name: value for name, value in letter.headers.items() if len(name) + len(value) < _SUMMARY}
    yield (letter := replace(letter, headers={**few, **own}))
    yield (letter := replace(letter, headers=own))
    for last in (_KEPT_LAST // 2, 1):
        errors = _first_and_last(letter.errors, last)
        dropped = letter.errors_dropped + len(letter.errors) - len(errors)
        yield (letter := replace(letter, errors=errors, errors_dropped=dropped))
    for limit in (1_000, 0):
        short = replace(letter.failure, args=None, traceback=_cut(failure.traceback, limit))
        yield (letter := replace(letter, failure=short))
    dropped = letter.errors_dropped + len(letter.errors)
    yield (letter := replace(letter, errors=(), errors_dropped=dropped))
    for limit in (_SUMMARY, _NOTICE):
        yield (letter := replace(letter, failure=replace(letter.failure, message=_cut(failure.message, limit))))
    yield (letter := replace(letter, headers=_place_alone(own)))


def _place_alone(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return what `headers` say of the job's place in a workflow. Without its place a member that is replayed would run
    as a plain job."""
    place = meta_or_default(headers).flow
    return {} if place is None else {META_HEADER: encode_extended(Meta(flow=place)).decode()}


def _first_and_last(errors: tuple[AttemptError, ...], last: int) -> tuple[AttemptError, ...]:
    return errors if len(errors) <= _KEPT_FIRST + last else errors[:_KEPT_FIRST] + errors[-last:]


# --- from an exception


def type_name(kind: type[BaseException]) -> str:
    """Return `module.qualname` of an exception class, `jetq.X` of jetq's own, in at most 200 printable characters."""
    try:
        name = stable_type_name(_plain(f"{kind.__module__}.{kind.__qualname__}"))
    except BaseException:  # a metaclass may compute both
        name = _plain(type.__dict__["__name__"].__get__(kind))
    return _printable(name[:_TYPE])


def _names(group: BaseException) -> str:
    held = [each for each in members(group) if not isinstance(each, BaseExceptionGroup)]
    names = [_named(type_name(type(each)), text_of(each)) for each in held[:_LEAVES_NAMED]]
    more = len(held) - len(names)
    return "; ".join([*names, f"and {more:,} more"] if more else names)


def _named(kind: str, text: str) -> str:
    kind = kind.removeprefix("builtins.")
    return f"{kind}: {text}" if text else kind


def _traceback(error: BaseException, hide: Callable[[str], str]) -> str:
    for form in (_bare_traceback,) if _holds_many(error) else (_full_traceback, _bare_traceback):
        try:
            return _cut("".join(_cut(hide(each), _TRACEBACK_ENTRY) for each in form(error)), _TRACEBACK)
        except BaseException:  # the full form reads attributes that a class may compute, and follows every cause
            continue
    return f"{type_name(type(error))}: {_cut(hide(text_of(error)), _MESSAGE)}\n"


def _holds_many(error: BaseException) -> bool:
    """Return whether a group holds more exceptions than can be formatted in some milliseconds. An exception counts as
    often as the group holds it."""
    waiting, count = [error], 0
    while waiting and count <= _MOST_TRACED:
        each = waiting.pop()
        count += 1
        if issubclass(type(each), BaseExceptionGroup):
            waiting += _held_by.__get__(each)
    return count > _MOST_TRACED


def _full_traceback(error: BaseException) -> Iterator[str]:
    return traceback.TracebackException(type(error), error, _user_frames(error), compact=True).format()


def _bare_traceback(error: BaseException) -> Iterator[str]:
    yield from traceback.format_tb(_user_frames(error))
    yield f"{type_name(type(error))}: {text_of(error)}\n"


def _user_frames(error: BaseException) -> TracebackType | None:
    """Return the traceback without jetq's own frames at its top; the whole traceback if there are no other frames."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith(_OWN_CODE):
        frame = frame.tb_next
    return frame or error.__traceback__


def _plain_args(error: BaseException, hide: Callable[[str], str]) -> tuple[Any, ...] | None:
    """Return the exception's arguments, if they are few, the same after a journey as JSON, and without secrets; else
    None."""
    try:
        text = _encode(list(error.args))
        if len(text) > _ARGS_BYTES:
            return None
        args = msgspec.json.decode(text)
        plain = text.decode()
        return tuple(args) if args == list(error.args) and hide(plain) == plain else None
    except BaseException:  # arguments of any kind, with any `__eq__`
        return None


# --- to an exception


def _own_class(failure: Failure) -> Exception | None:
    kind = _find_class(failure.type)
    if kind is None:
        return None
    for args in (failure.args, (failure.message,)):
        if args is None:
            continue
        try:
            error = kind(*args)
            if type(error) is kind:
                if text_of(error) != failure.message:
                    error.add_note(f"at the worker: {failure.message}")
                _add_cause(error, failure)
                return error
        except Exception:  # a constructor that wants something else, or a class that keeps no cause
            continue
    return None


def _add_cause(error: Exception, failure: Failure) -> None:
    if failure.traceback:
        error.__cause__ = RemoteTraceback(failure.traceback)


def _find_class(name: str) -> type[Exception] | None:
    """Return the exception class that is defined under `name` in a module imported here; None if there is none."""
    parts = name.split(".")
    for split in range(len(parts) - 1, 0, -1):
        found: object = sys.modules.get(".".join(parts[:split]))
        for part in parts[split:]:
            found = _namespace(found).get(part)
        if isinstance(found, type) and issubclass(found, Exception):
            return found if _revivable(found, name) else None
    return None


def _namespace(holder: object) -> dict[str, object]:
    """Return what a module or class defines itself, read so that no code of the module or class runs: the code of a
    lazy module would import it."""
    names: dict[str, object] = {}
    if issubclass(type(holder), ModuleType):
        names = object.__getattribute__(holder, "__dict__")
    elif issubclass(type(holder), type):
        names = type.__getattribute__(cast("type", holder), "__dict__")
    return names


def _revivable(kind: type[Exception], name: str) -> bool:
    """Return whether `kind` is really called `name`, is built as classes are, and may be raised at a caller."""
    if type(kind).__call__ is not type.__call__ or type_name(kind) != name:
        return False
    own = name.startswith("jetq.") and kind is not JobTimeout
    return not own and not issubclass(kind, StopIteration | StopAsyncIteration)


# --- text


def _cut(text: str, limit: int) -> str:
    """Return `text` in at most `limit` characters of valid UTF-8: the beginning, how much is missing, and the end."""
    if len(text) <= limit:
        return _valid(text)
    kept = max(0, limit - _NOTICE)
    if not kept:
        return _valid(text[:limit])
    head = kept // 2
    return _valid(f"{text[:head]}\n... {len(text) - kept:,} characters cut ...\n{text[head - kept :]}")


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)


def _valid(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _plain(text: str) -> str:
    """Return `text` as a str of no subclass, because a subclass may override what is done with the text here."""
    return str.__str__(text)
