"""Line charts as inline SVG: no script, no font, no file beside the page."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from html import escape

COLOURS = ("#2563eb", "#d97706", "#059669", "#9333ea", "#dc2626", "#64748b")
_WIDTH, _HEIGHT = 720, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 10, 10, 34
_MAX_POINTS = 700


@dataclasses.dataclass(frozen=True)
class Series:
    """One curve. Values that are not finite (or None) leave a gap. faint: drawn thin and pale, not
    in the legend."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    faint: bool = False


def line_chart(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    shaded: tuple[float, float, str] | None = None,
    log_y: bool = False,
    from_zero: bool = False,
) -> str:
    """An SVG of curves over common axes; "" when there is nothing to draw.

    shaded: x from, x to and a label of a part of the axis. log_y: only for positive values.
    """
    if log_y:
        series = [dataclasses.replace(s, y=[_log10(y) for y in s.y]) for s in series]
    pairs = ((x, y) for s in series for x, y in zip(s.x, s.y))
    points = [(x, y) for x, y in pairs if y is not None and math.isfinite(y)]
    if not points:
        return ""
    xs, ys = zip(*points)
    x_range, low, high = _widened(min(xs), max(xs), 0.0), min(ys), max(ys)
    y_range = _widened(min(low, 0.0) if from_zero else low, high, 0.06)
    if from_zero and low >= 0:
        y_range = (0.0, y_range[1])
    place = _Placement(x_range, y_range)
    parts = [_axes(place, x_label, y_label, log_y)]
    if shaded is not None:
        parts.insert(0, _shade(place, *shaded))
    names = [s.name for s in series if not s.faint]
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    for s in series:
        width = 'stroke-width="0.8" opacity="0.3"' if s.faint else 'stroke-width="1.7"'
        style = f'stroke="{colours.get(s.name, COLOURS[0])}" {width}'
        parts.append(f'<path d="{_path(place, s)}" fill="none" stroke-linejoin="round" {style}/>')
    legend = ""
    if len(names) > 1:
        for name, colour in colours.items():
            legend += f'<span><i style="background:{colour}"></i>{escape(name)}</span>'
    title = escape(f"{y_label} over {x_label}")
    svg = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">'
    svg += "".join(parts) + "</svg>"
    return f'<div class="chart">{svg}<div class="legend">{legend}</div></div>'


def running_mean(values: Sequence[float | None], share: float = 0.01) -> list[float | None]:
    """An exponential mean over about ``share`` of the values, started without bias; gaps stay
    gaps."""
    weight = 1 / max(1.0, share * len(values))
    total, mass, out = 0.0, 0.0, []
    for value in values:
        if value is None or not math.isfinite(value):
            out.append(None)
            continue
        total = (1 - weight) * total + weight * value
        mass = (1 - weight) * mass + weight
        out.append(total / mass)
    return out


@dataclasses.dataclass(frozen=True)
class _Placement:
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)


def _path(place: _Placement, series: Series) -> str:
    stride = max(1, math.ceil(len(series.x) / _MAX_POINTS))
    commands, pen = [], "M"
    for x, y in list(zip(series.x, series.y))[::stride]:
        if y is None or not math.isfinite(y):
            pen = "M"
            continue
        commands.append(f"{pen}{place.x(x):.1f} {place.y(y):.1f}")
        pen = "L"
    return "".join(commands)


def _axes(place: _Placement, x_label: str, y_label: str, log_y: bool) -> str:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    middle = (_TOP + bottom) / 2
    parts = [
        _line("axis", _LEFT, right, bottom, bottom),
        _text((_LEFT + right) / 2, _HEIGHT - 3, "middle", x_label),
        _text(11, middle, "middle", y_label, f' transform="rotate(-90 11 {middle})"'),
    ]
    for tick in _log_ticks(*place.y_range) if log_y else _ticks(*place.y_range, 5):
        y, label = place.y(tick), _number(10**tick if log_y else tick)
        parts += [_line("grid", _LEFT, right, y, y), _text(_LEFT - 6, y + 3.5, "end", label)]
    for tick in _ticks(*place.x_range, 8):
        x, label = place.x(tick), _number(tick)
        parts += [_line("axis", x, x, bottom, bottom + 4), _text(x, bottom + 15, "middle", label)]
    return "".join(parts)


def _line(kind: str, x1: float, x2: float, y1: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _text(x: float, y: float, anchor: str, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(text)}</text>'


def _shade(place: _Placement, start: float, end: float, label: str) -> str:
    left, right = (min(max(place.x(value), _LEFT), _WIDTH - _RIGHT) for value in (start, end))
    size = f'width="{right - left:.1f}" height="{_HEIGHT - _TOP - _BOTTOM}"'
    rectangle = f'<rect x="{left:.1f}" y="{_TOP}" {size} class="shade"/>'
    return rectangle + _text(right - 4, _TOP + 11, "end", label)


def _ticks(low: float, high: float, count: int) -> list[float]:
    """About ``count`` round values between two."""
    raw = (high - low) / count
    power = 10 ** math.floor(math.log10(raw))
    step = next((power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw), power * 10)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Decimal logarithms of 1, 2, 5 times powers of ten between two logarithms; powers alone over a
    wide range."""
    factors = (1, 2, 5) if high - low < 2.5 else (1,)
    powers = range(math.floor(low), math.ceil(high) + 1)
    ticks = [power + math.log10(factor) for power in powers for factor in factors]
    return [tick for tick in ticks if low <= tick <= high]


def _widened(low: float, high: float, share: float) -> tuple[float, float]:
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-3):
        room = max(0.5, 1e-6 * abs(high))
        return low - room, high + room
    return low - share * (high - low), high + share * (high - low)


def _number(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:g}K"
    return f"{round(value, 6):g}"


def _log10(value: float | None) -> float | None:
    return math.log10(value) if value is not None and math.isfinite(value) and value > 0 else None
