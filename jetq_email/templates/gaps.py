"""Placeholders that a preview shows for variables that were not given."""

# mypy: disable-error-code="override, assignment"
# The types of Undefined say that the methods that fail there never return.

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from jinja2 import Undefined
from jinja2.utils import missing

__all__ = ["Gap"]


class Gap(Undefined):
    """A variable that was not given. Where `StrictUndefined` raises an error, this class notes the variable and goes
    on."""

    found: ClassVar[dict[str, None]]

    @property
    def _path(self) -> str:
        """The variable's name, after the names that lead to it. For a field that a given object lacks, a dot and the
        field's name."""
        return f"{'' if self._undefined_obj is missing else '.'}{self._undefined_name}"

    def _used(self) -> None:
        self.found[self._path] = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, key: object) -> Gap:
        return type(self)(name=f"{self._path}.{key}")

    def __str__(self) -> str:
        self._used()
        return f"[{self._path}]"

    def __iter__(self) -> Iterator[Any]:
        self._used()
        return iter(())

    def __len__(self) -> int:
        self._used()
        return 0

    def __bool__(self) -> bool:
        self._used()
        return False

    def __int__(self) -> int:
        self._used()
        return 0

    def __float__(self) -> float:
        self._used()
        return 0.0

    def __eq__(self, other: object) -> bool:
        self._used()
        return False

    def __hash__(self) -> int:
        self._used()
        return 0

    def _same(self, *_: object) -> Gap:
        self._used()
        return self

    def _no(self, *_: object) -> bool:
        self._used()
        return False

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _same
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __neg__ = __pos__ = __call__ = _same
    __round__ = __abs__ = _same
    __lt__ = __le__ = __gt__ = __ge__ = __contains__ = _no
