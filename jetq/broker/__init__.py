"""The port: the only verbs jetq may use on the outside world.

Two implementations, `jetq.jetstream` and `jetq.memory`, pass one contract suite (`tests/integration/contract/`).
The port is the project's own seam, not a plugin interface: it changes as jetq needs.

No verb holds up those who store and take jobs, however many stand. On JetStream three rules see to that, measured in
`jetq.jetstream.streams.reading` and held by tests/integration/queues/test_lookups.py: a get with a filter that many
messages match begins above the stream's first message, or above what was delivered; nothing that stands in the
jobs is asked for by `batch`, `multi_last` or `subjects_filter`; and what reads many gets them by sequence, several
under way.

Errors, on every verb: BrokerUnavailable when there is no connection, NotStored when a write's fate is unknown after
`timeout`, Rejected when it was refused, NotSent when no connection came. What a verb gave up is not done later. A verb
never hangs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from jetq.broker.cells import Shared
from jetq.errors import BrokerError
from jetq.model.dead_letter import DeadEntry, DeadLetter
from jetq.model.deployment_facts import Drift, Survey
from jetq.model.job import Debounce, Delivery, Found, JobRecord, Level, Stored, Terms
from jetq.model.queue_info import QueueInfo
from jetq.model.result import ResultRecord
from jetq.model.schedule import Mark, ScheduleRecord, StoredSchedule, Ticked

__all__ = ["Broker", "Feed", "Line", "always"]


class Feed(Protocol):
    """A flow of deliveries from one queue to one worker."""

    def ask(self, slots: int) -> None:
        """Let up to `slots` further deliveries come in all: those still under way count, so asking again is no more.

        Asking for fewer than are under way takes nothing back. What stays unanswered for 10 s may shrink to one, as
        `asked` then shows. Does not block.
        """
        ...

    @property
    def asked(self) -> int:
        """Deliveries asked for and not yet arrived."""
        ...

    @property
    def left(self) -> int | None:
        """How many jobs of its queue or level were left for others to ask for when it last heard, which is with each
        job; None if it does not know. Of a feed with `on_clear` 0 only while it would get the next one."""
        ...

    @property
    def trouble(self) -> str | None:
        """Why nothing can arrive at the moment; None if it can, as far as is known."""
        ...

    def expect(self, by: str | None) -> None:
        """It was heard that the one with this name hands out now (see `Terms.by`), or None: nobody. Makes sure that
        somebody does, and asks again if it is another than this feed knew."""
        ...

    async def stop(self) -> None:
        """Ask for nothing more. When it returns no further delivery arrives, and none is under way to nobody."""
        ...


def always() -> bool:
    """Whether what nobody can give up is still wanted."""
    return True


class Line(Protocol):
    """A way to store jobs without the broker's loop, for one thread at a time."""

    used: int
    """How many jobs were sent over it."""

    is_open: bool
    """Whether it can be used again."""

    def store(self, job: JobRecord) -> Stored | None:
        """`Broker.send_job` that waits. None: it is surely not stored by this; the broker can. Raises NotStored if that
        is not known; the broker can say, asked to store it with the same id. Whatever interrupts it, e.g. a
        KeyboardInterrupt, closes the line and is raised."""
        ...

    def close(self) -> None:
        """Hang up; from any thread. Never raises; may be called twice."""
        ...


