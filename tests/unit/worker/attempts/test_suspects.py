"""The turns of suspects: what stands on record when, and who runs beside whom."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from jetq import Jetq
from jetq.errors import BrokerError
from jetq.memory import MemoryBroker
from jetq.model.job import Delivery, JobRecord
from jetq.model.outcome import Dead, Released
from jetq.testing.faulty import Fault, faulty, raising
from jetq.worker.attempt import Attempt
from jetq.worker.attempts import suspects
from jetq.worker.attempts.suspects import Suspects

pytestmark = pytest.mark.anyio

app = Jetq()


@app.task(name="dies")
async def dies() -> None: ...


class Desk:
    """Suspects of one worker, on a broker in memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, seconds in (("_LOOK", 0.001), ("_FIRST_BACKOFF", 0.001)):
            monkeypatch.setattr(suspects, name, seconds)
        self.faults: list[Fault] = []
        self.broker = faulty(MemoryBroker(), self.faults)
        self.attempts: list[Attempt] = []
        self.admitted = True
        self.valid = True
        self.suspects = Suspects(self.broker, valid=lambda _: self.valid, held=lambda: self.attempts, admit=self._admit)

    def _admit(self, others: bool) -> None:
        self.admitted = others

    async def suspect(self, n: int, starts: int) -> Attempt:
        """One that was delivered, with so many starts on record."""
        deliveries: list[Delivery] = []
        await self.broker.enqueue(JobRecord(f"job-{n}", "dies", f"queue-{n}", b"{}"))
        feed = await self.broker.feed(f"queue-{n}", deliveries.append)
        feed.ask(1)
        await until(lambda: bool(deliveries))
        await self.broker.record_start(deliveries[0], starts)
        attempt = Attempt(deliveries[0], task=app.tasks["dies"])
        self.attempts.append(attempt)
        return attempt

    def lose_answers(self, times: int) -> None:
        """Lose those to the next so many records of a start."""
        self.faults.append(raising(lambda: BrokerError("no answer"), ["record_start"], times=times, after=True))

    async def starts(self, attempt: Attempt) -> int:
        return await self.broker.recorded_starts(attempt.delivery)

    def begin(self, attempt: Attempt) -> asyncio.Task[object]:
        """`begin` in a task of its own, as the worker has it."""

        async def begin() -> object:
            attempt.runner = asyncio.current_task()
            return await self.suspects.begin(attempt)

        return asyncio.create_task(begin())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(monkeypatch)


async def test_one_at_a_time_with_its_start_on_record_and_without_when_it_has_ended(desk: Desk) -> None:
    first, second = await desk.suspect(1, 0), await desk.suspect(2, 0)
    assert await desk.suspects.begin(first) is None
    beginning = desk.begin(second)
    await asyncio.sleep(0.01)
    assert (await desk.starts(first), await desk.starts(second), beginning.done()) == (1, 0, False)
    assert desk.admitted  # it was not its last
    await desk.suspects.acquit(first)
    desk.suspects.end(first)
    assert await beginning is None
    assert (await desk.starts(first), await desk.starts(second)) == (0, 1)
    desk.suspects.end(second)


async def test_the_last_start_waits_for_those_that_run_and_none_begins_beside_it(desk: Desk) -> None:
    other, suspect = await desk.suspect(1, 0), await desk.suspect(2, 1)
    beginning = desk.begin(suspect)
    await until(lambda: not desk.admitted)
    await asyncio.sleep(0.01)
    assert (await desk.starts(suspect), beginning.done()) == (1, False)
    desk.attempts.remove(other)
    assert await beginning is None
    assert (await desk.starts(suspect), desk.admitted) == (2, False)
    desk.suspects.end(suspect)
    assert desk.admitted
    outcome = await desk.suspects.begin(suspect)  # its worker did not die, but had it
    assert isinstance(outcome, Dead) and outcome.reason == "crashed"
    desk.suspects.end(suspect)


async def test_while_others_run_for_long_the_worker_goes_on_and_other_suspects_have_their_turn(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspects, "_PATIENCE", 0.02)
    other, suspect, next_one = await desk.suspect(1, 0), await desk.suspect(2, 1), await desk.suspect(3, 0)
    beginning = desk.begin(suspect)
    await until(lambda: not desk.admitted)
    await until(lambda: desk.admitted)
    assert await desk.suspects.begin(next_one) is None
    desk.suspects.end(next_one)
    desk.attempts[:] = [other, suspect]
    await until(lambda: not desk.admitted)
    desk.attempts.remove(other)
    assert await beginning is None
    assert not desk.admitted
    desk.suspects.end(suspect)


async def test_a_stop_gives_back_who_waits_to_run_alone_and_lets_others_in(desk: Desk) -> None:
    await desk.suspect(1, 0)
    suspect = await desk.suspect(2, 1)
    beginning = desk.begin(suspect)
    await until(lambda: not desk.admitted)
    suspect.release()
    assert await beginning == Released()
    assert (await desk.starts(suspect), desk.admitted) == (1, True)
    desk.suspects.end(suspect)


async def test_who_runs_for_long_is_taken_off_the_record_before_others_run_beside_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspects, "_LONGEST_TURN", 0.02)
    suspect, next_one = await desk.suspect(1, 1), await desk.suspect(2, 0)
    desk.attempts.remove(next_one)
    assert await desk.suspects.begin(suspect) is None
    assert await desk.starts(suspect) == 2
    await until(lambda: desk.admitted)
    assert await desk.starts(suspect) == 1
    assert await desk.suspects.begin(next_one) is None
    await desk.suspects.acquit(suspect)
    desk.suspects.end(suspect)
    assert await desk.starts(suspect) == 0
    desk.suspects.end(next_one)


async def test_a_record_whose_answer_is_lost_is_written_again_and_charges_nobody(desk: Desk) -> None:
    """Guarantee: a start that did not come about is not charged because the answer to its record was lost."""
    suspect = await desk.suspect(1, 1)
    desk.lose_answers(2)
    assert await desk.suspects.begin(suspect) is None
    desk.lose_answers(2)
    assert await desk.suspects.interrupt(suspect) is None
    assert (await desk.starts(suspect), desk.admitted) == (1, True)
    desk.lose_answers(1)
    desk.valid = False
    with pytest.raises(BrokerError):
        await desk.suspects.begin(suspect)
    desk.suspects.end(suspect)
    assert desk.admitted
