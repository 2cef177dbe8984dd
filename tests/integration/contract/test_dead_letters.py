"""Dead letters read page by page, dropped one by one, edited, and put back from elsewhere, on both brokers."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from jetq.encoding.headers import read_meta
from jetq.errors import PayloadTooLarge
from jetq.model.dead_letter import DeadEntry
from jetq.model.job import Delivery
from jetq.operations.dead_letter_files import read_line, write_line
from jetq.operations.dead_letters import edited, revived
from tests.integration.contract.world import QUEUE, Inbox, World, job, letter

pytestmark = pytest.mark.anyio


async def dies(world: World, id: str, body: bytes = b'{"x": 1}') -> tuple[Inbox, Delivery]:
    """A job that is dead, and the inbox that had it."""
    inbox = await world.feed(await world.broker())
    await inbox.broker.enqueue(job(id, body=body))
    delivery = await inbox.next()
    await inbox.broker.store_dead(delivery, letter(delivery, at=12.5))
    inbox.broker.finish(delivery)
    await inbox.broker.confirm()
    return inbox, delivery


async def test_letters_are_read_on_from_any_of_them(world: World) -> None:
    for id in ("a", "b", "c"):
        inbox, _ = await dies(world, id)
        await inbox.feed.stop()
    broker = await world.broker()

    first, second, third = await broker.dead(QUEUE)
    assert await broker.dead(QUEUE, after=first.sequence) == [second, third]
    assert await broker.dead(QUEUE, after=first.sequence, limit=1) == [second]
    assert await broker.dead(QUEUE, after=second.sequence, task="tests.mail") == [third]
    assert await broker.dead(QUEUE, after=third.sequence) == []

    assert await broker.delete_dead(second)
    assert not await broker.delete_dead(second)
    assert await broker.dead(QUEUE) == [first, third]


async def test_a_replay_takes_the_older_letters_of_its_job_with_it(world: World) -> None:
    inbox, _ = await dies(world, "job")
    broker = inbox.broker
    (entry,) = await broker.dead(QUEUE)
    older = replace(entry, letter=replace(entry.letter, at=1.0))
    newer = replace(entry, letter=replace(entry.letter, at=99.0))
    other = replace(entry, letter=replace(entry.letter, id="other"))
    for each in (other, older, newer):
        assert await broker.import_dead(each)
    stands = await broker.dead(QUEUE)
    assert [each.letter.at for each in stands] == [12.5, 12.5, 1.0, 99.0]

    assert await broker.replay(stands[2], revived(stands[2]))

    assert await broker.dead(QUEUE) == [stands[1], stands[3]]


async def test_an_edited_job_is_delivered_with_its_new_arguments_and_its_history(world: World) -> None:
    inbox, _ = await dies(world, "job")
    (entry,) = await inbox.broker.dead(QUEUE)

    assert await inbox.broker.replay(entry, edited(entry, b'{"x": 2}'))

    delivery = await inbox.next()
    meta = read_meta(delivery.headers)
    assert (delivery.id, delivery.body, meta.replays, meta.edits) == ("job", b'{"x": 2}', 1, 1)
    assert await inbox.broker.dead(QUEUE) == []


async def test_arguments_too_large_to_be_enqueued_are_no_edit_and_nothing_changes(world: World) -> None:
    inbox, _ = await dies(world, "job")
    (entry,) = await inbox.broker.dead(QUEUE)

    with pytest.raises(PayloadTooLarge, match=r"job job of tests\.mail has 1,038,576 bytes"):
        await inbox.broker.replay(entry, edited(entry, bytes(1024 * 1024 - 10_000)))

    assert await inbox.broker.dead(QUEUE) == [entry]
    assert await inbox.broker.find(QUEUE, "job") is None


@pytest.mark.parametrize("body", [b'{"x": "\xc3\xa9\\u0000"}', b"\xff\x00\r\n\x80", b""], ids=["text", "bytes", "none"])
async def test_a_letter_comes_back_from_its_line_byte_for_byte_also_right_after_a_purge(
    world: World, body: bytes
) -> None:
    inbox, _ = await dies(world, "job", body)
    broker = inbox.broker
    (entry,) = await broker.dead(QUEUE)
    line = write_line(entry)
    again = read_line(line)
    assert not await broker.import_dead(again)  # it stands
    assert await broker.purge_dead(QUEUE) == 1

    assert await broker.import_dead(again)
    assert not await broker.import_dead(again)

    (back,) = await broker.dead(QUEUE)
    assert (back.letter, back.body) == (entry.letter, body)
    assert write_line(back) == line
    assert await broker.replay(back, revived(back))
    assert (await inbox.next()).body == body


async def test_a_letter_can_be_put_where_no_queue_is(world: World) -> None:
    inbox, _ = await dies(world, "job")
    (entry,) = await inbox.broker.dead(QUEUE)
    moved = replace(entry, letter=replace(entry.letter, queue="elsewhere"))

    assert await inbox.broker.import_dead(moved)

    (back,) = await inbox.broker.dead("elsewhere")
    assert back.letter == moved.letter
    assert await inbox.broker.replay(back, revived(back))
    assert (await (await world.feed(inbox.broker, queue="elsewhere")).next()).id == "job"


async def test_a_letter_from_elsewhere_settles_no_job_here(world: World) -> None:
    """Guarantee: a job is not taken for dead because another server's job of its id and sequence is."""
    broker = await world.broker()
    await broker.enqueue(job("job"))
    inbox = await world.feed(broker)
    delivery = await inbox.next()
    await broker.import_dead(DeadEntry(letter(delivery, at=5.0), b"{}", 0))

    assert not await broker.is_superseded(delivery)

    await broker.store_dead(delivery, letter(delivery, at=6.0))
    assert await broker.is_superseded(delivery)
    assert [each.letter.at for each in await broker.dead(QUEUE)] == [5.0, 6.0]


async def test_a_letter_too_large_for_the_server_is_refused(world: World) -> None:
    inbox, _ = await dies(world, "job")
    (entry,) = await inbox.broker.dead(QUEUE)
    await inbox.broker.purge_dead(QUEUE)

    with pytest.raises(PayloadTooLarge, match=r"1,\d{3},\d{3} bytes"):
        await inbox.broker.import_dead(replace(entry, body=bytes(1024 * 1024)))

    assert await inbox.broker.dead(QUEUE) == []
