"""The names jetq uses in JetStream (fixed): streams, consumers and subjects of one namespace, and reading them back."""

from __future__ import annotations

import re
from functools import lru_cache

from jetq.model.job import Level
from jetq.model.names import NO_KEY, key_of
from jetq.model.oversized import KEPT

__all__ = [
    "ACK_PREFIX", "CLOSED", "Subjects", "ack_fields", "api_prefix", "job_tokens", "level_of", "task_token", "tick_of",
]  # fmt: skip

CLOSED = ":closed"
"""How the subjects of a stream end while its queue is removed. No schedule or task has such a name."""

ACK_PREFIX = "$JS.ACK."
_TOKEN = re.compile(r"[A-Za-z0-9_:~=-]{1,256}")
_KINDS = frozenset({"run", "run-high", "run-low", "later"})
"""Where jobs stand."""


def task_token(task: str) -> str:
    """A task's name as one token of a subject; a name without a legal form becomes `-`."""
    token = task.replace(".", ":")
    return token if _TOKEN.fullmatch(token) else "-"


class Subjects:
    """The subjects and streams of one namespace. `jetq` is the default one and does not prefix the streams."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self._stream_prefix = "" if namespace == "jetq" else f"{namespace.upper()}_"
        self.results = f"{self._stream_prefix}JETQ_RESULTS"
        self.state = f"{self._stream_prefix}JETQ_STATE"
        self.records = f"{self._stream_prefix}JETQ_RECORDS"
        self.results_subjects = f"{namespace}._result.>"
        self.state_subjects = f"{namespace}._state.>"
        self.records_subjects = f"{namespace}._record.>"

    def jobs(self, queue: str) -> str:
        """The stream of a queue's jobs."""
        return f"{self._stream_prefix}{queue.upper()}_JOBS"

    def dead_letters(self, queue: str) -> str:
        """The stream of a queue's dead letters."""
        return f"{self._stream_prefix}{queue.upper()}_DLQ"

    def job_subjects(self, queue: str) -> list[str]:
        """All subjects of a queue's stream of jobs."""
        kinds = ("run", "run-high", "run-low", "later", "cron", "tick", "last")
        return [f"{self.namespace}.{queue}.{kind}.>" for kind in kinds]

    def delivered_subjects(self, queue: str) -> list[str]:
        """The subjects whose messages workers get. Schedules are not among them: acking one would end it."""
        return [f"{self.namespace}.{queue}.run.>", f"{self.namespace}.{queue}.tick.>"]

    def dead_subjects(self, queue: str) -> str:
        """All subjects of a queue's dead letters."""
        return f"{self.namespace}.{queue}.dead.>"

    def level_subjects(self, queue: str, level: Level) -> list[str]:
        """The subjects of a level that not every queue has."""
        return [f"{self.namespace}.{queue}.run-{level}.>"]

    def consumer(self, queue: str, level: Level) -> str:
        """The workers' consumer of a queue's level."""
        return queue if level == "normal" else f"{queue}-{level}"

    def run(self, queue: str, task: str, key: str, id: str, level: Level = "normal") -> str:
        """Where a ready job is stored."""
        kind = "run" if level == "normal" else f"run-{level}"
        return f"{self.namespace}.{queue}.{kind}.{task.replace('.', ':')}.{key}.{id}"

    def later(self, queue: str, task: str, key: str, id: str) -> str:
        """Where a job waits for its due time."""
        return f"{self.namespace}.{queue}.later.{task.replace('.', ':')}.{key}.{id}"

    def scheduled(self, queue: str) -> str:
        """All of these."""
        return f"{self.namespace}.{queue}.later.>"

    def anywhere(self, queue: str, task: str, key: str, id: str) -> str:
        """Wherever what stands in the way of storing this job stands, ready or not: any of its id, or of its key."""
        return f"{self.namespace}.{queue}.*.*.-.{id}" if key == NO_KEY else self.of_job(queue, task, key, "*")

    def of_job(self, queue: str, task: str, key: str, id: str) -> str:
        """Wherever this very job stands, ready or not."""
        return f"{self.namespace}.{queue}.*.{task.replace('.', ':')}.{key}.{id}"

    def by_id(self, queue: str, id: str) -> str:
        """Wherever the job `id` of any task stands. Fast because the id tells its key."""
        return f"{self.namespace}.{queue}.*.*.{key_of(id)}.{id}"

    def jobs_of(self, queue: str, task: str | None, key: str | None, kind: str = "*") -> str:
        """Wherever a queue's jobs stand, of one task or key if given; of `kind` "run" or "later" only those."""
        return f"{self.namespace}.{queue}.{kind}.{task_token(task) if task else '*'}.{key or '*'}.*"

    def waiting_subjects(self, queue: str) -> list[str]:
        """All subjects of a queue where jobs and ticks wait, and nothing else does."""
        return [f"{self.namespace}.{queue}.{kind}.>" for kind in ("run", "run-high", "run-low", "later", "tick")]

    def recurring_subjects(self, queue: str) -> list[str]:
        """Where a queue's recurring schedules and their markers stand."""
        return [f"{self.namespace}.{queue}.{kind}.>" for kind in ("cron", "last")]

    def cron(self, queue: str, name: str) -> str:
        """Where a recurring schedule stands."""
        return f"{self.namespace}.{queue}.cron.{task_token(name)}"

    def crons(self, queue: str) -> str:
        """Where all recurring schedules of a queue stand."""
        return f"{self.namespace}.{queue}.cron.>"

    def tick(self, queue: str, name: str) -> str:
        """Where the server puts the ticks of a recurring schedule."""
        return f"{self.namespace}.{queue}.tick.{task_token(name)}"

    def last(self, queue: str, name: str) -> str:
        """Where it stands which ticks of a recurring schedule became jobs."""
        return f"{self.namespace}.{queue}.last.{task_token(name)}"

    def first(self, queue: str) -> str:
        """Where the message stands that is the first of a queue's stream for ever. No schedule has such a name."""
        return f"{self.namespace}.{queue}.last.:first"

    def closed_jobs(self, queue: str) -> list[str]:
        """The subjects of a queue's jobs while it is removed: no job is ever stored there. By the first it is found as
        a queue, and on the last no worker gets anything."""
        return [f"{self.namespace}.{queue}.run.{CLOSED}", f"{self.namespace}.{queue}.last.{CLOSED}"]

    def closed_dead(self, queue: str) -> list[str]:
        """The subject of its dead letters then."""
        return [f"{self.namespace}.{queue}.dead.{CLOSED}"]

    def removed(self, stream: str) -> str:
        """Where it stands that a stream is being deleted."""
        return f"{self.namespace}._state.removed.{stream}"

    def state_of(self, queue: str) -> list[str]:
        """Where the fleet keeps something of a queue's jobs."""
        kinds = ("throttle", "cancelled", "start", "off", KEPT)
        return [f"{self.namespace}._state.{kind}.{queue}.>" for kind in kinds]

    def throttle(self, queue: str, task: str, key: str) -> str:
        """Where it stands that a key has had its job for this period."""
        return f"{self.namespace}._state.throttle.{queue}.{task_token(task)}.{key}"

    def cancelled(self, queue: str, id: str = "*") -> str:
        """Where it stands that a job is cancelled, and where workers hear of it."""
        return f"{self.namespace}._state.cancelled.{queue}.{id}"

    def record(self, name: str) -> str:
        """Where a record of an application or plugin stands."""
        return f"{self.namespace}._record.{name}"

    def cell(self, name: str) -> str:
        """Where a value that the fleet shares stands."""
        return f"{self.namespace}._state.{name}"

    def signal(self, topic: str) -> str:
        """Where workers tell one another of it."""
        return f"{self.namespace}._ctl.{topic}"

    def questions(self, queue: str) -> str:
        """Where the workers of a queue are asked."""
        return f"{self.namespace}._ctl.ask.{queue}"

    def dead(self, queue: str, task: str, id: str) -> str:
        """Where a job's dead letter is stored."""
        return f"{self.namespace}.{queue}.dead.{task_token(task)}.{id}"

    def dead_filter(self, queue: str, task: str | None, id: str | None) -> str:
        """The dead letters of a queue, of one task or job if given."""
        return f"{self.namespace}.{queue}.dead.{task_token(task) if task else '*'}.{id or '*'}"

    def result(self, id: str) -> str:
        """Where a job's result is stored, and where its callers listen."""
        return f"{self.namespace}._result.{id}"

    def start(self, queue: str, id: str) -> str:
        """Where the recorded starts of a job are kept."""
        return f"{self.namespace}._state.start.{queue}.{id}"


