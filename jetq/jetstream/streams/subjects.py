"""The fixed names that jetq uses in JetStream: streams, consumers and subjects of one namespace, and how they are
read."""

from __future__ import annotations

import re
from functools import lru_cache

from jetq.model.job import Level
from jetq.model.names import NO_KEY, key_of
from jetq.model.oversized import KEPT

__all__ = [
    "ACK_PREFIX", "CLOSED", "Subjects", "ack_fields", "job_tokens", "level_of", "task_token", "tick_of",
]  # fmt: skip

CLOSED = ":closed"
"""The end of the subjects of a stream while its queue is removed. No schedule or task has a name like this."""

ACK_PREFIX = "$JS.ACK."
_TOKEN = re.compile(r"[A-Za-z0-9_:~=-]{1,256}")
_KINDS = frozenset({"run", "run-high", "run-low", "later"})
"""The third tokens of the subjects on which jobs are stored."""


def task_token(task: str) -> str:
    """Return a task's name as one token of a subject; `-` for a name without a legal form."""
    token = task.replace(".", ":")
    return token if _TOKEN.fullmatch(token) else "-"


class Subjects:
    """The subjects and streams of one namespace. `jetq` is the default namespace, and adds no prefix to the streams."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self._stream_prefix = "" if namespace == "jetq" else f"{namespace.upper()}_"
        self.results = f"{self._stream_prefix}JETQ_RESULTS"
        self.state = f"{self._stream_prefix}JETQ_STATE"
        self.records = f"{self._stream_prefix}JETQ_RECORDS"
        self.flows = f"{self._stream_prefix}JETQ_FLOWS"
        self.counts = f"{self._stream_prefix}JETQ_COUNTS"
        self.results_subjects = f"{namespace}._result.>"
        self.state_subjects = f"{namespace}._state.>"
        self.records_subjects = f"{namespace}._record.>"
        self.flows_subjects = [f"{namespace}._{kind}.>" for kind in ("plan", "flow", "job")]
        self.counts_subjects = f"{namespace}._count.>"

    def jobs(self, queue: str) -> str:
        """Return the stream of a queue's jobs."""
        return f"{self._stream_prefix}{queue.upper()}_JOBS"

    def dead_letters(self, queue: str) -> str:
        """Return the stream of a queue's dead letters."""
        return f"{self._stream_prefix}{queue.upper()}_DLQ"

    def job_subjects(self, queue: str) -> list[str]:
        """Return all subjects of a queue's stream of jobs."""
        kinds = ("run", "run-high", "run-low", "later", "cron", "tick", "last")
        return [f"{self.namespace}.{queue}.{kind}.>" for kind in kinds]

    def delivered_subjects(self, queue: str) -> list[str]:
        """Return the subjects whose messages workers get. Schedules are not included: an ack would end a schedule."""
        return [f"{self.namespace}.{queue}.run.>", f"{self.namespace}.{queue}.tick.>"]

    def dead_subjects(self, queue: str) -> str:
        """Return a filter for all subjects of a queue's dead letters."""
        return f"{self.namespace}.{queue}.dead.>"

    def level_subjects(self, queue: str, level: Level) -> list[str]:
        """Return the subjects of a level that not every queue has."""
        return [f"{self.namespace}.{queue}.run-{level}.>"]

    def consumer(self, queue: str, level: Level) -> str:
        """Return the workers' consumer of a queue's level."""
        return queue if level == "normal" else f"{queue}-{level}"

    def run(self, queue: str, task: str, key: str, id: str, level: Level = "normal") -> str:
        """Return the subject on which a ready job is stored."""
        kind = "run" if level == "normal" else f"run-{level}"
        return f"{self.namespace}.{queue}.{kind}.{task.replace('.', ':')}.{key}.{id}"

    def later(self, queue: str, task: str, key: str, id: str) -> str:
        """Return the subject on which a job waits for its due time."""
        return f"{self.namespace}.{queue}.later.{task.replace('.', ':')}.{key}.{id}"

    def scheduled(self, queue: str) -> str:
        """Return a filter for all jobs of a queue that wait for their due times."""
        return f"{self.namespace}.{queue}.later.>"

    def anywhere(self, queue: str, task: str, key: str, id: str) -> str:
        """Return a filter for all messages that forbid storing this job, ready or not: of its key, or else of its
        id."""
        return f"{self.namespace}.{queue}.*.*.-.{id}" if key == NO_KEY else self.of_job(queue, task, key, "*")

    def of_job(self, queue: str, task: str, key: str, id: str) -> str:
        """Return a filter for this same job, ready or not."""
        return f"{self.namespace}.{queue}.*.{task.replace('.', ':')}.{key}.{id}"

    def by_id(self, queue: str, id: str) -> str:
        """Return a filter for the job `id` of any task. Its lookup is fast because the id tells the key."""
        return f"{self.namespace}.{queue}.*.*.{key_of(id)}.{id}"

    def jobs_of(self, queue: str, task: str | None, key: str | None, kind: str = "*") -> str:
        """Return a filter for a queue's jobs, of one task or key if given, of both kinds or only "run" or "later"."""
        return f"{self.namespace}.{queue}.{kind}.{task_token(task) if task else '*'}.{key or '*'}.*"

    def waiting_subjects(self, queue: str) -> list[str]:
        """Return all subjects of a queue on which jobs and ticks wait, and nothing else."""
        return [f"{self.namespace}.{queue}.{kind}.>" for kind in ("run", "run-high", "run-low", "later", "tick")]

    def recurring_subjects(self, queue: str) -> list[str]:
        """Return the subjects of a queue's recurring schedules and their marks."""
        return [f"{self.namespace}.{queue}.{kind}.>" for kind in ("cron", "last")]

    def cron(self, queue: str, name: str) -> str:
        """Return the subject on which a recurring schedule is stored."""
        return f"{self.namespace}.{queue}.cron.{task_token(name)}"

    def crons(self, queue: str) -> str:
        """Return a filter for all recurring schedules of a queue."""
        return f"{self.namespace}.{queue}.cron.>"

    def tick(self, queue: str, name: str) -> str:
        """Return the subject on which the server stores the ticks of a recurring schedule."""
        return f"{self.namespace}.{queue}.tick.{task_token(name)}"

    def last(self, queue: str, name: str) -> str:
        """Return the subject of the mark that says which ticks of a recurring schedule became jobs."""
        return f"{self.namespace}.{queue}.last.{task_token(name)}"

    def first(self, queue: str) -> str:
        """Return the subject of the message that is always the first of a queue's stream.

        No schedule is named like this.
        """
        return f"{self.namespace}.{queue}.last.:first"

    def closed_jobs(self, queue: str) -> list[str]:
        """Return the subjects of a queue's stream of jobs while the queue is removed: no job is ever stored on them.

        By the first subject the stream is found as that of a queue, and no worker gets anything that is stored on the
        last.
        """
        return [f"{self.namespace}.{queue}.run.{CLOSED}", f"{self.namespace}.{queue}.last.{CLOSED}"]

    def closed_dead(self, queue: str) -> list[str]:
        """Return the subject of a queue's dead letters while the queue is removed."""
        return [f"{self.namespace}.{queue}.dead.{CLOSED}"]

    def removed(self, stream: str) -> str:
        """Return the subject of the note that a stream is being deleted."""
        return f"{self.namespace}._state.removed.{stream}"

    def state_of(self, queue: str) -> list[str]:
        """Return filters for everything that the fleet keeps of a queue's jobs."""
        kinds = ("throttle", "cancelled", "start", "off", KEPT)
        return [f"{self.namespace}._state.{kind}.{queue}.>" for kind in kinds]

    def throttle(self, queue: str, task: str, key: str) -> str:
        """Return the subject of the claim that a key has had its job for this period."""
        return f"{self.namespace}._state.throttle.{queue}.{task_token(task)}.{key}"

    def cancelled(self, queue: str, id: str = "*") -> str:
        """Return the subject of the mark that a job is cancelled, on which workers also hear of it."""
        return f"{self.namespace}._state.cancelled.{queue}.{id}"

    def record(self, name: str) -> str:
        """Return the subject of a record of an application or plugin."""
        return f"{self.namespace}._record.{name}"

    def entry(self, name: str) -> str:
        """Return the subject of an entry of the ledger or of a count, or a filter for those that `name` matches."""
        return f"{self.namespace}._{name}"

    def entry_name(self, subject: str) -> str:
        """Return the name of the entry of the ledger that is stored on `subject`."""
        return subject[len(self.namespace) + 2 :]

    def cell(self, name: str) -> str:
        """Return the subject of a value that the fleet shares."""
        return f"{self.namespace}._state.{name}"

    def signal(self, topic: str) -> str:
        """Return the subject of the signals of `topic` between workers."""
        return f"{self.namespace}._ctl.{topic}"

    def questions(self, queue: str) -> str:
        """Return the subject on which the workers of a queue are asked."""
        return f"{self.namespace}._ctl.ask.{queue}"

    def dead(self, queue: str, task: str, id: str) -> str:
        """Return the subject on which a job's dead letter is stored."""
        return f"{self.namespace}.{queue}.dead.{task_token(task)}.{id}"

    def dead_filter(self, queue: str, task: str | None, id: str | None) -> str:
        """Return a filter for the dead letters of a queue, of one task or job if given."""
        return f"{self.namespace}.{queue}.dead.{task_token(task) if task else '*'}.{id or '*'}"

    def result(self, id: str) -> str:
        """Return the subject on which a job's result is stored, and on which its callers listen."""
        return f"{self.namespace}._result.{id}"

    def start(self, queue: str, id: str) -> str:
        """Return the subject on which the recorded starts of a job are kept."""
        return f"{self.namespace}._state.start.{queue}.{id}"


