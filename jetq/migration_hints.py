"""The words of other job frameworks, and what a user of jetq writes in their place.

A user who types a word of another framework is told the line to write. The words are in tables, because the option of
jetq with the most similar spelling often means another thing. Sources: the manuals of Celery, Dramatiq, RQ, Huey, arq,
taskiq and Procrastinate.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from types import CodeType
from typing import Any, Literal, NamedTuple, NoReturn, TypeVar

__all__ = [
    "ATTRIBUTES",
    "CALL_OPTIONS",
    "COMMANDS",
    "NAMES",
    "OPTIONS",
    "WrittenAt",
    "absent_name",
    "answering",
    "argument_answer",
    "flag_answer",
    "option_answer",
    "setting_answer",
    "written_option",
]

T = TypeVar("T")

WrittenAt = Literal["@task", ".options", "app.send"]
"""The places where a user writes options."""


# --- options


class _Option(NamedTuple):
    """An option of jetq that means what the word means.

    where: where a user may write the option. ours: the option as text, like `name={value}`. example: a value to show
    where the user gave no number. note: what else the user must know.
    """

    where: Literal["task", "call", "both"]
    ours: str
    example: str = ""
    note: str = ""


class _None(NamedTuple):
    """jetq has no option for the word. instead: what takes its place."""

    instead: str


def _words(words: str, meaning: _Option | _None) -> dict[str, _Option | _None]:
    return dict.fromkeys(words.split(), meaning)


_COUNTS_RETRIES = frozenset("max_retries max_retry retries retry".split())
"""Words whose number does not count the first run. `max_attempts` counts the first run too."""

_FIRST_COUNTS = ", where the first run counts"
_IN_SECONDS = ", in seconds"
_JSON = _None("leave it out: arguments and results are JSON, by the annotations of the function")
_ALWAYS = _None("leave it out: a job is removed when it has ended, and runs again if its worker dies before")

OPTIONS: Mapping[str, _Option | _None] = {
    **_words("max_retries max_retry retries", _Option("both", "max_attempts={value}", "4", _FIRST_COUNTS)),
    **_words("retry", _Option("task", "max_attempts={value}", "4", _FIRST_COUNTS)),
    **_words("max_tries tries attempts", _Option("both", "max_attempts={value}", "3", _FIRST_COUNTS)),
    **_words("default_retry_delay retry_delay", _Option("task", "wait={value}", "30")),
    **_words(
        "retry_backoff retry_backoff_max retry_jitter backoff min_backoff max_backoff retry_kwargs retry_strategy",
        _Option("task", "wait=tenacity.wait_exponential(max=600)", note=", in seconds; without it they back off too"),
    ),
    **_words(
        "autoretry_for retry_for retry_when retry_on_exception",
        _Option("task", "retry_on=(OSError,)", note="; without it all are retried but those of dead_on"),
    ),
    **_words("dont_autoretry_for throws", _Option("task", "dead_on=(ValueError,)")),
    **_words(
        "time_limit soft_time_limit hard_time_limit job_timeout time_out timelimit",
        _Option("both", "timeout=300", note=_IN_SECONDS),
    ),
    **_words("rate_limit", _Option("task", 'rate="10/m"', note=", over all workers together")),
    **_words("concurrency concurrency_limit max_concurrency max_instances", _Option("task", "limit={value}", "5")),
    **_words("result_expires keep_result ttl", _Option("both", "result_ttl=3600", note=_IN_SECONDS)),
    **_words(
        "ignore_result store_results store_result",
        _Option("both", "result_ttl=None", note=", or result_ttl=3600 to keep it for an hour"),
    ),
    **_words("max_age expiration", _Option("both", "expires=60", note=_IN_SECONDS)),
    **_words("unique_key lock queueing_lock dedup_key once singleton", _Option("both", 'key="..."')),
    **_words("queue_name routing_key exchange default_queue _queue_name", _Option("both", 'queue="mail"')),
    **_words("countdown schedule_in defer_by _defer_by", _Option("call", "delay={value}", "60")),
    **_words("eta schedule_at scheduled_at defer_until _defer_until run_at", _Option("call", "at=when")),
    **_words("job_id task_id _job_id message_id", _Option("call", 'id="..."')),
    **_words("actor_name task_name", _Option("task", 'name="..."')),
    **_words("schedule crontab", _Option("task", 'cron="0 9 * * *"')),
    **_words("run_every interval", _Option("task", "every={value}", "30", _IN_SECONDS)),
    **_words("timezone", _Option("task", 'cron="0 9 * * *", tz="Europe/Berlin"')),
    **_words("bind pass_context context", _None("leave it out: current_job() in the task tells its id and attempt")),
    **_words("base", _None("leave it out: a task is a function; what is around all of them is Jetq(middleware=[...])")),
    **_words("link", _None("put the calls together: (add.bind(2, 3) | following).delay()")),
    **_words("link_error", _None("call back when a workflow has failed: add.bind(2, 3).on_failure(call).delay()")),
    **_words(
        "on_success on_failure on_retry before after",
        _None("leave it out: what is done after every task is Jetq(middleware=[...])"),
    ),
    **_words("serializer compression content_type typing pydantic accept_content", _JSON),
    **_words("acks_late acks_on_failure_or_timeout reject_on_worker_lost ack_type", _ALWAYS),
    **_words("track_started", _None("leave it out: job.status() tells it of each job")),
}
"""The words that users of other frameworks write as options of a task or of a call."""

CALL_OPTIONS = (
    "queue", "max_attempts", "timeout", "result_ttl", "expires", "delay", "at", "id", "priority", "key", "unique",
    "replace", "max_wait", "throttle",
)  # fmt: skip
"""The keywords of `.options(...)`."""

_GIVEN_TO_DELAY = frozenset(
    "countdown eta job_id task_id max_retries retries time_limit soft_time_limit job_timeout ignore_result rate_limit"
    " queue_name routing_key _queue_name _job_id _defer_by _defer_until unique_key".split()
)
"""The words of `OPTIONS` that count as options also among the arguments of `.delay`. Any other word there may be a
misspelt argument."""

_WRITTEN = {
    "@task": "@task({ours})",
    ".options": "{task}.options({ours}).delay(...)",
    "app.send": 'app.send("{name}", {{...}}, {ours})',
}


def option_answer(word: str, value: Any, written_at: WrittenAt, name: str) -> str | None:
    """Return the line to write in place of the option `word`, which a user gave at `written_at`; None for an
    unknown word.

    name: the name of the task. value: what the user gave; a number is in the line, as jetq counts it.
    """
    meaning = OPTIONS.get(word)
    if meaning is None or isinstance(meaning, _None):
        return None if meaning is None else meaning.instead
    ours = meaning.ours.format(value=_shown(word, value, meaning.example))
    return written_option(ours, meaning.where, written_at, name) + meaning.note


def written_option(ours: str, where: Literal["task", "call", "both"], written_at: WrittenAt, name: str) -> str:
    """Return the line to write with the options `ours`: at `written_at`, or elsewhere if `written_at` does not take
    them.

    where: whether definitions of tasks, calls or both take the options. name: the name of the task.
    """
    if where == "task":
        written_at = "@task"
    elif where == "call" and written_at == "@task":
        written_at = ".options"
    return _WRITTEN[written_at].format(ours=ours, task=_short(name), name=name)


def argument_answer(word: str, name: str) -> str | None:
    """Return the line to write if `word`, which a user gave to `.delay`, is an option; None if `word` is no option."""
    if word in ("args", "kwargs"):
        return f"{_short(name)}.delay(2, y=3)"
    if word in CALL_OPTIONS:
        return written_option(f"{word}=...", "call", ".options", name)
    return option_answer(word, None, ".options", name) if word in _GIVEN_TO_DELAY else None


def _shown(word: str, value: Any, example: str) -> str:
    """Return the text of a number as the option of jetq takes it, or `example` if `value` is no number from 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        return example
    return repr(value + 1 if word in _COUNTS_RETRIES else value)


