"""The options of a task and of a call, checked where a user writes them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, cast

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from jetq.errors import DefinitionError
from jetq.migration_hints import OPTIONS, WrittenAt, option_answer, written_option
from jetq.model.definitions.checks import check_count, check_duration, check_level, check_pool, default_pool
from jetq.model.definitions.keywords import CallOptions, Condition, Seconds, TaskKeywords, Unique
from jetq.model.job import DEFAULT_META, Level, Meta
from jetq.model.names import check_job_id, check_key, check_keyless_id, check_queue
from jetq.units import instant

if TYPE_CHECKING:
    from tenacity.wait import wait_base

    from jetq.model.definitions.rate import Rate
    from jetq.model.definitions.schedule import Schedule

__all__ = [
    "CARRIED",
    "MAX_ATTEMPTS",
    "NO_SETTINGS",
    "CallOptions",
    "CallSettings",
    "Condition",
    "Seconds",
    "TaskKeywords",
    "TaskOptions",
    "Unique",
    "call_settings",
    "check_identity",
    "due_settings",
    "effective_options",
    "task_options",
]

MAX_ATTEMPTS = 3
"""The runs in all of a job whose task does not say their number."""

CARRIED = ("max_attempts", "timeout", "result_ttl")
"""The options of a call that the job's worker needs. The job's `Meta` has them under the same names."""

_RESULT_TTL = 3600.0
_WHEN = ("cron", "every", "tz", "schedules")


class TaskOptions(Struct, frozen=True):
    """The checked options of a task: the keywords of `TaskKeywords` with the same names, with durations in seconds."""

    max_attempts: int = MAX_ATTEMPTS
    wait: float | wait_base | None = None
    dead_on: Condition = ()
    retry_on: Condition | None = None
    timeout: float | None = 300.0
    max_crashes: int = 3
    result_ttl: float | None = _RESULT_TTL
    expires: float | None = None
    key: str | Callable[..., str] | None = None
    unique: Unique = "done"
    run_in: Literal["loop", "thread", "process"] = "loop"
    schedules: tuple[Schedule, ...] = ()
    priority: Level = "normal"
    limit: int | None = None
    limit_per: str | Callable[..., str] | None = None
    rate: Rate | None = None


class CallSettings(Struct, frozen=True):
    """The checked options of one call: the keywords of the same names in `CallOptions`, with durations in seconds.

    A field that is None, or UNSET where None has a meaning of its own, leaves the choice to the task's option.
    """

    queue: str | None = None
    max_attempts: int | None = None
    timeout: float | UnsetType | None = UNSET
    result_ttl: float | UnsetType | None = UNSET
    expires: float | UnsetType | None = UNSET
    delay: float | None = None
    at: datetime | None = None
    id: str | None = None
    key: str | UnsetType | None = UNSET
    unique: Unique | None = None
    replace: bool = False
    max_wait: float | None = None
    throttle: float | None = None
    priority: Level | None = None

    @staticmethod
    def carried_by(meta: Meta) -> CallSettings:
        """Return the options that the job with this `Meta` carries of its call."""
        carried = _NONE_CARRIED if meta is DEFAULT_META else _carried(meta)
        return NO_SETTINGS if carried == _NONE_CARRIED else CallSettings(**dict(zip(CARRIED, carried, strict=True)))

    def carrying(self) -> Meta:
        """Return the `Meta` of a new job, with only the options of this call that its worker needs."""
        carried = _NONE_CARRIED if self is NO_SETTINGS else _carried(self)
        return DEFAULT_META if carried == _NONE_CARRIED else Meta(**dict(zip(CARRIED, carried, strict=True)))

    def or_else(self, others: CallSettings) -> CallSettings:
        """Return these options, and for each option that is not given the option of `others`.

        Raises DefinitionError if `others` have an `id`, which names one job.
        """
        if others.id is not None:
            raise DefinitionError("id names one job, so it cannot be an option of many", hint="give it to each .bind()")
        given = _written.of(self)
        if "delay" in given or "at" in given:
            others = replace(others, delay=None, at=None)
        return replace(others, **given)

    def due(self, now: float, instant: Callable[[float], float] = lambda at: at) -> float | None:
        """Return when the job is due, in unix seconds of the broker, whose time is `now`; None for at once.

        instant: turns a real time into a time of the broker's clock, which may be another clock in tests.
        """
        due = now
        if self.delay:
            due = now + self.delay
        elif self.at is not None:
            due = instant(self.at.timestamp())
        if self.max_wait is not None:
            due = min(due, now + self.max_wait)
        return due if due > now else None


NO_SETTINGS = CallSettings()
"""The options of a call that says nothing."""


# This works for `CallSettings` and `Meta`: an option that is not given is None or UNSET in both.
_carried = attrgetter(*CARRIED)
_NONE_CARRIED = _carried(DEFAULT_META)


class _Given:
    """Tells which of the fields `names` a call gives. Most calls give none, and that takes one comparison."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._read = attrgetter(*names)
        self._nothing = self._read(NO_SETTINGS)

    def of(self, settings: CallSettings) -> dict[str, Any]:
        """Return the fields that `settings` give, by name."""
        read = self._read(settings)
        if read == self._nothing:
            return {}
        triples = zip(self._names, read, self._nothing, strict=True)
        return {name: value for name, value, nothing in triples if value is not nothing}


