"""The medians as horizontal bars, in SVG that reads on light and on dark pages. Sizes are in pixels."""

from __future__ import annotations

from html import escape

from benchmarks.peers.report import OURS, Results, multiple, shown
from benchmarks.peers.turns import DRAIN, ENQUEUE, P50

PANELS = (DRAIN["loop"], ENQUEUE["loop"], DRAIN["threads"], P50)
UNITS = {P50: "less is better"}
WIDTH, NAMES, BARS = 720, 110, 430
ROW, BAR, HEAD, GAP = 22, 14, 30, 18

STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #24292f; }
  .head { font-weight: 600; font-size: 13px; }
  .quiet { fill: #57606a; }
  .bar { fill: #afb8c1; }
  .ours { fill: #0969da; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .quiet { fill: #9198a1; }
    .bar { fill: #57606a; }
    .ours { fill: #4493f8; }
  }
"""


def chart(results: Results) -> str:
    """One panel per case that was measured, the best at its top, each bar in proportion to its panel's longest."""
    body: list[str] = []
    top = 0
    for case in PANELS:
        medians = results.medians(case)
        if medians:
            body += _panel(case, medians, top)
            top += HEAD + ROW * len(medians) + GAP
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}">'
    title = "<title>jetq and its peers: medians of one run</title>"
    return "\n".join([opening, title, f"<style>{STYLE}</style>", *body, "</svg>", ""])


def _panel(case: str, medians: dict[str, float], top: int) -> list[str]:
    longest = max(medians.values())
    parts = [_text(0, top + 18, f"{case} ({UNITS.get(case, 'jobs/s')})", "head")]
    for number, (name, value) in enumerate(medians.items()):
        y = top + HEAD + number * ROW
        length = max(1.0, BARS * value / longest)
        kind = "ours" if name == OURS else "bar"
        parts.append(_text(0, y + BAR - 3, name, "head" if name == OURS else ""))
        parts.append(f'<rect class="{kind}" x="{NAMES}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>')
        parts.append(_text(NAMES + length + 8, y + BAR - 3, _label(case, medians, name), "quiet"))
    return parts


def _label(case: str, medians: dict[str, float], name: str) -> str:
    times = multiple(case, medians, name)
    return shown(case, medians[name]) + (f", jetq is {times:.1f} x" if times and name != OURS else "")


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'