class Broker(Shared, Protocol):
    """One connection's view of the queues, results and dead letters of one namespace."""

    @property
    def lease(self) -> float:
        """Seconds a delivery stays with its holder without `extend`: the least of the queues fed or set up so far."""
        ...

    def now(self) -> float:
        """The broker's time, as far as this process knows it, in unix seconds: the one clock by which instants are
        made and compared. From any thread; costs nothing."""
        ...

    @property
    def knows_time(self) -> bool:
        """Whether `now` is the broker's time. Until it has answered something about a queue it is this machine's."""
        ...

    async def time(self, queue: str, *, make: bool = True) -> float:
        """`now`, once that is known: the broker is asked about `queue`, which is created on first use. Without `make`
        it is not, and of a queue that is missing nothing may be learnt."""
        ...

    async def confirm(self) -> None:
        """Return once every `finish` so far is known to have held, or after two seconds. Never raises."""
        ...

    async def close(self) -> None:
        """Confirm what is on its way, as far as that takes no longer than a moment, and disconnect. Never raises."""
        ...

    # --- producing

    async def setup(self, queue: str, *, levels: bool = False) -> Sequence[Drift]:
        """Create what `queue` needs where it is missing; report, and leave alone, what stands and differs. With
        `levels` it gets those too, as it does with the first job of high or low priority.

        Raises TopologyError if something of that name stands that jetq does not own.
        """
        ...

    async def enqueue(
        self,
        job: JobRecord,
        *,
        due: float | None = None,
        timeout: float | None = None,
        debounce: Debounce | None = None,
    ) -> Stored:
        """Store `job`, to be delivered at once or from `due` (unix seconds) on, and never earlier.

        The same id again is answered "existing", and not stored, while a job of that id is scheduled, queued or
        running, and within two minutes after it was stored; "new" if the id is `fresh`, for then it was this enqueue
        that stored it. "existing" is also a job with a key while one of its task and key is scheduled, queued or
        running, with that one's id; with `debounce` it takes that one's place if it is scheduled for later than the
        next two seconds, or raises NewerVersion.
        Creates the queue on first use. `timeout` in seconds; None takes the broker's own.
        """
        ...

    def send_job(
        self, job: JobRecord, told: Callable[[Stored | BrokerError], None], wanted: Callable[[], bool] = always
    ) -> bool:
        """`enqueue` of a fresh job that is due at once and has no key, without waiting: `told` is called with what that
        would return or raise. Once it is not `wanted` any more it is not sent again.

        It is called later, on this loop, and never in here. False, and nothing is sent, if that cannot be done without
        waiting now: `enqueue` can, or says why not.
        """
        ...

    async def open_line(self) -> Line | None:
        """A line for the threads of this process; None if there is no such thing here. Raises BrokerUnavailable."""
        ...

    async def enqueue_many(
        self,
        jobs: Sequence[JobRecord],
        *,
        due: float | None = None,
        timeout: float | None = None,
        debounce: Debounce | None = None,
    ) -> Sequence[Stored | Exception]:
        """`enqueue` for each, pipelined; one answer or error per job, in order."""
        ...

    async def throttle(self, job: JobRecord, period: float) -> str | None:
        """Claim the next `period` seconds (whole ones, at least one) of the job's key for it. The id of the job that
        has them if another does, else None."""
        ...

    async def unthrottle(self, job: JobRecord) -> None:
        """Give such a claim back: the job was not stored."""
        ...

    async def move(self, found: Found, due: float) -> bool:
        """Give a scheduled job another due time. False if it is due within two seconds, or not scheduled any more.
        Raises NewerVersion."""
        ...

    async def release(self, found: Found) -> bool:
        """Make a scheduled job ready now, also one that is overdue. False if it is about to become ready by itself, or
        not scheduled any more."""
        ...

    # --- working

    async def levels(self, queue: str) -> bool:
        """Whether `queue` has levels: jobs of high and low priority, each with a feed of its own."""
        ...

    async def feed(
        self,
        queue: str,
        deliver: Callable[[Delivery], None],
        *,
        level: Level = "normal",
        on_clear: Callable[[], None] | None = None,
    ) -> Feed:
        """Start a flow of one level from `queue`. `deliver` is called on this loop, must not block, and decides
        nothing. So is `on_clear`, when the feed hears that nothing is left of its level; for queues with levels only.

        Survives restarts of the broker: what was asked for is asked again. Creates the queue on first use.
        """
        ...

    def finish(self, delivery: Delivery) -> None:
        """The job is settled: remove it. Returns at once; a removal lost with the connection is repeated until it held.

        Only after what the outcome stores is stored.
        """
        ...

    async def reschedule(self, delivery: Delivery, job: JobRecord, due: float) -> bool:
        """Store `job`, the next attempt of `delivery`, for `due`. False if something newer of its id stands already,
        or the delivery's own message is gone (its job was cancelled): nothing is stored then. `finish` either way."""
        ...

    async def give_back(self, delivery: Delivery, job: JobRecord) -> None:
        """Put the delivery back as `job`, to be handed out at once, its count forgotten; also settles it."""
        ...

    async def put_off(self, delivery: Delivery, after: float) -> None:
        """Leave the delivery's message where it is, to be handed out again in `after` seconds, its count higher; sooner
        if this is lost with the connection. It is not held any more."""
        ...

    async def bury(self, delivery: Delivery, letter: DeadLetter) -> None:
        """Store the dead letter with the delivery's bytes, once however often it is repeated. Then `finish`."""
        ...

    async def superseded(self, delivery: Delivery) -> bool:
        """Whether something newer of this job's id is stored, or this delivery was settled: dead, or with a result."""
        ...

    async def starts(self, delivery: Delivery) -> int:
        """How many starts of this delivery's message are on record."""
        ...

    async def record_start(self, delivery: Delivery, starts: int) -> None:
        """Put on record that this delivery's message was started `starts` times, before it is started again."""
        ...

    async def erase_starts(self, delivery: Delivery) -> None:
        """Forget the recorded starts."""
        ...

    async def extend(self, deliveries: Iterable[Delivery]) -> None:
        """Renew the leases from now on. Returns once the broker confirmed them; raises if it did not.

        Nothing is kept for later: without a connection it raises. What arrives late may renew the lease of the next
        holder, so who calls this believes a confirmation only if it came before the old lease's end.
        """
        ...

    async def terms(self, queue: str, level: Level) -> Terms | None:
        """The terms as they stand at the broker now; None if nobody hands out any more."""
        ...

    # --- results

    async def put_result(self, result: ResultRecord, ttl: float, *, unless_kept: bool = False) -> bool:
        """Keep `result` for `ttl` seconds (at least one) and push it to whoever waits for it.

        False, and nothing is stored, if one of that queue and id is kept already and `unless_kept`.
        """
        ...

    def send_result(self, result: ResultRecord, ttl: float, told: Callable[[BrokerError | None], None]) -> bool:
        """`put_result` without waiting: `told` is called once it is stored, with None, or with what kept it from that.

        It is called later, on this loop, and never in here. False, and nothing is sent, if that cannot be done without
        waiting now: `put_result` can, or says why not.
        """
        ...

    async def get_result(self, queue: str | None, id: str) -> ResultRecord | None:
        """The result kept for job `id` of `queue`, of any queue for None; None if there is none.

        Of jobs of the same id in several queues the result of the one that ended last is kept, and no other.
        """
        ...

    async def wait_result(self, queue: str, id: str, timeout: float) -> ResultRecord | None:
        """The result of job `id` of `queue` as soon as it is there; None after `timeout` seconds."""
        ...

    # --- looking and mending

    async def find(self, queue: str, id: str) -> Found | None:
        """Job `id` as it stands in `queue`, scheduled or queued; None if it is not there."""
        ...

    async def standing(
        self, queue: str, *, task: str | None = None, key: str | None = None, limit: int | None = None
    ) -> Sequence[Found]:
        """The jobs of `queue`, of one task or key token if given, in the order they were stored, at most `limit`."""
        ...

    async def overdue(self, queue: str, after: int) -> tuple[Sequence[Found], int]:
        """Scheduled jobs that the broker failed to make ready half a minute ago or more, of some hundreds whose
        sequences are above `after`; and after which to look on, 0 once all were seen."""
        ...

    @property
    def firing(self) -> float:
        """Seconds around its due time in which a scheduled job that is removed may become ready all the same."""
        ...

    async def remove(self, queue: str, sequence: int) -> bool:
        """Remove one message, whoever holds it. False if it is gone already."""
        ...

    async def purge(self, queue: str) -> int:
        """Remove every job that waits, scheduled or queued; how many. What runs ends, and is not run again."""
        ...

    async def pause(self, queue: str, until: float | None = None) -> None:
        """Hand out nothing of `queue` until then (unix seconds), or until `resume`. Outlasts restarts."""
        ...

    async def resume(self, queue: str) -> None:
        """End a pause. One that was not paused stays so."""
        ...

    async def remove_queue(self, queue: str) -> bool:
        """Remove a queue with its recurring schedules and all else that belongs to it. Does not ask whether somebody
        serves it.

        False, and it is as it was, if a job or a dead letter stands in it. Whoever stores one meanwhile makes the queue
        anew, or is told that it was not stored. A removal that is cut short leaves a queue that takes no jobs, and is
        to be repeated. Raises TopologyError if something of that name stands that jetq does not own.
        """
        ...

    async def queues(self) -> Sequence[QueueInfo]:
        """All queues of the namespace, by name."""
        ...

    async def survey(self, tasks: Mapping[str, str | None]) -> Survey:
        """What stands beneath jetq, without changing it: all queues, and those of `tasks`, each with a task of its own
        whose subjects are tried, or None."""
        ...

    async def dead(
        self, queue: str, *, id: str | None = None, task: str | None = None, after: int = 0, limit: int | None = None
    ) -> Sequence[DeadEntry]:
        """Dead letters of `queue`, oldest first, those whose sequence is above `after`, at most `limit`, of one job or
        task if given."""
        ...

    async def replay(self, entry: DeadEntry, job: JobRecord) -> bool:
        """Put `job`, made of `entry`, back into its queue, then drop the kept result and the dead letter, with older
        ones of that job.

        False, and nothing is changed, if a job of that id or key stands in the queue already. Raises PayloadTooLarge
        for other arguments than those of `entry` if they are more than may be enqueued.
        """
        ...

    async def purge_dead(self, queue: str, *, id: str | None = None, task: str | None = None) -> int:
        """Drop dead letters, of one job or task if given; how many."""
        ...

    async def drop_dead(self, entry: DeadEntry) -> bool:
        """Drop just this dead letter. False if it is gone already."""
        ...

    async def put_dead(self, entry: DeadEntry) -> bool:
        """Store a dead letter that was read from elsewhere, as the newest of the queue that it names. Makes the queue.

        False, and nothing is stored, if it stands there already: of the same job, message and time of death. It says
        of no delivery here that it was settled, because its sequence may be another server's. Raises PayloadTooLarge.
        """
        ...

    # --- recurring schedules

    async def put_schedule(self, record: ScheduleRecord, body: bytes, expected: int) -> bool:
        """Store a schedule, which ticks from then on unless it is paused. False, and nothing is changed, if what stands
        under its name has not the sequence `expected`; 0 stands for nothing. Raises Rejected if the broker cannot read
        its pattern or zone. Creates the queue on first use."""
        ...

    async def wake_schedule(self, stored: StoredSchedule) -> bool:
        """Set up a schedule anew that ceased to tick. False if a tick of it waits, or it was changed or removed."""
        ...

    async def get_schedule(self, queue: str, name: str) -> StoredSchedule | None:
        """The schedule of that name, or None. Raises NewerVersion."""
        ...

    async def schedules(self, queue: str) -> Sequence[StoredSchedule]:
        """All schedules of `queue` that can be read, by name."""
        ...

    async def remove_schedule(self, stored: StoredSchedule) -> bool:
        """Remove a schedule with its mark and the ticks that wait. False if it was written anew or removed since."""
        ...

    async def ticked(self, queue: str, name: str) -> Mark:
        """Which of its ticks became jobs."""
        ...

    async def store_tick(
        self, record: ScheduleRecord, ticked: Ticked, expected: int, job: JobRecord | None, due: float | None
    ) -> bool:
        """Store which ticks became jobs in the place of the mark `expected`, and the job that one became, if any, for
        `due` or at once: both or neither. False, and nothing is changed, if another mark stands, or a job of that id or
        unique key does."""
        ...

    # --- the fleet

    async def mark_cancelled(self, queue: str, id: str) -> None:
        """Put on record for a minute that job `id` is cancelled, and tell the workers of its queue."""
        ...

    async def unmark_cancelled(self, queue: str, id: str) -> None:
        """Take that back: the job had ended otherwise, and may be replayed."""
        ...

    async def watch_cancelled(self, queue: str, on_mark: Callable[[str, bool], None]) -> None:
        """Call back with the id of every job that is marked (True) or unmarked (False), those marked by now at once,
        also after the connection was lost. An id may come more than once."""
        ...

    async def ask(self, queue: str, question: bytes, timeout: float, *, enough: int | None = None) -> Sequence[bytes]:
        """What the live workers of `queue` answer within `timeout` seconds, or the first `enough` of it."""
        ...

    async def answer(self, queue: str, respond: Callable[[bytes], bytes | None]) -> object:
        """Answer such questions, at the latest once anything this broker does next is done: `respond` must not block,
        and returns None for no answer."""
        ...