def _short(name: str) -> str:
    return name.rpartition(".")[2]


# --- settings


_SETTINGS = {
    "servers": "broker broker_url broker_urls url urls nats nats_url dsn host hosts redis redis_url redis_settings",
    "namespace": "prefix key_prefix global_keyprefix",
    "ack_wait": "visibility_timeout lease",
    "connect_timeout": "broker_connection_timeout",
    "user": "username",
    "jetstream_domain": "domain",
    "replicas": "num_replicas",
}
_SETTING_OF = {word: setting for setting, words in _SETTINGS.items() for word in words.split()}

_NO_SETTING = {
    **dict.fromkeys(
        "backend result_backend results_backend".split(), "leave it out: results are kept in NATS, where the jobs are"
    ),
    **dict.fromkeys(
        "include imports modules functions autodiscover".split(), "jetq worker MODULE names the modules of the tasks"
    ),
    **dict.fromkeys("queue default_queue task_default_queue task_routes".split(), '@task(queue="mail")'),
    **dict.fromkeys("task_queues".split(), 'Jetq(queues=[Queue("mail", levels="strict")])'),
    **dict.fromkeys(
        "concurrency worker_concurrency max_jobs".split(),
        "jetq worker --concurrency 10, or JETQ_WORKER_CONCURRENCY=10",
    ),
    **dict.fromkeys("log_level loglevel".split(), "jetq worker --log-level info, or JETQ_WORKER_LOG_LEVEL=info"),
    **dict.fromkeys("worker_max_tasks_per_child".split(), "jetq worker --max-jobs 1000"),
    **dict.fromkeys("serializer task_serializer result_serializer accept_content".split(), _JSON.instead),
    **dict.fromkeys("task_acks_late task_reject_on_worker_lost".split(), _ALWAYS.instead),
    **dict.fromkeys(
        "max_retries max_tries retries max_attempts".split(), "@task(max_attempts=4), where the first run counts"
    ),
    **dict.fromkeys("timeout job_timeout task_time_limit task_soft_time_limit".split(), "@task(timeout=300)"),
    **dict.fromkeys("result_expires result_ttl keep_result".split(), "@task(result_ttl=3600)"),
    **dict.fromkeys("task_ignore_result".split(), "@task(result_ttl=None)"),
    **dict.fromkeys("timezone enable_utc".split(), '@task(cron="0 9 * * *", tz="Europe/Berlin"), for each schedule'),
    **dict.fromkeys("beat_schedule cron_jobs periodic_tasks schedule".split(), '@task(cron="0 9 * * *", tz="UTC")'),
    **dict.fromkeys("on_startup on_shutdown startup shutdown".split(), "Jetq(lifespan=...)"),
    **dict.fromkeys(
        "task_always_eager always_eager task_eager_propagates immediate".split(),
        "with jetq.testing.inline(app): each job runs at its .delay; for tests there are fixtures, see jetq.testing",
    ),
}


