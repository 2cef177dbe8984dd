"""Removing a queue without losing what a producer stores meanwhile."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jetq.errors import TopologyError
from jetq.jetstream.broker.base import TTL, Base
from jetq.jetstream.streams.api import NOT_FOUND, ApiError
from jetq.jetstream.streams.topology import DELETED_WITHIN

__all__ = ["QueueRemoval"]


class QueueRemoval(Base):
    """The part of `jetq.broker.queues.Queues` that removes queues.

    The server deletes a stream whatever is stored in it. So each stream is closed first: its subjects are taken from
    it. A message that is published there from then on is stored nowhere and confirmed to nobody. Its producer sends the
    message again, which makes the queue anew once the queue is gone. Messages that were published before are stored in
    the order they came (nats-server 2.15.1). So once a message is stored that was published after the closing, all
    earlier messages are stored too.
    """

    async def remove_queue(self, queue: str) -> bool:
        """See `jetq.broker.queues.Queues.remove_queue`.

        Guarantee: tests/integration/queues/test_removed_queues.py: what is confirmed to a producer meanwhile is kept.
        """
        configs = await self._own_streams(queue)
        await self.ensure_shared()
        removed = await self._holds_nothing(queue)
        try:
            if removed:
                for stream, config in configs.items():
                    await self._close(queue, stream, config)
                removed = await self._holds_nothing(queue)
            if removed:
                for stream in configs:
                    await self._delete(stream)
        except BaseException:
            removed = False
            raise
        finally:
            if not removed:
                for stream, config in configs.items():
                    await self._open(queue, stream, config)
        if removed:
            await self._forget(queue)
        return removed

    async def _own_streams(self, queue: str) -> dict[str, dict[str, Any]]:
        """Return the configurations of the queue's streams that exist. Raises TopologyError for a foreign stream."""
        # The stream of jobs comes last: as long as it exists, so does the queue, and a removal that was cut short can
        # be repeated.
        found: dict[str, dict[str, Any]] = {}
        for wanted in reversed(self.topology.streams_of(queue)):
            seen = await self.topology.look_at_stream(wanted)
            if seen.foreign:
                raise TopologyError(f"stream {wanted['name']} is not jetq's, and is left alone")
            if seen.info is not None:
                found[wanted["name"]] = seen.info["config"]
        return found

    async def _holds_nothing(self, queue: str) -> bool:
        """Return whether neither jobs nor dead letters are stored."""
        # Recurring schedules may be stored, and messages that jetq itself has put there.
        own = {
            self.subjects.jobs(queue): self.subjects.recurring_subjects(queue),
            self.subjects.dead_letters(queue): self.subjects.closed_dead(queue),
        }
        for stream, subjects in own.items():
            info = await self.api.stream_info(stream)
            if info is not None:
                known = sum([sum((await self.subject_counts(stream, each)).values()) for each in subjects])
                if int(info["state"]["messages"]) > known:
                    return False
        return True

    async def _close(self, queue: str, stream: str, config: Mapping[str, Any]) -> None:
        """Take the subjects of `stream` away, and wait until nothing more is stored in the stream.

        A message on the last of the new subjects shows that nothing more is stored.
        """
        subjects = self._closed(queue, stream)
        await self.api.request(f"STREAM.UPDATE.{stream}", {**config, "subjects": subjects})
        await self.publisher.publish(subjects[-1], b"", None)

    async def _delete(self, stream: str) -> None:
        """Delete `stream`. No jetq process makes the stream again before the server is done with the deletion."""
        ttl = {TTL: f"{math.ceil(self.api.timeout + DELETED_WITHIN)}s"}
        await self.publisher.publish(self.subjects.removed(stream), b"", ttl)
        await self._unless_gone(f"STREAM.DELETE.{stream}")
        await self.publisher.publish(self.subjects.removed(stream), b"", {TTL: f"{math.ceil(DELETED_WITHIN)}s"})

    async def _open(self, queue: str, stream: str, config: Mapping[str, Any]) -> None:
        """Give `stream` back its subjects, also after a removal that was cut short."""
        closed = self._closed(queue, stream)
        subjects = config["subjects"]
        if subjects == closed:
            wanted = {each["name"]: each for each in self.topology.streams_of(queue)}
            subjects = wanted[stream]["subjects"]
        await self._unless_gone(f"STREAM.UPDATE.{stream}", {**config, "subjects": subjects})
        await self.api.purge(stream, closed[-1])

    def _closed(self, queue: str, stream: str) -> Sequence[str]:
        return (
            self.subjects.closed_jobs(queue)
            if stream == self.subjects.jobs(queue)
            else self.subjects.closed_dead(queue)
        )

    async def _unless_gone(self, name: str, body: Mapping[str, Any] | None = None) -> None:
        try:
            await self.api.request(name, body)
        except ApiError as error:
            if error.err_code not in NOT_FOUND:
                raise

    async def _forget(self, queue: str) -> None:
        """Forget what is known of the queue here, and remove what the fleet keeps of its jobs."""
        for known in (self.known_queues, self.rooms, self.reserves):
            known.pop(queue, None)
        self.unbounded.discard(queue)
        self.levelled.discard(queue)
        for subject in self.subjects.state_of(queue):
            await self.api.purge(self.subjects.state, subject)