_written = _Given(CallSettings.__struct_fields__)

# The key of a call is a text, and a task's key makes such texts. A call's key takes its place where keys are made.
_overriding = _Given(sorted({*CallSettings.__struct_fields__} & {*TaskOptions.__struct_fields__} - {"key"}))


def effective_options(options: TaskOptions, given: CallSettings) -> TaskOptions:
    """Return the options of one job: what its call has `given`, and for the rest the `options` of its task.

    Producers and workers join the two only here. `key` stays the task's.
    """
    own = {} if given is NO_SETTINGS else _overriding.of(given)
    return replace(options, **own) if own else options


def task_options(fn: Callable[..., Any], keywords: Mapping[str, Any], *, returns_none: bool) -> TaskOptions:
    """Return the options of the task made of `fn`. Raises DefinitionError for an unknown or impossible option.

    keywords: the keywords of `@task(...)`. returns_none: whether `fn` is annotated to return nothing.
    """
    schedules = _schedules(keywords)
    _refuse_unknown("@task", keywords, TaskKeywords.__annotations__, fn.__name__)
    chosen: dict[str, Any] = {"result_ttl": None if returns_none else _RESULT_TTL, "run_in": default_pool(fn)}
    for name, value in keywords.items():
        if name not in ("name", "queue", *_WHEN):
            chosen[name] = _CHECKS[name](name, value)
    if (ends_kept := chosen.pop("ends_kept", None)) is not None:
        if not returns_none or "result_ttl" in keywords:
            raise DefinitionError(
                "ends_kept is for a function annotated to return nothing",
                hint="result_ttl keeps a result, and with it that the job has ended",
            )
        chosen["result_ttl"] = ends_kept
    if "unique" in chosen and "key" not in chosen:
        raise DefinitionError(
            "unique needs a key: it says which jobs are one and the same", hint='@task(key="...", unique="running")'
        )
    check_pool(fn, chosen["run_in"])
    return TaskOptions(**chosen, schedules=schedules)


def call_settings(keywords: Mapping[str, Any], task: str = "task", written_at: WrittenAt = ".options") -> CallSettings:
    """Return the options of a call of `task`.

    Raises DefinitionError for an unknown or impossible option, and for options that contradict each other. keywords:
    the options as the user wrote them. written_at: where the user wrote them, for the error.
    """
    _refuse_unknown(written_at, keywords, CallOptions.__annotations__, task)
    if keywords.get("delay") is not None and keywords.get("at") is not None:
        raise DefinitionError("delay and at contradict each other: give one of them")
    if callable(keywords.get("key")):
        raise DefinitionError("the key of a call is a text", hint="a function of the arguments goes to @task(key=...)")
    settings = CallSettings(**{name: _CHECKS[name](name, value) for name, value in keywords.items()})
    if settings.max_wait is not None and not settings.replace:
        raise DefinitionError("max_wait bounds how long replace=True may put a job off, so it needs that")
    return settings


def due_settings(delay: Any, at: Any) -> CallSettings:
    """Return options that say only when a job is due.

    Raises DefinitionError unless exactly one of `delay` and `at` is given, with a possible value.
    """
    if (delay is None) == (at is None):
        raise DefinitionError("give delay, seconds from now, or at, an aware datetime: one of them")
    return call_settings({"at": at} if delay is None else {"delay": delay})


def check_identity(settings: CallSettings, *, has_key: bool) -> None:
    """Raise DefinitionError if a call without a key has an option that needs a key, or an id that ends in a key.

    has_key: whether the task has a key.
    """
    keyed = has_key if settings.key is UNSET else settings.key is not None
    if settings.id is not None and not keyed:
        check_keyless_id(settings.id)
    for name in ("replace", "throttle", "unique"):
        if getattr(settings, name) and not keyed:
            raise DefinitionError(
                f"{name} needs a key: it says which jobs are one and the same",
                hint=f'.options(key="...", {name}=...), or @task(key="...")',
            )


def _schedules(keywords: Mapping[str, Any]) -> tuple[Schedule, ...]:
    given = {name: keywords[name] for name in _WHEN if keywords.get(name) is not None}
    if not given:
        return ()
    from jetq.model.definitions.schedule import Schedule  # imported here, because most tasks have no schedule

    several = given.pop("schedules", None)
    if several is None:
        return (Schedule(**given),)
    if given:
        raise DefinitionError(f"{next(iter(given))} and schedules contradict each other: give one of them")
    if not isinstance(several, list | tuple) or not all(isinstance(each, Schedule) for each in several):
        raise DefinitionError("schedules takes a list of Schedule(...)")
    return tuple(several)