def setting_answer(word: str, known: Collection[str]) -> tuple[str | None, str | None]:
    """Return the setting that `word`, a setting of another framework, means, or else the line to write in its place.

    At most one of the two is given. Both are None if `word` is neither in the tables nor spelt like a word there, or is
    spelt most like one of the `known` settings. `word` itself is no `known` setting.
    """
    if word not in _SETTING_OF and word not in _NO_SETTING:
        close = get_close_matches(word, [*known, *_SETTING_OF, *_NO_SETTING], n=1)
        if not close or close[0] in known:
            return None, None
        word = close[0]
    return _SETTING_OF.get(word), _NO_SETTING.get(word)


# --- methods and attributes


_BIND = "{task}.bind(...)"
_CHAIN = "({task}.bind(...) | following).delay(), where the task `following` takes the value"
_GROUP = "group({task}.bind(each) for each in many).delay(), with group of jetq"
_CHORD = "(group({task}.bind(each) for each in many) | following).delay(), with group of jetq"
_EACH = "each({task}, many).delay(), with each of jetq; an item may be a list"
_SCHEDULED = '@task(cron="0 9 * * *", tz="UTC") or @task(every=30)'
_RUNS = "jetq worker MODULE, on the command line, or await Worker(app).run()"
_MADE = "app = Jetq(), or @task alone, which finds its app"
_JOB_OF_ID = 'app.job(id, queue="...")'
_ENDED = 'job.status() in ("succeeded", "dead", "cancelled", "expired")'


