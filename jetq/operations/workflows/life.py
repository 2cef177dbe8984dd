"""One life of a workflow: its plan, and what the ledger says of its members."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Protocol

from msgspec.structs import replace

from jetq.broker.clock import Clock
from jetq.broker.enqueueing import Enqueueing
from jetq.broker.ledger import Ledger
from jetq.encoding.sealer import Sealer
from jetq.errors import BrokerUnavailable
from jetq.model.cell import NewEntry
from jetq.model.workflows import names
from jetq.model.workflows.marks import Marks
from jetq.model.workflows.plan import PAGE, Edge, Plan, page_sizes

__all__ = ["KEPT_FOR", "MOST_AT_ONCE", "FlowBroker", "Life"]

_log = logging.getLogger("jetq.worker")

KEPT_FOR = 400 * 86_400.0
"""Seconds beyond the deadline for which what is written of a life is kept. The watch removes it long before; this is
for what is written after the watch has done so."""

MOST_AT_ONCE = 50_000
"""Members of a workflow whose marks are asked for at once; those of more page by page. The broker names 100,000 entries
in one answer and no more, and a look at so many holds up publishers (see `PAGE`)."""


class FlowBroker(Ledger, Enqueueing, Clock, Protocol):
    """The parts of the broker that workflows use."""


class Life:
    """An open workflow, as one process knows it.

    workflow: its id. home: the queue whose name is in the name of its plan. sequence: that of the plan's record; 0 if
    this process has not read it. sealer: seals and opens what belongs to the workflow.

    `seen`: the newest sequence of the ledger that this process knows to be written for this life, or that one of its
    jobs claims. A look that is older does not count. What no look confirms in time is given up: the claim is false, or
    the stream has lost its end. `fed`: how many members of a step were noted as stored, when this process last looked.
    `allowed`: queues of which this process knows that the creator may plan for them. actor: names this process where it
    lacks a permission. `bodies`: the arguments of the members of a step, as far as this process has stored
    them itself. `unfed`: steps of which nobody can have stored a member yet, because this process has just stored the
    plan.
    """

    def __init__(
        self,
        broker: FlowBroker,
        sealer: Sealer,
        workflow: str,
        home: str,
        plan: Plan,
        sequence: int = 0,
        *,
        actor: str = "whoever started it",
    ) -> None:
        self.broker = broker
        self.sealer = sealer
        self.workflow = workflow
        self.home = home
        self.plan = plan
        self.sequence = sequence
        self.id = plan.life
        self.seen = sequence
        self.actor = actor
        self.allowed = {home}
        self._sizes: dict[str, int] = {}
        self._full: dict[str, int] = {}
        self.fed: dict[str, int] = {}
        self.bodies: Mapping[str, Sequence[bytes]] = {}
        self.unfed: set[str] = set()
        self._pages: dict[str, tuple[int, ...]] = {}

    @cached_property
    def followers(self) -> Mapping[str, list[tuple[str, Edge]]]:
        """The steps that wait for each step, with the edge by which they wait."""
        followers: dict[str, list[tuple[str, Edge]]] = {name: [] for name in self.plan.steps}
        for name, step in self.plan.steps.items():
            for edge in step.edges:
                followers[edge.source].append((name, edge))
        return followers

    # --- what is written

    def saw(self, sequence: int) -> None:
        """Note that the entry with `sequence` is written."""
        self.seen = max(self.seen, sequence)

    async def write(self, name: str, body: bytes, *, expected: int = 0, on: str | None = None) -> bool:
        """Write an entry of this life as `Ledger.write_entry` does, and return whether it was written."""
        return self._wrote(await self.broker.write_entry(name, body, expected=expected, on=on, ttl=self.ttl))

    async def write_all(self, entries: Sequence[NewEntry]) -> bool:
        """Write entries of this life, or none, as `Ledger.write_entries` does; return whether they were written."""
        return self._wrote(await self.broker.write_entries([replace(each, ttl=self.ttl) for each in entries]))

    def _wrote(self, sequence: int | None) -> bool:
        if sequence is not None:
            self.saw(sequence)
        return sequence is not None

    @property
    def ttl(self) -> float:
        """Seconds for which an entry of this life is kept that is written now."""
        return max(0.0, self.plan.deadline - self.broker.now()) + KEPT_FOR

    async def is_allowed(self, queue: str) -> bool:
        """Return whether the creator may plan for `queue`: for the home, because the plan stands there, and for those
        of which a note says so that only who may plan for them can write."""
        for surely in (False, True):
            if queue in self.allowed:
                break
            if await self.broker.read_entry(names.allowance(self.id, queue), surely=surely) is not None:
                self.allowed.add(queue)
        return queue in self.allowed

    # --- sizes

    async def members(self, name: str) -> int | None:
        """Return how many members a step has; None while nobody knows."""
        known = self.members_at_hand(name)
        if known is None:
            entry = await self.broker.read_entry(names.size(self.id, name))
            if entry is None:
                entry = await self.broker.read_entry(names.size(self.id, name), surely=True)
            if entry is not None:
                known = self._sizes[name] = int(entry.body)
        return known

    def members_at_hand(self, name: str) -> int | None:
        """Return how many members a step has; None if nobody knows, or this process has not read it."""
        known = self.plan.steps[name].members
        return self._sizes.get(name) if known is None else known

    async def pages(self, name: str) -> tuple[int, ...]:
        """Return how many members each page of a step has. The number of members must be known."""
        pages = self.pages_at_hand(name)
        if pages is None:
            members = await self.members(name)
            assert members is not None
            pages = self._pages[name] = page_sizes(self.plan.steps[name], members)
        return pages

    def pages_at_hand(self, name: str) -> tuple[int, ...] | None:
        """Return how many members each page of a step has; None if nobody knows, or this process has not read it."""
        pages = self._pages.get(name)
        if pages is None and (members := self.members_at_hand(name)) is not None:
            pages = self._pages[name] = page_sizes(self.plan.steps[name], members)
        return pages

    async def page_of(self, name: str, member: int) -> tuple[int, int]:
        """Return the page of a member, and how many members the page has."""
        return self.page_among(await self.pages(name), name, member)

    def page_among(self, sizes: tuple[int, ...], name: str, member: int) -> tuple[int, int]:
        """Return what `page_of` does. sizes: of the step's pages."""
        if not self.plan.steps[name].pages:
            page = member // PAGE
            return page, sizes[page]
        first = 0
        for page, size in enumerate(sizes):
            if member < first + size:
                return page, size
            first += size
        raise IndexError(f"step {name} has no member {member}")

    # --- what the ledger says

    async def standing(self, where: str) -> list[list[str]]:
        """Return the names that stand on `where`, each as its tokens, as the leader says. Raises as `look` does."""
        return [name.split(".") for name in await self.look(where)]

    async def look(self, where: str) -> Sequence[str]:
        """Return the names that stand on `where`, as the leader says. Raises BrokerUnavailable if the answer stays
        older than `seen`, which is given up by that: the next look takes what it gets."""
        seen = self.seen
        found = await self.broker.standing_entries(where, at_least=seen)
        if found.sequence < seen:  # also when it was asked again and again
            _log.warning(
                "workflow %s: entry %s is not stored, and is waited for no more: the newest one is %s",
                self.workflow, seen, found.sequence,
            )  # fmt: skip
            self.seen = found.sequence
            raise BrokerUnavailable(f"what is said of workflow {self.workflow} is older than entry {seen}")
        return found.names

    async def done(self, name: str, page: int) -> set[int]:
        """Return the members of a page that are done."""
        tolerates = self.plan.steps[name].tolerates
        found = await self.standing(names.marks_of_page(self.id, name, page))
        return {int(tokens[5]) for tokens in found if tolerates or tokens[6] == "ok"}

    async def marked(self, name: str, among: int) -> int:
        """Return how many of the first `among` members of a step have left a mark."""
        sizes, marked = await self.pages(name), 0
        for page in range(len(sizes)):
            if marked >= among:
                break
            if page < self._full.get(name, 0):
                marked += sizes[page]
                continue
            found = {tokens[5] for tokens in await self.standing(names.marks_of_page(self.id, name, page))}
            marked += len(found)
            if len(found) == sizes[page] and page == self._full.get(name, 0):
                self._full[name] = page + 1  # its marks stay, and are not counted again
        return marked

    async def is_covered(self, name: str) -> bool:
        """Return whether all members of a step are done; of a step without members, whether what it waits for is."""
        waiting, asked = [name], {name}
        while waiting:
            name = waiting.pop()
            members = await self.members(name)
            if members is None or (members > 0 and not await self._are_done(name, members)):
                return False
            if members == 0:
                sources = {edge.source for edge in self.plan.steps[name].edges} - asked
                waiting += sources
                asked |= sources
        return True

    async def _are_done(self, name: str, members: int) -> bool:
        if name == self.plan.last():
            return False  # its mark is the end
        pages = await self.pages(name)
        if len(pages) > 1:
            return len(await self.standing(names.fulls(self.id, name))) >= len(pages)
        return len(await self.done(name, 0)) >= members

    async def _records(self) -> list[list[str]]:
        """Return the names of all marks and notes of this life, each as its tokens."""
        sizes = {name: await self.members(name) for name in self.plan.steps}
        if sum(size or 0 for size in sizes.values()) <= MOST_AT_ONCE:
            return await self.standing(names.life_of(self.id))
        found: list[list[str]] = []
        for name in (name for name, size in sizes.items() if size is not None):
            for page in range(len(await self.pages(name))):
                found += await self.standing(names.marks_of_page(self.id, name, page))
            found += await self.standing(names.fulls(self.id, name))
            found += await self.standing(names.fed(self.id, name))
        return found

    async def marks(self) -> Marks:
        """Return all that stands of this life."""
        marks = Marks()
        for tokens in await self._records():
            match tokens[2:]:
                case ["mark", step, _, member, "ok"]:
                    marks.ok.setdefault(step, set()).add(int(member))
                case ["mark", step, _, member, "bad"]:
                    marks.bad.setdefault(step, set()).add(int(member))
                case ["full", step, page]:
                    marks.full.setdefault(step, set()).add(int(page))
                case ["fed", step]:
                    entry = await self.broker.read_entry(names.fed(self.id, step), surely=True)
                    marks.fed[step] = 0 if entry is None else int(entry.body)
                case _:
                    pass
        for name, each in self.plan.steps.items():
            if each.members is None and (members := await self.members(name)) is not None:
                marks.sizes[name] = members
        return marks