def api_prefix(domain: str | None) -> str:
    """Where the JetStream of that domain is asked; None is that of the server connected to."""
    return f"$JS.{domain}.API" if domain else "$JS.API"


def job_tokens(subject: str, sequence: int) -> tuple[str, str, str, str]:
    """Kind, task, key and id of a job's subject.

    A subject that is not one of jetq's making gives the empty task and an id made of its sequence, so that whatever
    arrives has a legal name for its dead letter. All parts are checked because they become parts of other subjects,
    where a `*` or `>` would reach further than one job, and which the server would not store; and because of a subject
    that is no UTF-8 only a text arrives here, under which nothing stands.
    """
    tokens = subject.split(".")
    if len(tokens) == 6:
        _, _, kind, token, key, id = tokens
        if kind in _KINDS and ((id.isalnum() and id.isascii()) or _TOKEN.fullmatch(id)):
            task = _task_of(token)
            if task and (key == NO_KEY or _TOKEN.fullmatch(key)):
                return kind, task, key, id
    return "", "", NO_KEY, f"stray-{sequence}"


@lru_cache(1024)
def _task_of(token: str) -> str:
    """The task's name that a token stands for; empty for a token that is none."""
    return token.replace(":", ".") if _TOKEN.fullmatch(token) else ""


def level_of(subject: str) -> Level:
    """The level of the job that stands on `subject`, or that a schedule puts there."""
    kind = subject.split(".", 3)[2] if subject.count(".") > 2 else ""
    return "high" if kind == "run-high" else "low" if kind == "run-low" else "normal"


def tick_of(subject: str) -> str:
    """The name of the recurring schedule whose ticks stand on `subject`; empty if it is no tick's."""
    tokens = subject.split(".")
    return tokens[3].replace(":", ".") if len(tokens) == 4 and tokens[2] == "tick" else ""


def ack_fields(reply: str) -> tuple[int, int, int, int]:
    """Delivery count, stream sequence and time stamp (ns) of an ack subject, and what the consumer had left by then.

    `$JS.ACK.<stream>.<consumer>.<count>.<seq>.<consumer seq>.<ns>.<pending>`, or with `<domain>.<account>` before the
    stream and perhaps a token at the end (nats-server 2.15 behind a feature flag).
    """
    tokens = reply.split(".")
    at = 4 if len(tokens) == 9 else 6
    return int(tokens[at]), int(tokens[at + 1]), int(tokens[at + 3]), int(tokens[at + 4])