def _lines(lines: Mapping[str, str]) -> dict[str, str]:
    return {word: line for words, line in lines.items() for word in words.split()}


ATTRIBUTES: Mapping[str, Mapping[str, str]] = {
    "Task": _lines(
        {
            "apply_async send_with_options schedule configure kicker using set": "{task}.options(delay=60).delay(...)",
            "send enqueue defer kiq submit push": "{task}.delay(...)",
            "aenqueue asend defer_async": "{task}.adelay(...)",
            "delay_on_commit apply_async_on_commit": "transaction.on_commit(lambda: {task}.delay(...))",
            "s subtask message": _BIND,
            "si": "{task}.bind(...), which takes no value of the work before it",
            "apply run call_local": "{task}(...), which runs it here",
            "func original_func": "{task}.fn",
            "map chunks": _EACH,
            "starmap": "group({task}.bind(*each) for each in many).delay(), with group of jetq",
            "chain pipe pipeline then": _CHAIN,
            "group": _GROUP,
            "chord": _CHORD,
            "retry": "raise Retry(after=30), inside the task",
            "request": "current_job(), inside the task",
            "AsyncResult": _JOB_OF_ID,
        }
    ),
    "Call": _lines(
        {
            "apply_async enqueue send run": "app.enqueue(call)",
            "aenqueue asend": "await app.aenqueue(call)",
            "link then pipe": _CHAIN,
            "link_error on_error": "{task}.bind(...).on_failure(call).delay()",
            "set options clone": "{task}.options(delay=60).bind(...)",
            "apply": "{task}(...), which runs it here",
        }
    ),
    "Work": _lines(
        {
            "apply_async send enqueue submit": "work.delay(), with id, key, expires, delay or at of the whole workflow",
            "link then pipe": "(work | following).delay(), where the task `following` takes the value",
            "link_error on_error": "work.on_failure(call).delay()",
        }
    ),
    "Workflow": _lines(
        {
            "get get_result wait_result return_value join join_native": "workflow.result(timeout=60)",
            "ready done finished successful succeeded failed state get_status": "workflow.status()",
            "children parent results completed_count": "workflow.steps()",
            "revoke abort terminate kill": "workflow.cancel()",
        }
    ),
    "Job": _lines(
        {
            "get get_result wait_result return_value join": "job.result(timeout=60)",
            "ready done finished is_finished": _ENDED,
            "successful succeeded": 'job.status() == "succeeded"',
            "failed is_failed": 'job.status() == "dead"',
            "state get_status": "job.status()",
            "revoke abort terminate kill delete": "job.cancel()",
            "forget": "leave it out: a result goes by itself after its result_ttl",
            "traceback exception exc_info": "job.info().errors",
            "date_done ended_at": "job.info().ended",
            "refresh reload": "job.info()",
            "retry requeue": "jetq dlq replay ID, on the command line, for a job that is dead",
            "task_id job_id message_id": "job.id",
            "children parent": "leave it out: a job has none, and the steps of a workflow are workflow.steps()",
        }
    ),
    "Jetq": _lines(
        {
            "send_task enqueue_job configure_task": 'app.send("tasks.add", {{"x": 2, "y": 3}})',
            "signature": 'app.call("tasks.add", {{"x": 2, "y": 3}})',
            "conf config": "app.settings, which Jetq(...), JETQ_* variables and jetq.toml set",
            "config_from_object config_from_envvar": "JETQ_* variables or jetq.toml are read by themselves",
            "autodiscover_tasks import_tasks": "jetq worker MODULE, on the command line, names the modules",
            "worker_main run_worker start run": _RUNS,
            "control": "jetq queue pause QUEUE or jetq job cancel ID, on the command line",
            "inspect": "jetq queue ls or jetq job show ID, on the command line",
            "AsyncResult": _JOB_OF_ID,
            "add_periodic_task on_after_configure on_after_finalize periodic_task periodic cron": (
                '@app.task(cron="0 9 * * *", tz="UTC"), or app.schedule("name", add.bind(2, 3), every=30)'
            ),
            "shared_task actor": "@app.task",
            "Task": "a task is a function; what is around all of them is Jetq(middleware=[...])",
            "close": "app.session.close()",
            "aclose": "await app.session.aclose()",
            "connect startup": "leave it out: an app connects at first use",
            "chain group chord": _CHORD.replace("{task}", "add"),
        }
    ),
}
"""Methods and attributes that users look for, by the name of the class where they look."""


