"""Reading the values of members: what a job takes of other steps, and what the workflow gives."""

from __future__ import annotations

import asyncio
import re

import msgspec
from msgspec import Raw

from jetq.encoding.workflows import BadRecord, encode_failure, joined, read_failure
from jetq.errors import BadPayload
from jetq.model.workflows import names
from jetq.model.workflows.failure import Failure
from jetq.model.workflows.plan import Edge, Spot, Step
from jetq.operations.workflows.life import Life

__all__ = ["MissingValue", "NoItems", "PassedOn", "inputs_of", "items_of", "sources_of", "value_of"]

_AT_ONCE = 32
"""Values that are asked for together."""

_items = msgspec.json.Decoder(list[Raw]).decode


class MissingValue(Exception):
    """A value that is needed is not there, although the member that needs it was begun."""


class PassedOn(Exception):
    """A value that is needed will never be there: its member has failed, and who takes the value fails in its place."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure


class NoItems(Exception):
    """A value that is to be taken item by item is no list."""


async def inputs_of(life: Life, name: str, member: int) -> list[tuple[Spot, Raw]]:
    """Return what a member takes of other steps. Raises PassedOn, MissingValue, BadRecord, BadPayload."""
    taken: list[tuple[Spot, Raw]] = []
    for edge in life.plan.steps[name].edges:
        source = life.plan.steps[edge.source]
        if edge.by == "items" and not source.many:
            continue  # the item is among the arguments that the job was stored with
        if edge.into or (source.tolerates and not source.instead):
            value = await _taken(life, edge, member)
            taken += [(spot, value) for spot in edge.into]
    return taken


def sources_of(step: Step, problem: str) -> str:
    """Return a clause that says of which steps the arguments are that `problem` is about, the message of arguments that
    do not fit; empty if the step takes no values. Where the message names none of the parameters that take values, the
    clause names the sources of all of them."""
    taken = [(spot, edge) for edge in step.edges for spot in edge.into]
    for depth in (None, 1):  # the one element that is meant, or else the whole parameter
        found = [(spot, edge) for spot, edge in taken if _is_named(spot[:depth], problem)]
        if found:
            (name, *_), _ = found[0]
            sources = dict.fromkeys(_said(edge) for _, edge in found)
            return f"; {name} takes {' and '.join(sources)}"
    sources = dict.fromkeys(_said(edge) for _, edge in taken)
    return f"; its arguments take {' and '.join(sources)}" if sources else ""


def _is_named(spot: Spot, problem: str) -> bool:
    """Return whether a message is about the spot: `add(x: int): x: ...` is about the parameter x."""
    path = f"{spot[0]}" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in spot[1:])
    return re.search(rf": {re.escape(path)}(?![A-Za-z0-9_(])", problem) is not None


def _said(edge: Edge) -> str:
    return f"{'an item of ' if edge.by == 'items' else ''}the value of step {edge.source}"


async def value_of(life: Life) -> list[tuple[Spot, Raw]]:
    """Return what the value of the workflow is put together of. Raises as `inputs_of` does."""
    taken: list[tuple[Spot, Raw]] = []
    for edge in life.plan.value:
        value = await _taken(life, edge, 0)
        taken += [(spot, value) for spot in edge.into]
    return taken


async def items_of(life: Life, edge: Edge) -> list[Raw]:
    """Return the items of the value that `edge`, whose source is one call, gives to the members of a step. Raises
    NoItems for a value that is no list or cannot be read, PassedOn, MissingValue."""
    try:
        value = await _value(life, edge, 0)
    except (BadPayload, BadRecord) as error:
        raise NoItems(f"the value of step {edge.source} cannot be read: {error}") from None
    try:
        return _items(value)
    except msgspec.DecodeError:
        raise NoItems(f"the value of step {edge.source} is no list, and has no items") from None


async def _taken(life: Life, edge: Edge, member: int) -> Raw:
    """Return what an edge gives to a member."""
    source = life.plan.steps[edge.source]
    match edge.by:
        case "each":
            return await _value(life, edge, member)
        case "page":
            return await _page(life, edge, member)
        case "items":
            if source.many:
                return await _value(life, edge, member)
            return (await items_of(life, edge))[member]
        case "all" if not source.many:
            return await _value(life, edge, 0)
        case "all" if source.pages:
            return joined([bytes(await _page(life, edge, page)) for page in range(len(source.pages))])
        case _:
            if await life.members(edge.source) is None:
                raise MissingValue(f"nobody knows how many members step {edge.source} has")
            pages = range(len(await life.pages(edge.source)))
            return joined([value for page in pages for value in await _values(life, edge, page)])


async def _page(life: Life, edge: Edge, page: int) -> Raw:
    return joined(await _values(life, edge, page))


async def _values(life: Life, edge: Edge, page: int) -> list[bytes]:
    """Return the values of a page's members: those that have one all at once, the others one by one."""
    name, sizes = edge.source, await life.pages(edge.source)
    first, found = sum(sizes[:page]), dict[int, bytes]()
    if sizes[page] > 1:
        for entry in await life.broker.read_entries(names.values_of_page(life.id, name, page)):
            member = int(entry.name.split(".")[5])
            found[member] = life.sealer.open_mark(life.id, name, member, entry.body)
    members = range(first, first + sizes[page])
    missing = [member for member in members if member not in found]
    for start in range(0, len(missing), _AT_ONCE):
        together = missing[start : start + _AT_ONCE]
        values = await asyncio.gather(*(_value(life, edge, member) for member in together))
        found |= dict(zip(together, map(bytes, values), strict=True))
    return [found[member] for member in members]


async def _value(life: Life, edge: Edge, member: int) -> Raw:
    """Return the value of one member of the source of `edge`, or what takes its place."""
    name, source = edge.source, life.plan.steps[edge.source]
    page, _ = await life.page_of(name, member)
    for surely in (False, True):  # a replica that does not have the mark may be behind
        entry = await life.broker.read_entry(names.mark(life.id, name, page, member), surely=surely)
        if entry is None:
            continue
        if entry.name.endswith(".ok"):
            return Raw(life.sealer.open_mark(life.id, name, member, entry.body))
        if not source.tolerates:
            continue
        if source.instead:
            return source.instead
        failure = read_failure(life.sealer.open_failure(life.id, name, member, entry.body))
        if edge.settles:
            return Raw(encode_failure(failure))
        raise PassedOn(failure)
    raise MissingValue(f"member {member} of step {name} has left no value")