def _refuse_unknown(written_at: WrittenAt, keywords: Mapping[str, Any], known: Iterable[str], task: str) -> None:
    for name, value in keywords.items():
        if name in known:
            continue
        if name in TaskKeywords.__annotations__:
            raise _no_option(written_at, repr(name), written_option(f"{name}=...", "task", written_at, task))
        if name in CallOptions.__annotations__:
            raise _no_option(written_at, repr(name), written_option(f"{name}=...", "call", written_at, task))
        if (answer := option_answer(name, value, written_at, task)) is not None:
            raise _no_option(written_at, repr(name), answer)
        close = next(iter(get_close_matches(name, [*known, *OPTIONS], n=1)), None)
        if close is not None and close not in known:
            raise _no_option(written_at, f"{name!r}, nor {close!r}", option_answer(close, value, written_at, task))
        hint = f"it has {', '.join(known)}" if close is None else f"did you mean {close!r}?"
        raise DefinitionError(f"{written_at} has no option {name!r}", hint=hint)


def _no_option(written_at: WrittenAt, what: str, answer: str | None) -> DefinitionError:
    return DefinitionError(f"{written_at} has no option {what}: {answer}")


def _timeout(name: str, value: Any) -> float | None:
    if value is None:
        return None
    checked = check_duration(name, value)
    if checked == 0:
        raise DefinitionError(f"{name} must be more than 0 s, or None for no bound")
    return checked


def _ttl(name: str, value: Any) -> float | None:
    if value is None:
        return None
    checked = check_duration(name, value)
    if checked < 1:
        raise DefinitionError(f"{name} must be 1 s or more, or None to keep no result; got {checked:g}")
    return checked


def _wait(name: str, value: Any) -> float | wait_base:
    if isinstance(value, int | float | timedelta):
        return check_duration(name, value)
    from tenacity.wait import wait_base  # imported here: this takes a good part of the time of jetq's own import

    return value if isinstance(value, wait_base) else check_duration(name, value)


def _exceptions(name: str, value: Any) -> Condition:
    if callable(value) and not isinstance(value, type):
        _check_condition(name, value)
        return cast(Condition, value)
    classes = value if isinstance(value, tuple) else (value,)
    for each in classes:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise DefinitionError(
                f"{name} takes exception classes, not {each!r}",
                hint=f"a class, a tuple of classes, or one function: {name}=lambda error: ...",
            )
    return classes


def _check_condition(name: str, value: Callable[..., Any]) -> None:
    if inspect.iscoroutinefunction(value):
        raise DefinitionError(f"{name} takes a function that answers at once, and {value!r} is async")
    try:
        inspect.signature(value).bind(BaseException())
    except TypeError as error:
        raise DefinitionError(
            f"{name} takes a function of the exception alone, and {value!r} is not: {error}"
        ) from None
    except ValueError:  # a function written in C may have no signature
        return


def _run_in(name: str, value: Any) -> str:
    if value not in ("loop", "thread", "process"):
        raise DefinitionError(f"run_in must be 'loop', 'thread' or 'process', not {value!r}")
    return str(value)


def _at(name: str, value: Any) -> datetime | None:
    if not isinstance(value, datetime):
        raise DefinitionError(f"{name} takes an aware datetime, not {type(value).__name__}")
    try:
        return instant(value, name).astimezone(UTC)
    except ValueError as error:
        raise DefinitionError(str(error)) from None


def _key(name: str, value: Any) -> str | Callable[..., str] | None:
    if value is None or callable(value):
        return cast("Callable[..., str] | None", value)
    return check_key(value)


def _limit_per(name: str, value: Any) -> str | Callable[..., str]:
    if callable(value):
        return cast(Callable[..., str], value)
    if not isinstance(value, str) or not value:
        raise DefinitionError(f"{name} is the name of a parameter, like 'customer_id', not {value!r}")
    return value if "{" in value else f"{{{value}}}"


def _rate(name: str, value: Any) -> Rate:
    from jetq.model.definitions.rate import parse_rate

    try:
        return parse_rate(value)
    except ValueError as error:
        raise DefinitionError(str(error)) from None


def _unique(name: str, value: Any) -> str:
    if value not in ("done", "running"):
        raise DefinitionError(f"{name} must be 'done' or 'running', not {value!r}")
    return str(value)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise DefinitionError(f"{name} is True or False, not {value!r}")
    return value


def _period(name: str, value: Any) -> float:
    checked = check_duration(name, value)
    if checked < 1:
        raise DefinitionError(f"{name} must be 1 s or more, not {checked:g}")
    return checked


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "queue": lambda _, value: check_queue(value),
    "id": lambda _, value: check_job_id(value),
    "max_attempts": check_count,
    "max_crashes": check_count,
    "timeout": _timeout,
    "result_ttl": _ttl,
    "ends_kept": _period,
    "wait": _wait,
    "dead_on": _exceptions,
    "retry_on": _exceptions,
    "run_in": _run_in,
    "delay": check_duration,
    "at": _at,
    "expires": _timeout,
    "priority": lambda _, value: check_level(value),
    "key": _key,
    "unique": _unique,
    "replace": _flag,
    "max_wait": _period,
    "throttle": _period,
    "limit": check_count,
    "limit_per": _limit_per,
    "rate": _rate,
}