class _ForeignName:
    """Takes the place of a missing attribute: getting the attribute raises an AttributeError with the line to write.

    This is a descriptor, because `__getattr__` would make every other attribute of the class slower to get.
    """

    def __init__(self, called: str, word: str, line: str) -> None:
        self._called = called
        self._word = word
        self._line = line

    def __get__(self, instance: object, owner: type) -> NoReturn:
        name = getattr(instance, "name", None) or getattr(instance, "task", None)
        line = self._line.format(task=_short(name) if isinstance(name, str) else "task")
        # Given the object, Python would look for an attribute with a similar spelling, and suggest that.
        raise AttributeError(f"{self._called} has no {self._word}: {line}", name=self._word, obj=None)


def answering(called: str) -> Callable[[type[T]], type[T]]:
    """Return a decorator of a class at which users look for methods of other frameworks.

    The decorator gives the class an answer for each word of `ATTRIBUTES[called]` that the class does not have.
    """
    lines = ATTRIBUTES[called]

    def own_names(self: object) -> list[str]:
        put = getattr(self, "__dict__", {})
        return [name for name in object.__dir__(self) if name not in lines or name in put]

    def add(cls: type[T]) -> type[T]:
        foreign = {word: _ForeignName(called, word, line) for word, line in lines.items() if not hasattr(cls, word)}
        for name, value in {**foreign, "__dir__": own_names}.items():
            setattr(cls, name, value)
        return cls

    return add


# --- what is imported


NAMES: Mapping[str, str] = _lines(
    {
        "Celery Huey RedisHuey SqliteHuey App ArqRedis create_pool Broker AsyncBroker": _MADE,
        "shared_task actor periodic_task": "@task, of jetq as well",
        "current_app app_or_default get_broker set_broker": "default_app()",
        "chain pipeline": _CHAIN.format(task="add"),
        "chord": _CHORD.format(task="add"),
        "chunks xmap xstarmap": _EACH.format(task="add"),
        "signature maybe_signature subtask": 'add.bind(2, 3), or app.call("tasks.add", {"x": 2, "y": 3})',
        "current_task get_current_job Context CurrentMessage": "current_job(), inside the task",
        "AsyncResult": _JOB_OF_ID,
        "ResultSet GroupResult": "group(...).delay() gives the handle of all of them: .result(timeout=60), .steps()",
        "crontab cron beat TaskiqScheduler PeriodicTask": _SCHEDULED,
        "signals Middleware": "Jetq(middleware=[...], lifespan=...)",
        "states": 'job.status(), which is a text, as "succeeded"',
        "run_worker SimpleWorker": _RUNS,
        "RetryStrategy Repeat": "@task(max_attempts=4, wait=30)",
        "SoftTimeLimitExceeded TimeLimitExceeded": "Interruption in a sync task, CancelledError in an async one",
        "Ignore Abort": 'raise Reject("why"), inside the task',
        "InMemoryBroker StubBroker MemoryHuey InMemoryConnector": "the fixture jetq_app, for tests; see jetq.testing",
    }
)
"""Names of other frameworks that users try to import from the package."""


