"""Bar and line charts as SVG text, without a library: readable in light and dark, log axes, Windlass highlighted.

``publish(name, bars(…), alt)`` prints the chart for ``_report.py``, which puts it into ``plots/`` and its section of
``RESULTS.md``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

OURS, BARE, PEER = "ours", "bare", "peer"
"""Kinds: Windlass; what the machine does without any tool; what a user would pick instead."""
Format = Callable[[float], str]

_WIDTH, _SIZE = 860, 13
_STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
.title { font-weight: 600; font-size: 16px; }
.quiet { fill: #59636e; font-size: 12px; }
.strong { font-weight: 600; }
.card { fill: #ffffff; stroke: #d1d9e0; }
.grid { stroke: #d1d9e0; stroke-width: 1; }
.aim { stroke: #bc4c00; stroke-width: 1.5; stroke-dasharray: 5 4; }
.aim-text { fill: #bc4c00; font-size: 12px; }
.ours { fill: #0969da; } .peer { fill: #a8b1bb; } .bare { fill: #d8dee4; stroke: #818b98; }
path { fill: none; stroke-width: 2; stroke-linejoin: round; } circle { stroke: #ffffff; stroke-width: 1.5; }
.c0 { stroke: #0969da; } .c1 { stroke: #bc4c00; } .c2 { stroke: #1a7f37; } .c3 { stroke: #8250df; }
.c4 { stroke: #bf3989; } .c5 { stroke: #7d6200; } .c6 { stroke: #818b98; stroke-dasharray: 5 4; }
.d0 { fill: #0969da; } .d1 { fill: #bc4c00; } .d2 { fill: #1a7f37; } .d3 { fill: #8250df; }
.d4 { fill: #bf3989; } .d5 { fill: #7d6200; } .d6 { fill: #818b98; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; } .quiet { fill: #9198a1; } .card { fill: #0d1117; stroke: #3d444d; }
  .grid { stroke: #2f353d; } .aim { stroke: #f0883e; } .aim-text { fill: #f0883e; }
  .ours { fill: #4493f8; } .peer { fill: #656c76; } .bare { fill: #262c36; stroke: #656c76; }
  circle { stroke: #0d1117; }
  .c0 { stroke: #4493f8; } .c1 { stroke: #f0883e; } .c2 { stroke: #3fb950; } .c3 { stroke: #ab7df8; }
  .c4 { stroke: #db61a2; } .c5 { stroke: #d29922; } .c6 { stroke: #9198a1; }
  .d0 { fill: #4493f8; } .d1 { fill: #f0883e; } .d2 { fill: #3fb950; } .d3 { fill: #ab7df8; }
  .d4 { fill: #db61a2; } .d5 { fill: #d29922; } .d6 { fill: #9198a1; }
}
"""
_COLOURS, _BARE_COLOUR = 6, 6


@dataclass(frozen=True)
class Bar:
    """One bar; without a value there is ``text`` in its place, such as why it could not be measured."""

    label: str
    value: float | None
    kind: str = PEER
    text: str = ""
    """Beside the bar; its value when empty."""


@dataclass(frozen=True)
class Line:
    """One line through its points, by x. The first that is ours is Windlass blue, what is bare is grey and dashed."""

    label: str
    points: Sequence[tuple[float, float]]
    kind: str = OURS


def publish(name: str, svg: str, alt: str) -> None:
    """Print the chart for ``_report.py``: ``plots/{name}.svg``, and ``alt`` for those who cannot see it."""
    print(json.dumps({"plot": name, "svg": svg, "alt": alt}), flush=True)


def bars(title: str, given: Sequence[Bar], form: Format, *, better: str = "shorter is better", log: bool = True) -> str:
    """Horizontal bars, in the order given, with their values as ``form`` writes them. A log axis says so."""
    values = [bar.value for bar in given if bar.value is not None]
    left = 34 + max(_width(bar.label) for bar in given)
    right = _WIDTH - 40 - max(_width(_beside(bar, form)) for bar in given if bar.value is not None or len(given) == 1)
    axis = _Axis.of(values, left, max(right, left + 200), log, from_zero=True)
    top, step = 66, 30
    bottom = top + step * len(given)
    parts = [_grid_x(axis, top - 6, bottom, form)]
    for number, bar in enumerate(given):
        y = top + step * number
        strong = "strong" if bar.kind == OURS else ""
        parts.append(_text(bar.label, left - 10, y + 15, strong, "end"))
        end = axis.start if bar.value is None else max(axis.at(bar.value), axis.start + 2)
        if bar.value is not None:
            width = end - axis.start
            parts.append(f'<rect class="{bar.kind}" x="{left}" y="{y}" width="{width:.1f}" height="20" rx="3"/>')
        parts.append(_text(_beside(bar, form), end + 8, y + 15, "quiet" if bar.value is None else strong))
    return _card(title, better + ("; log axis" if log else ""), bottom + 34, parts)


