"""The values that a call takes of other works: what stands for such a value until it exists, and where it goes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

import msgspec
from msgspec import Raw, Struct

from jetq.client.call import Work
from jetq.encoding.json_text import DEEPEST, TOO_DEEP
from jetq.encoding.roundtrip import no_json
from jetq.encoding.signature import Signature
from jetq.encoding.type_hooks import encode
from jetq.errors import ArgumentError, WorkflowError
from jetq.model.workflows.plan import Spot

__all__ = ["Input", "Placeholder", "has_placeholder", "split"]

_ALLOWED = ", in the call of a task: alone, or in a list, tuple or dict"


class Placeholder:
    """Stands for the value of `work`, or with `item` for one item of the value.

    Whatever would look at the value raises WorkflowError: the value does not exist before the workflow runs.
    """

    __slots__ = ("item", "work")

    def __init__(self, work: Work[Any], *, item: bool = False) -> None:
        self.work = work
        self.item = item

    def __repr__(self) -> str:  # for error messages and debuggers, so that it must not raise
        return "<the value of a step>"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__") and name.endswith("__"):  # libraries ask any object for these
            raise AttributeError(name)
        _refuse(f"has no attribute {name!r}")


def _refuse(what: str) -> NoReturn:
    raise WorkflowError(
        f"a value that does not exist yet {what}: `.out` stands for what a step will return",
        hint=f"pass it on as it is{_ALLOWED}; what is to be done with the value belongs into a task",
    )


def _refusing(name: str) -> Any:
    def refuse(self: Placeholder, *_: Any, **__: Any) -> NoReturn:
        _refuse(f"was used, by {name}")

    return refuse


_USES = """
    bool str format bytes iter reversed next len contains getitem setitem delitem call enter exit aenter aexit aiter
    anext await hash eq ne lt le gt ge int float complex index round trunc floor ceil abs neg pos invert add radd sub
    rsub mul rmul matmul rmatmul truediv rtruediv floordiv rfloordiv mod rmod divmod rdivmod pow rpow lshift rlshift
    rshift rrshift and rand xor rxor or ror iadd isub imul imatmul itruediv ifloordiv imod ipow ilshift irshift iand
    ixor ior fspath buffer length_hint copy deepcopy reduce reduce_ex
"""
for _name in _USES.split():
    setattr(Placeholder, f"__{_name}__", _refusing(f"__{_name}__"))


class Input(Struct, frozen=True, eq=False):
    """Says that an argument, or a part of it, is the value of `work`.

    spots: where the value goes. item: it is not the whole value, but one item of it for each member.
    """

    work: Work[Any]
    spots: tuple[Spot, ...]
    item: bool = False


def has_placeholder(values: Any) -> bool:
    """Return whether there is a placeholder in the arguments `values`, which may be anything that a caller gave."""
    waiting, seen = [values], set[int]()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Placeholder):
            return True
        if id(value) not in seen:  # what lies within itself
            seen.add(id(value))
            waiting += [each for _, each in _parts(value)]
    return False


def split(signature: Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[bytes, tuple[Input, ...]]:
    """Return the JSON of the arguments that exist by now, and what goes into them later.

    The arguments without a placeholder are checked as in any call; of those with a placeholder inside, the rest is
    checked by the worker. Raises ArgumentError.
    """
    values = signature.bind(args, kwargs)
    found = list(_places(values, signature.call_text))
    spots: dict[tuple[int, bool], list[Spot]] = {}
    for spot, placeholder in found:
        spots.setdefault((id(placeholder.work), placeholder.item), []).append(spot)
    works = {id(placeholder.work): placeholder.work for _, placeholder in found}
    waiting = {spot[0] for spot, _ in found}
    body = signature.encode_some({name: value for name, value in values.items() if name not in waiting})
    partly = {
        name: _encoded(signature, name, value)
        for name, value in values.items()
        if name in waiting and not isinstance(value, Placeholder)
    }
    if partly:
        body = _joined(body, partly)
    return body, tuple(Input(works[work], tuple(each), item) for (work, item), each in spots.items())


def _places(values: Mapping[str, Any], where: str) -> Iterator[tuple[Spot, Placeholder]]:
    """Yield each placeholder in `values`, with its spot. Raises ArgumentError for values that are nested too deeply."""
    waiting: list[tuple[Spot, Any]] = [((name,), value) for name, value in reversed(list(values.items()))]
    while waiting:
        spot, value = waiting.pop()
        if len(spot) > DEEPEST:
            raise ArgumentError(f"{where}: {spot[0]}: {TOO_DEEP}")
        if isinstance(value, Placeholder):
            yield spot, value
        waiting += [((*spot, key), each) for key, each in reversed(list(_parts(value)))]


def _parts(value: Any) -> Iterable[tuple[str | int, Any]]:
    """Return what `value` consists of, with the key or index of each part in its JSON."""
    if isinstance(value, dict):
        return [(key if isinstance(key, str) else str(key), each) for key, each in value.items()]
    return enumerate(value) if isinstance(value, list | tuple) else ()


def _encoded(signature: Signature, name: str, value: Any) -> Raw:
    """Return the JSON of an argument, with null in the place of each placeholder. Raises ArgumentError."""
    plain = _without(value)
    found = no_json(plain)
    if found is not None:
        raise ArgumentError(f"{signature.call_text}: {name}{found[0]}: {signature.redact(found[1], {name: plain})}")
    return Raw(encode(plain))


def _joined(body: bytes, others: Mapping[str, Raw]) -> bytes:
    return encode({**msgspec.json.decode(body, type=dict[str, Raw]), **others})


def _without(value: Any) -> Any:
    """Return `value` with None in the place of each placeholder."""
    if isinstance(value, Placeholder):
        return None
    if isinstance(value, dict):
        return {key: _without(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without(each) for each in value]
    return value