def job_tokens(subject: str, sequence: int) -> tuple[str, str, str, str]:
    """Return kind, task, key and id of a job's subject.

    A subject that jetq did not make gives an empty kind, an empty task and an id made of the message's sequence. So
    every message that arrives has a legal name for its dead letter. All parts are checked because they become parts of
    other subjects: a `*` or `>` there would reach further than one job, and the server would not store such a subject.
    A subject that is no UTF-8 arrives here only as a text under which nothing is stored.
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
    """Return the task's name that a token stands for; empty for a token that is no task's."""
    return token.replace(":", ".") if _TOKEN.fullmatch(token) else ""


def level_of(subject: str) -> Level:
    """Return the level of the job that is stored on `subject`, or that a schedule stores there."""
    kind = subject.split(".", 3)[2] if subject.count(".") > 2 else ""
    return "high" if kind == "run-high" else "low" if kind == "run-low" else "normal"


def tick_of(subject: str) -> str:
    """Return the name of the recurring schedule whose ticks are stored on `subject`; empty for another subject."""
    tokens = subject.split(".")
    return tokens[3].replace(":", ".") if len(tokens) == 4 and tokens[2] == "tick" else ""


def ack_fields(reply: str) -> tuple[int, int, int, int]:
    """Return delivery count, stream sequence and time stamp (ns) of an ack subject, and what the consumer had left by
    then.

    The subject is `$JS.ACK.<stream>.<consumer>.<count>.<seq>.<consumer seq>.<ns>.<pending>`, or has
    `<domain>.<account>` before the stream and perhaps a token at the end (nats-server 2.15 behind a feature flag).
    """
    tokens = reply.split(".")
    at = 4 if len(tokens) == 9 else 6
    return int(tokens[at]), int(tokens[at + 1]), int(tokens[at + 3]), int(tokens[at + 4])