def lines(
    title: str, given: Sequence[Line], *, x: str, y: str, x_form: Format, y_form: Format, log_x: bool = True,
    log_y: bool = True, target: float | None = None, target_label: str = "target",
) -> str:  # fmt: skip
    """Lines over x, named at their ends; ``x`` and ``y`` say what the axes are, ``target`` is drawn across."""
    points = [point for line in given for point in line.points]
    left = 24 + max(_width(y_form(value)) for _, value in points) + 16
    right = _WIDTH - 30 - max(_width(line.label) for line in given)
    top, bottom = 76, 376
    across = _Axis.of([point[0] for point in points], left, max(right, left + 300), log_x)
    heights = [point[1] for point in points] + ([target] if target is not None else [])
    up = _Axis.of(heights, bottom, top, log_y, from_zero=not log_y)
    parts = [_grid_x(across, top, bottom, x_form, sorted({p[0] for p in points})), _grid_y(up, across, y_form)]
    if target is not None:
        height = up.at(target)
        parts.append(f'<line class="aim" x1="{across.start}" x2="{across.end}" y1="{height:.1f}" y2="{height:.1f}"/>')
        parts.append(_text(target_label, across.start + 6, height - 6, "aim-text"))
    colours = _colours(given)
    parts += [_line(line, colour, across, up) for line, colour in zip(given, colours, strict=True)]
    parts += _names(given, colours, across, up)
    parts.append(_text(x, (across.start + across.end) / 2, bottom + 40, "quiet", "middle"))
    scale = {(True, True): "log axes", (True, False): "log x axis", (False, True): "log y axis"}.get((log_x, log_y))
    return _card(title, y + (f"; {scale}" if scale else ""), bottom + 56, parts)


def seconds(value: float) -> str:
    """Seconds with a unit that fits: 1.5 µs, 20 ms, 4.4 s."""
    factor, unit = (1e6, "µs") if abs(value) < 1e-3 else (1e3, "ms") if abs(value) < 1 else (1, "s")
    return f"{number(value * factor)} {unit}"


def number(value: float) -> str:
    """A number with as many digits as make sense: 1.5, 20, 12,000."""
    if abs(value) >= 10:
        return f"{value:,.0f}"
    return f"{value:.1f}".removesuffix(".0") if abs(value) >= 1 else f"{value:.2g}"


def magnitude(value: float) -> str:
    """A count in short: 100, 10k, 1M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    start: float
    end: float
    log: bool

    @classmethod
    def of(cls, values: Sequence[float], start: float, end: float, log: bool, from_zero: bool = False) -> _Axis:
        """An axis that has room for the values: from a power of ten, or from zero, or from the least of them."""
        low, high = min(values), max(values)
        if log and min(values) <= 0:
            raise ValueError(f"a log axis cannot show {min(values)}; give log=False")
        if log:
            low = 10 ** math.floor(math.log10(low) - (0.3 if from_zero else 0))
            high = 10 ** math.ceil(math.log10(high)) if not from_zero else high
            return cls(low, max(high, low * 10), start, end, True)
        low = min(0.0, low) if from_zero else low
        return cls(low, high if high > low else low + 1, start, end, False)

    def at(self, value: float) -> float:
        """Where the value lies, in pixels."""
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Powers of ten, or about five round numbers."""
        if self.log:
            least, most = round(math.log10(self.low)), math.floor(math.log10(self.high) + 1e-9)
            return [10.0**power for power in range(least, most + 1, max(1, (most - least + 1) // 8))]
        rough = (self.high - self.low) / 5
        unit = 10 ** math.floor(math.log10(rough))
        step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
        return [step * n for n in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def _grid_x(axis: _Axis, top: float, bottom: float, form: Format, at: Sequence[float] = ()) -> str:
    """Upright lines with their values below: at the ticks, or at what was measured where that is few."""
    found = []
    for tick in at if 0 < len(at) <= 8 else axis.ticks():
        x = axis.at(tick)
        found.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>')
        found.append(_text(form(tick), x, bottom + 18, "quiet", "middle"))
    return "".join(found)


def _grid_y(axis: _Axis, across: _Axis, form: Format) -> str:
    found = []
    for tick in axis.ticks():
        y = axis.at(tick)
        found.append(f'<line class="grid" x1="{across.start}" x2="{across.end}" y1="{y:.1f}" y2="{y:.1f}"/>')
        found.append(_text(form(tick), across.start - 8, y + 4, "quiet", "end"))
    return "".join(found)


def _colours(given: Sequence[Line]) -> list[int]:
    free = iter([n % _COLOURS for n in range(len(given) + 1)])
    return [_BARE_COLOUR if line.kind == BARE else next(free) for line in given]


def _line(line: Line, colour: int, across: _Axis, up: _Axis) -> str:
    places = [(across.at(x), up.at(y)) for x, y in sorted(line.points)]
    path = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    dots = "".join(f'<circle class="d{colour}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in places)
    return f'<path class="c{colour}" d="{path}"/>{dots}'


def _names(given: Sequence[Line], colours: Sequence[int], across: _Axis, up: _Axis) -> list[str]:
    """The names beside the ends of their lines, pushed apart where they would cover each other."""
    ends = sorted((up.at(max(line.points)[1]), n) for n, line in enumerate(given))
    heights: list[float] = []
    for height, _ in ends:
        heights.append(max(height, heights[-1] + 17) if heights else height)
    too_low = max(0.0, heights[-1] - up.start)
    found = []
    for (_, n), height in zip(ends, heights, strict=True):
        x = across.at(max(given[n].points)[0]) + 10
        found.append(_text(given[n].label, x, height - too_low + 4, f"d{colours[n]} strong"))
    return found


def _beside(bar: Bar, form: Format) -> str:
    return bar.text or (form(bar.value) if bar.value is not None else "could not be measured")


def _text(text: str, x: float, y: float, style: str = "", anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _card(title: str, below: str, height: float, parts: Sequence[str]) -> str:
    size = f'viewBox="0 0 {_WIDTH} {height:g}" width="{_WIDTH}" height="{height:g}"'
    written = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}">',
        f"<style>{_STYLE}</style>",
        f'<rect class="card" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1:g}" rx="8"/>',
        _text(title, 20, 28, "title"), _text(below, 20, 47, "quiet"), *parts, "</svg>",
    ]  # fmt: skip
    return "\n".join(written) + "\n"


def _width(text: str) -> float:
    """About how wide a bold text is; no font is asked."""
    return len(text) * _SIZE * 0.62