def absent_name(name: str, asking: CodeType) -> NoReturn:
    """Raise AttributeError, with the line to write, for a `name` that the package does not have.

    asking: the code that takes the name from the package. Raises ImportError if the code is a `from jetq import name`
    of a known word, because that statement keeps no text of an AttributeError.
    """
    if name not in NAMES:
        raise AttributeError(f"module 'jetq' has no attribute {name!r}", name=name, obj=sys.modules["jetq"])
    message = f"jetq has no {name}: {NAMES[name]}"
    if (asking.co_filename, asking.co_name) == ("<frozen importlib._bootstrap>", "_handle_fromlist"):
        raise ImportError(message, name="jetq", path=sys.modules["jetq"].__file__)
    raise AttributeError(message, name=name, obj=None)


# --- the command line


COMMANDS: Mapping[str, str] = _lines(
    {
        "beat scheduler cron": '@task(cron="0 9 * * *") and jetq worker MODULE: schedules need no process of their own',
        "inspect monitor status info stats": "jetq queue ls, or jetq job show ID",
        "flower events dashboard": "jetq queue ls, jetq dlq list and jetq job show ID",
        "control revoke cancel": "jetq job cancel ID",
        "purge empty": "jetq queue purge QUEUE",
        "pause suspend": "jetq queue pause QUEUE",
        "resume": "jetq queue resume QUEUE",
        "drain": "jetq queue drain QUEUE",
        "ls list queues": "jetq queue ls",
        "show result": "jetq job show ID",
        "why": "jetq job why ID",
        "replay retry requeue": "jetq dlq replay ID",
        "multi": "jetq worker --processes 4 MODULE",
        "run start workers": "jetq worker MODULE",
        "send enqueue apply": "jetq call tasks.add 2 3",
        "report healthcheck health check": "jetq doctor",
        "acl": "jetq setup acl MODULE",
        "help": "jetq --help",
    }
)
"""First words of a command line that jetq does not have, and the commands that these words mean."""

_FLAGS: Mapping[str, Mapping[str, str]] = {
    "jetq": _lines(
        {
            "-A --app": "jetq worker MODULE; other commands take it last, like jetq queue ls -A MODULE",
            "-b --broker --result-backend": "NATS_URL=nats://127.0.0.1:4222",
            "--workdir": "cd DIRECTORY, and jetq there",
        }
    ),
    "jetq worker": _lines(
        {
            "-A --app": "jetq worker MODULE",
            "-l --loglevel": "jetq worker --log-level info MODULE",
            "-Q --queues": "jetq worker -q mail -q default MODULE",
            "-P --pool": 'jetq worker --processes 4 MODULE, or @task(run_in="process")',
            "-p -w --workers --autoscale": "jetq worker --processes 4 MODULE",
            "-t --threads": "jetq worker --concurrency 100 MODULE",
            "-B --beat -s --schedule": "jetq worker MODULE: schedules need no process of their own",
            "--max-tasks-per-child --maxtasksperchild": "jetq worker --max-jobs 1000 MODULE",
            "--max-memory-per-child": "jetq worker --max-memory 500 MODULE, in MiB",
            "--time-limit --soft-time-limit": "@task(timeout=300)",
            "--watch": "jetq worker --reload MODULE",
            "--purge": "jetq queue purge QUEUE",
            "--shutdown-timeout": "jetq worker --grace 25 MODULE, in seconds",
            "-b --broker": "NATS_URL=nats://127.0.0.1:4222 jetq worker MODULE",
            "-n --hostname --name": "leave it out: a worker is named by its host and process",
            "-E --events --task-events": "leave it out: jetq job show ID tells where a job is",
            "-O --prefetch-multiplier": "leave it out: a worker takes a job when a slot is free",
            "--without-gossip --without-mingle --without-heartbeat": "leave it out: workers do nothing of that kind",
            "-D --detach --pidfile -f --logfile": "leave it out: a service manager starts it and keeps its log",
        }
    ),
}
"""Options of the command line that jetq does not have, by the command to which users give them."""


def flag_answer(command: str, flag: str) -> str | None:
    """Return the line to write in place of `flag`, an option of a command like `jetq worker`; None if unknown."""
    return _FLAGS.get(command, {}).get(flag)
