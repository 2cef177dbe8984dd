"""The contract of a broker: the ledger of workflows, with entries that are written once, and counts."""

from __future__ import annotations

import asyncio

import pytest

from jetq.broker.numbers import BATCH_LIMIT, STANDING_LIMIT
from jetq.errors import BrokerError, PayloadTooLarge
from jetq.model.cell import NewEntry
from tests.apps.staying import stays_so_for
from tests.integration.contract.world import World

pytestmark = pytest.mark.anyio

MARKS = "flow.life1.mark.fetch.0"


async def test_an_entry_is_read_as_it_was_written_last(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    assert await other.read_entry("plan.q.f", surely=True) is None
    assert await other.read_entry("plan.q.f") is None
    first = await broker.write_entry("plan.q.f", b"one")
    second = await broker.write_entry("plan.q.f", b"two")
    assert first is not None and second is not None and second > first
    for surely in (True, False):
        entry = await other.read_entry("plan.q.f", surely=surely)
        assert entry is not None
        assert (entry.name, entry.body, entry.sequence) == ("plan.q.f", b"two", second)
        assert abs(entry.stored_at - world.now()) < 60
        assert await other.read_entry("plan.q", surely=surely) is None
        assert await other.read_entry("plan.q.f.g", surely=surely) is None


async def test_the_newest_of_those_that_match_is_read(world: World) -> None:
    broker = await world.broker()
    for name in (
        "plan.q.f",
        "plan.mail.f",
        "plan.q.g",
        "flow.life1.page.a.0",
        "flow.life1.size.a",
        "flow.life2.size.a",
    ):
        await broker.write_entry(name, name.encode())
    await broker.write_entry("plan.q.f", b"again")

    async def newest(where: str) -> str | None:
        found = {
            None if entry is None else entry.name
            for entry in [await broker.read_entry(where, surely=surely) for surely in (True, False)]
        }
        (name,) = found
        return name

    assert await newest("plan.*.f") == "plan.q.f"
    assert await newest("plan.mail.*") == "plan.mail.f"
    assert await newest("flow.life1.>") == "flow.life1.size.a"
    assert await newest("flow.*.page.>") == "flow.life1.page.a.0"
    assert await newest("flow.>") == "flow.life2.size.a"
    assert await newest("flow.*") is None
    assert await newest("flow.life1.size.a.>") is None
    assert await newest("job.>") is None


async def test_an_entry_is_sent_without_waiting_and_its_sender_told(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    await broker.write_entry("flow.life1.size.a", b"")
    told: asyncio.Queue[int | BrokerError | None] = asyncio.Queue()
    assert broker.send_entry(f"{MARKS}.0.ok", b"1", told.put_nowait, on=f"{MARKS}.0.*")
    assert told.empty()
    sequence = await told.get()
    assert isinstance(sequence, int)
    entry = await other.read_entry(f"{MARKS}.0.ok", surely=True)
    assert entry is not None and (entry.body, entry.sequence) == (b"1", sequence)

    assert broker.send_entry(f"{MARKS}.0.bad", b"2", told.put_nowait, on=f"{MARKS}.0.*")
    assert await told.get() is None
    assert (await other.standing_entries(f"{MARKS}.0.*")).names == (f"{MARKS}.0.ok",)


async def test_an_entry_that_cannot_be_sent_at_once_is_not_sent_at_all(world: World) -> None:
    broker, told = await world.broker(), list[object]()
    await broker.write_entry("flow.life1.size.a", b"")
    assert not broker.send_entry(f"{MARKS}.0.ok", bytes(2 * 1024 * 1024), told.append, on=f"{MARKS}.0.*")
    with pytest.raises(ValueError, match="is no name"):
        broker.send_entry(f"{MARKS}.*", b"", told.append, on=f"{MARKS}.0.*")
    with pytest.raises(ValueError, match="is no filter"):
        broker.send_entry(f"{MARKS}.0.ok", b"", told.append, on=">")
    assert (await broker.standing_entries(f"{MARKS}.>")).names == ()
    assert told == []


async def test_whoever_waits_for_an_entry_is_told_of_it(world: World) -> None:
    """Guarantee: who waits asks once before an entry is written, and once after it."""
    broker, other = await world.broker(), await world.broker()
    asked = ("flow.life1.state.end", "flow.life1.state.*", "flow.life1.>", "flow.*.state.*")
    waiting = [asyncio.create_task(each.wait_entry(where, 60)) for where in asked for each in (broker, other)]
    elsewhere = asyncio.create_task(other.wait_entry("flow.life2.>", 60))
    longer = asyncio.create_task(other.wait_entry("flow.life1.state.end.>", 60))
    await stays_so_for(0.2, lambda: not any(each.done() for each in waiting))

    first = await broker.write_entry("flow.life1.state.end", b"1", expected=0, on="flow.life1.state.*")

    for entry in await asyncio.gather(*waiting):
        assert entry is not None and (entry.name, entry.body, entry.sequence) == ("flow.life1.state.end", b"1", first)
    assert not elsewhere.done() and not longer.done()
    assert await broker.write_entries([NewEntry("plan.q.f", b""), NewEntry("flow.life2.state.stop", b"2")])
    entry = await elsewhere
    assert entry is not None and (entry.name, entry.body) == ("flow.life2.state.stop", b"2")
    longer.cancel()


async def test_waiting_for_an_entry_that_stands_ends_at_once_and_in_vain_in_time(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    assert await other.wait_entry("flow.life1.state.*", 0.1) is None  # no ledger is there yet
    await broker.write_entry("flow.life1.state.end", b"1")
    entry = await other.wait_entry("flow.life1.state.*", 0)
    assert entry is not None and entry.body == b"1"
    assert await other.wait_entry("flow.life2.state.*", 0.1) is None
    assert await other.wait_entry("flow.life2.state.*", 0) is None


async def test_whoever_waits_is_not_told_of_what_was_refused(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    waiting = asyncio.create_task(other.wait_entry("flow.life1.state.*", 60))
    await world.sleep(0.1)
    assert await broker.write_entry("flow.life1.state.end", b"1", expected=10**6) is None
    await stays_so_for(0.2, lambda: not waiting.done())
    assert await broker.write_entry("flow.life1.state.end", b"2", expected=0) is not None
    entry = await waiting
    assert entry is not None and entry.body == b"2"


async def test_what_is_not_expected_is_refused_and_changes_nothing(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    sequence = await broker.write_entry("plan.q.f", b"1", expected=0)
    assert sequence is not None
    for expected in (0, sequence - 1, sequence + 1):
        assert await other.write_entry("plan.q.f", b"2", expected=expected, ttl=1) is None
    assert await other.write_entry("plan.q.g", b"2", expected=sequence) is None
    entry = await broker.read_entry("plan.q.f", surely=True)
    assert entry is not None and (entry.body, entry.sequence) == (b"1", sequence)
    assert await broker.read_entry("plan.q.g", surely=True) is None
    new = await other.write_entry("plan.q.f", b"3", expected=sequence)
    assert new is not None and new > sequence
    assert await broker.standing_entries("plan.>") == await other.standing_entries("plan.q.f")


async def test_an_expectation_may_be_of_all_that_a_filter_matches(world: World) -> None:
    broker = await world.broker()
    first = await broker.write_entry("plan.mail.f", b"1", expected=0, on="plan.*.f")
    assert first is not None
    assert await broker.write_entry("plan.post.f", b"2", expected=0, on="plan.*.f") is None
    assert await broker.write_entry("plan.post.f", b"2", expected=0) is not None
    newest = await broker.read_entry("plan.*.f", surely=True)
    assert newest is not None and newest.name == "plan.post.f"
    assert await broker.write_entry("plan.mail.f", b"3", expected=first, on="plan.*.f") is None
    assert await broker.write_entry("plan.mail.f", b"3", expected=newest.sequence, on="plan.*.f") is not None
    assert await broker.write_entry("flow.life1.state.end", b"", expected=0, on="flow.life1.state.*") is not None
    assert await broker.write_entry("flow.life1.state.stop", b"", expected=0, on="flow.life1.state.>") is None
    assert await broker.write_entry("flow.life2.state.stop", b"", expected=0, on="flow.life2.state.*") is not None


async def test_of_many_who_write_once_one_writes(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    expected = 0
    for _ in range(2):
        writes = (
            each.write_entry("flow.life1.fed.a", b"%d" % n, expected=expected)
            for n, each in enumerate([broker, other] * 20)
        )
        (winner,) = [(n, sequence) for n, sequence in enumerate(await asyncio.gather(*writes)) if sequence is not None]
        entry = await broker.read_entry("flow.life1.fed.a", surely=True)
        assert entry is not None
        assert (entry.body, entry.sequence) == (b"%d" % winner[0], winner[1])
        expected = entry.sequence


async def test_of_two_ends_of_one_member_one_stands(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    writes = [
        each.write_entry(f"{MARKS}.{i}.{end}", b"", expected=0, on=f"{MARKS}.{i}.*")
        for i in range(30)
        for end, each in (("ok", broker), ("bad", other))
    ]
    answers = await asyncio.gather(*writes)
    for i in range(30):
        (sequence,) = [each for each in answers[2 * i : 2 * i + 2] if each is not None]
        entry = await broker.read_entry(f"{MARKS}.{i}.*", surely=True)
        assert entry is not None and entry.sequence == sequence
    assert len((await other.standing_entries(f"{MARKS}.*.*")).names) == 30


async def test_several_are_written_at_once(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    bad = await broker.write_entry(f"{MARKS}.7.bad", b"no", expected=0, on=f"{MARKS}.7.*")
    assert bad is not None
    last = await broker.write_entries(
        [
            NewEntry("flow.life1.state.end", b"failed", expected=0, on="flow.life1.state.*"),
            NewEntry(f"{MARKS}.7.bad", b"again", expected=bad),
            NewEntry("flow.life1.size.a", b"3"),
        ]
    )
    assert last is not None
    found = [await other.read_entry(name, surely=True) for name in ("flow.life1.state.*", f"{MARKS}.7.*")]
    assert [each and (each.body, each.sequence) for each in found] == [(b"failed", last - 2), (b"again", last - 1)]
    assert await other.standing_entries("flow.life1.size.*") == await broker.standing_entries("flow.life1.size.a")
    assert (await other.standing_entries("flow.life1.size.a")).sequence == last
    assert await broker.write_entries([NewEntry("flow.life1.size.b", b"", expected=0)]) == last + 1
    assert await broker.write_entries([NewEntry("flow.life1.size.b", b"", expected=0)]) is None


@pytest.mark.parametrize("refused", [0, 1, 2])
async def test_of_several_none_is_written_if_one_is_refused(world: World, refused: int) -> None:
    broker = await world.broker()
    stands = await broker.write_entry("flow.life1.fed.a", b"0")
    entries = [NewEntry(f"flow.life1.page.{n}", b"x", expected=0, on=f"flow.life1.page.{n}.>") for n in range(3)]
    entries[refused] = NewEntry(f"flow.life1.page.{refused}", b"x", expected=0, on="flow.life1.fed.*")
    assert await broker.write_entries(entries) is None
    standing = await broker.standing_entries("flow.>")
    assert (standing.names, standing.sequence) == (("flow.life1.fed.a",), stands)


async def test_expectations_of_several_are_about_what_stood_before(world: World) -> None:
    broker = await world.broker()
    entries = [
        NewEntry(f"{MARKS}.1.ok", b"", expected=0, on=f"{MARKS}.1.*"),
        NewEntry(f"{MARKS}.1.bad", b"", expected=0, on=f"{MARKS}.1.*"),
    ]
    assert await broker.write_entries(entries) is not None
    assert sorted((await broker.standing_entries(f"{MARKS}.>")).names) == [f"{MARKS}.1.bad", f"{MARKS}.1.ok"]
    assert await broker.write_entries(entries) is None


async def test_many_batches_at_once_are_all_written(world: World) -> None:
    brokers = [await world.broker(), await world.broker()]
    writes = [
        brokers[n % 2].write_entries([NewEntry(f"flow.life{n}.page.{k}", b"x" * 100, expected=0) for k in range(5)])
        for n in range(80)  # a server holds 50 at a time
    ]
    assert None not in await asyncio.gather(*writes)
    assert len((await brokers[0].standing_entries("flow.*.page.*")).names) == 400


async def test_standing_names_and_how_new_the_answer_is(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    assert await other.standing_entries("flow.>") == await broker.standing_entries("plan.f")
    assert (await other.standing_entries("flow.>")).sequence == 0
    for name in ("flow.life1.full.a.0", "flow.life1.full.a.1", "flow.life1.full.b.0", "flow.life10.full.a.0"):
        await broker.write_entry(name, b"")
    last = await broker.write_entry("plan.q.f", b"")
    standing = await other.standing_entries("flow.life1.full.a.*")
    assert sorted(standing.names) == ["flow.life1.full.a.0", "flow.life1.full.a.1"]
    assert standing.sequence == last
    assert (await other.standing_entries("flow.life1.full.a.1")).names == ("flow.life1.full.a.1",)
    assert (await other.standing_entries("flow.life1.full.c.*")).names == ()
    assert len((await other.standing_entries("flow.>")).names) == 4
    assert await broker.drop_entry(standing.sequence)
    assert (await other.standing_entries("plan.>")).names == ()
    assert (await other.standing_entries("plan.>")).sequence == last


async def test_a_question_whose_answer_is_too_old_is_asked_again(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    first = await broker.write_entry("flow.life1.full.a.0", b"")
    assert first is not None
    assert len((await broker.standing_entries("flow.>", at_least=first)).names) == 1
    asking = asyncio.create_task(broker.standing_entries("flow.life1.full.a.*", at_least=first + 1))
    for _ in range(3):  # by then the first answer has come
        await broker.standing_entries("flow.>")
    assert not asking.done()
    second = await other.write_entry("flow.life1.full.a.1", b"")
    standing = await asking
    assert len(standing.names) == 2
    assert standing.sequence == second


async def test_more_than_one_answer_can_name_is_an_error(world: World) -> None:
    broker = await world.broker()
    names = [f"job.a.1.memo.{n}" for n in range(STANDING_LIMIT + 1)]
    for start in range(0, len(names), BATCH_LIMIT):
        assert await broker.write_entries([NewEntry(name, b"") for name in names[start : start + BATCH_LIMIT]])
    with pytest.raises(BrokerError, match="100,001 entries match job"):
        await broker.standing_entries("job.a.>")
    last = await broker.read_entry(names[-1], surely=True)
    assert last is not None and await broker.drop_entry(last.sequence)
    assert len((await broker.standing_entries("job.a.>")).names) == STANDING_LIMIT
    assert await broker.purge_entries("job.a.>") == STANDING_LIMIT


async def test_an_entry_is_gone_after_its_time_and_one_that_replaced_it_is_not(world: World) -> None:
    broker = await world.broker()
    await broker.write_entry("job.a.1.memo.gone", b"1", ttl=0.4)
    await broker.write_entry("job.a.1.memo.stays", b"1", ttl=1)
    await broker.write_entry("job.a.1.memo.stays", b"2")
    await broker.write_entries(
        [NewEntry("job.b.1.memo.gone", b"", ttl=1), NewEntry("job.b.1.memo.stays", b"", ttl=600)]
    )
    assert len((await broker.standing_entries("job.>")).names) == 4
    async with asyncio.timeout(20):
        while len((await broker.standing_entries("job.>")).names) > 2:
            await world.sleep(0.1)
    assert sorted((await broker.standing_entries("job.>")).names) == ["job.a.1.memo.stays", "job.b.1.memo.stays"]
    assert await broker.write_entry("job.a.1.memo.gone", b"", expected=0) is not None
    stays = await broker.read_entry("job.a.1.memo.stays")
    assert stays is not None and stays.body == b"2"


async def test_counts_of_many_add_up(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    answers = await asyncio.gather(*(each.count_up("count.life1.fetch.0", 1) for each in [broker, other] * 50))
    assert sorted(answers) == list(range(1, 101))
    assert await broker.count_up("count.life1.fetch.0", 900) == 1000
    assert await broker.count_up("count.life1.fetch.0", 0) == 1000
    assert await broker.count_up("count.life1.fetch", 7) == 7
    assert await broker.count_up("count.life1.fetch.1", -2) == -2


async def test_only_the_version_of_that_sequence_is_dropped(world: World) -> None:
    broker = await world.broker()
    assert not await broker.drop_entry(1)
    old = await broker.write_entry("flow.life1.state.end", b"1")
    new = await broker.write_entry("flow.life1.state.end", b"2")
    assert old is not None and new is not None
    assert not await broker.drop_entry(old)
    assert await broker.read_entry("flow.life1.state.end", surely=True) is not None
    assert await broker.drop_entry(new)
    assert not await broker.drop_entry(new)
    assert await broker.read_entry("flow.life1.state.*", surely=True) is None
    assert await broker.write_entry("flow.life1.state.end", b"3", expected=new, on="flow.life1.state.*") is None
    assert await broker.write_entry("flow.life1.state.end", b"3", expected=0, on="flow.life1.state.*") is not None


async def test_a_purge_removes_one_life_and_no_other(world: World) -> None:
    broker = await world.broker()
    assert await broker.purge_entries("flow.life1.>") == 0
    assert await broker.purge_entries("count.life1.>") == 0
    for life in ("life1", "life2", "life10"):
        for name in (f"flow.{life}.page.a.0.0", f"flow.{life}.mark.a.0.0.ok", f"flow.{life}.state.end"):
            await broker.write_entry(name, b"")
        for name in (f"count.{life}.a", f"count.{life}.a.0"):
            await broker.count_up(name, 1)
    assert await broker.purge_entries("flow.life1.mark.*.0.>") == 1
    assert await broker.purge_entries("flow.life1.>") == 2
    assert await broker.purge_entries("flow.life1.>") == 0
    names = (await broker.standing_entries("flow.>")).names
    assert {name.split(".")[1] for name in names} == {"life2", "life10"} and len(names) == 6
    assert await broker.count_up("count.life1.a", 1) == 2
    assert await broker.purge_entries("count.life1.>") == 2
    assert [await broker.count_up(f"count.{life}.a", 1) for life in ("life1", "life2", "life10")] == [1, 2, 2]
    assert await broker.purge_entries("count.life2.a") == 1
    assert await broker.count_up("count.life2.a.0", 1) == 2


async def test_names_have_all_characters_that_ids_have(world: World) -> None:
    broker = await world.broker()
    name = "job.a-B_9:c~k=1.7.signal.tests:mail~-.x"
    assert await broker.write_entry(name, b"", expected=0, on="job.a-B_9:c~k=1.*.signal.tests:mail~-.*") is not None
    entry = await broker.read_entry("job.a-B_9:c~k=1.>")
    assert entry is not None and entry.name == name
    assert (await broker.standing_entries(name)).names == (name,)
    assert await broker.count_up("count.a-B:c~k=1.x", 1) == 1
    assert await broker.purge_entries("count.a-B:c~k=1.*") == 1
    assert await broker.purge_entries("job.a-B_9:c~k=1.>") == 1


BAD_NAMES = [
    "", "plan", "plan.", "plan.a.", ".plan.a", "plan..a", "plan.a b", "plan.a\r\nb", "plan.é", "state.a", "count.a",
    "plans.a", "plan.*", "plan.>", "plan.a*",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
async def test_what_is_no_name_is_refused(world: World, name: str) -> None:
    broker = await world.broker()
    with pytest.raises(ValueError, match="is no name of an entry"):
        await broker.write_entry(name, b"")
    with pytest.raises(ValueError, match="is no name of an entry"):
        await broker.write_entries([NewEntry("plan.q.f", b""), NewEntry(name, b"")])
    if name != "count.a":
        with pytest.raises(ValueError, match="is no name of a count"):
            await broker.count_up(name, 1)
    assert (await broker.standing_entries("plan.>")).names == ()


@pytest.mark.parametrize("where", ["plan", "*.a", ">", "plan.>.a", "plan.a>", "plan.a*.b", "plan.a b", "state.a", ""])
async def test_what_is_no_filter_is_refused(world: World, where: str) -> None:
    broker = await world.broker()
    with pytest.raises(ValueError, match="is no filter"):
        await broker.write_entry("plan.q.f", b"", expected=0, on=where)
    for ask in (broker.read_entry, broker.standing_entries, broker.purge_entries):
        with pytest.raises(ValueError, match="is no filter"):
            await ask(where)
    for question in (broker.read_entry, broker.standing_entries):
        with pytest.raises(ValueError, match="is no filter"):
            await question("count.life1.a")


async def test_several_have_names_of_their_own_and_are_not_too_many(world: World) -> None:
    broker = await world.broker()
    with pytest.raises(ValueError, match="two entries of one name"):
        await broker.write_entries([NewEntry("plan.q.f", b"1"), NewEntry("plan.q.f", b"2")])
    for count in (0, BATCH_LIMIT + 1):
        with pytest.raises(ValueError, match="1 to 1,000 entries"):
            await broker.write_entries([NewEntry(f"plan.q.{n}", b"") for n in range(count)])
    assert (await broker.standing_entries("plan.>")).names == ()


@pytest.mark.parametrize("size", [0, 200 * 1024])
async def test_bodies_come_back_as_they_were(world: World, size: int) -> None:
    broker = await world.broker()
    body = bytes(range(256)) * (size // 256)
    await broker.write_entry("flow.life1.page.a.0.0", body)
    await broker.write_entries([NewEntry(f"flow.life1.page.a.0.{n}", body) for n in (1, 2)])
    for n in range(3):
        for surely in (True, False):
            entry = await broker.read_entry(f"flow.life1.page.a.0.{n}", surely=surely)
            assert entry is not None and entry.body == body


async def test_what_one_message_cannot_carry_is_refused(world: World) -> None:
    broker = await world.broker()
    body = bytes(2 * 1024 * 1024)
    with pytest.raises(PayloadTooLarge):
        await broker.write_entry("flow.life1.page.a.0.0", body)
    with pytest.raises(PayloadTooLarge):
        await broker.write_entries([NewEntry("flow.life1.page.a.0.1", b""), NewEntry("flow.life1.page.a.0.0", body)])
    assert (await broker.standing_entries("flow.>")).names == ()
    assert await broker.write_entry("flow.life1.page.a.0.0", b"small") is not None


async def test_all_on_a_filter_are_read_at_once_as_they_were_written_last(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    written = {}
    for member in range(1_000):
        name = f"flow.a.mark.s.0.{member}.ok"
        written[name] = await broker.write_entry(name, b"x" * (member % 7))
    written["flow.a.mark.s.0.7.ok"] = await broker.write_entry("flow.a.mark.s.0.7.ok", b"newer")
    for name in ("flow.a.mark.s.0.7.bad", "flow.a.mark.s.1.7.ok", "flow.b.mark.s.0.7.ok"):
        await broker.write_entry(name, b"")
    found = {entry.name: entry for entry in await other.read_entries("flow.a.mark.s.0.*.ok")}
    assert {name: entry.sequence for name, entry in found.items()} == written
    assert found["flow.a.mark.s.0.7.ok"].body == b"newer"
    assert found["flow.a.mark.s.0.6.ok"].body == b"x" * 6
    assert not await other.read_entries("flow.c.mark.*.*.*.ok")


async def test_large_entries_are_read_together_or_left_to_be_read_one_by_one(world: World) -> None:
    broker = await world.broker()
    for member in range(30):
        await broker.write_entry(f"flow.a.mark.s.0.{member}.ok", bytes([member]) * 500_000)
    found = await broker.read_entries("flow.a.mark.s.0.*.ok")
    assert 1 <= len(found) <= 30
    assert all(entry.body == bytes([int(entry.name.split(".")[5])]) * 500_000 for entry in found)


async def test_any_number_is_read_page_by_page_in_the_order_of_writing(world: World) -> None:
    broker, other = await world.broker(), await world.broker()
    assert not await other.list_entries("plan.*.*")
    for n in range(70):
        await broker.write_entry(f"plan.q{n % 2}.w{n}", b"one")
        await broker.write_entry(f"flow.life.mark.s.0.{n}.ok", b"")
    first = await other.list_entries("plan.*.*", limit=40)
    assert [entry.name for entry in first] == [f"plan.q{n % 2}.w{n}" for n in range(40)]
    await broker.write_entry("plan.q1.w3", b"two")  # it comes again
    rest = await other.list_entries("plan.*.*", after=first[-1].sequence)
    assert [entry.name for entry in rest] == [*(f"plan.q{n % 2}.w{n}" for n in range(40, 70)), "plan.q1.w3"]
    assert rest[-1].body == b"two"
    assert not await other.list_entries("plan.*.*", after=rest[-1].sequence)
    assert [entry.name for entry in await other.list_entries("plan.q1.*", limit=2)] == ["plan.q1.w1", "plan.q1.w5"]
