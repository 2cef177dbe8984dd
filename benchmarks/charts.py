"""Bar charts as SVG without a background, in colours that can be read on light and on dark ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from msgspec import Struct

from benchmarks.results import Figure, Results

__all__ = ["draw"]

_JETQ, _FLOOR, _TARGET, _TEXT, _LINE = "#2f81f7", "#8b949e", "#d29922", "#7d8590", "#7d859066"
_WIDTH, _LABELS, _ROW, _TOP = 760, 190, 22, 56
_FONT = "font-family='system-ui, sans-serif' font-size='12'"


class Bar(Struct, frozen=True):
    """A value from 0. mark: where a target is."""

    label: str
    value: float
    text: str
    colour: str
    mark: float | None = None


def draw(results: Results, directory: Path) -> list[Path]:
    """Write the charts of what was measured into `directory`; the files."""
    directory.mkdir(parents=True, exist_ok=True)
    charts = {
        "ratios": ("Share of the bare nats-py program's rate; the line is its target", _ratios(results)),
        "enqueue": ("Jobs stored per second", _beside(results, _is_enqueue)),
        "drain": ("Jobs run per second", _beside(results, _is_drain)),
        "slots": ("Share of the slots' time in which a job was in them", _beside(results, _is_use)),
        "latency": ("Milliseconds from enqueue to start, idle worker", _beside(results, _is_latency)),
    }
    written = []
    for name, (title, bars) in charts.items():
        if bars:
            file = directory / f"{name}.svg"
            file.write_text(_svg(title, bars), encoding="utf-8")
            written.append(file)
    return written


def _is_enqueue(figure: Figure) -> bool:
    return figure.measure.name == "rate" and "delay" in figure.case.name


def _is_drain(figure: Figure) -> bool:
    return figure.measure.name == "rate" and figure.case.name.startswith(("drain", "together", "two"))


def _is_use(figure: Figure) -> bool:
    return figure.measure.name == "used"


def _is_latency(figure: Figure) -> bool:
    return figure.case.name.startswith("latency")


def _ratios(results: Results) -> list[Bar]:
    """One bar for each rate that has a floor."""
    bars = []
    for figure in results:
        if figure.ratio is not None and figure.measure.name == "rate":
            target = figure.measure.target
            mark = target.bound if target is not None and target.of == "floor" else None
            bars.append(Bar(figure.case.name, figure.ratio, f"{figure.ratio:.2f}", _JETQ, mark))
    return bars


def _beside(results: Results, chosen: Callable[[Figure], bool]) -> list[Bar]:
    """Two bars for each: jetq's and the floor's."""
    bars = []
    for figure in filter(chosen, results):
        digits = figure.measure.digits
        label = f"{figure.case.name} {figure.measure.name}" if _is_latency(figure) else figure.case.name
        target = figure.measure.target
        mark = target.bound if target is not None and target.of == "figure" else None
        bars.append(Bar(label, figure.median, f"{figure.median:,.{digits}f}", _JETQ, mark))
        if figure.floor_median is not None:
            bars.append(Bar("", figure.floor_median, f"{figure.floor_median:,.{digits}f} nats-py", _FLOOR))
    return bars


def _svg(title: str, bars: Sequence[Bar]) -> str:
    height = _TOP + _ROW * len(bars) + 10
    most = max(max(bar.value, bar.mark or 0.0) for bar in bars) or 1.0
    scale = (_WIDTH - _LABELS - 120) / most
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {height}' role='img' {_FONT}>",
        f"<title>{escape(title)}</title>",
        f"<text x='0' y='20' fill='{_TEXT}' font-size='15' font-weight='600'>{escape(title)}</text>",
        f"<line x1='{_LABELS}' y1='{_TOP - 8}' x2='{_LABELS}' y2='{height - 6}' stroke='{_LINE}'/>",
    ]
    for place, bar in enumerate(bars):
        lines += _drawn(bar, _TOP + place * _ROW, scale)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _drawn(bar: Bar, top: float, scale: float) -> list[str]:
    width = bar.value * scale
    lines = [
        f"<text x='{_LABELS - 8}' y='{top + 12}' fill='{_TEXT}' text-anchor='end'>{escape(bar.label)}</text>",
        f"<rect x='{_LABELS}' y='{top}' width='{width:.1f}' height='{_ROW - 6}' rx='2' fill='{bar.colour}'/>",
        f"<text x='{_LABELS + width + 6:.1f}' y='{top + 12}' fill='{_TEXT}'>{escape(bar.text)}</text>",
    ]
    if bar.mark is not None:
        x = f"{_LABELS + bar.mark * scale:.1f}"
        lines.append(f"<path d='M{x} {top - 2}V{top + _ROW - 4}' stroke='{_TARGET}' stroke-width='2'/>")
    return lines
