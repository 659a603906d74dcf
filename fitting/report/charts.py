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
        series = [
            dataclasses.replace(s, y=[math.log10(y) if _finite(y) and y > 0 else None for y in s.y])
            for s in series
        ]
    points = [(x, y) for s in series for x, y in zip(s.x, s.y) if _finite(y)]
    if not points:
        return ""
    x_range = _widened(min(x for x, _ in points), max(x for x, _ in points), 0.0)
    low, high = min(y for _, y in points), max(y for _, y in points)
    y_range = _widened(min(low, 0.0) if from_zero else low, high, 0.06)
    if from_zero and low >= 0:
        y_range = (0.0, y_range[1])
    place = _Placement(x_range, y_range)
    parts = [_axes(place, x_label, y_label, log_y)]
    if shaded is not None:
        parts.insert(0, _shade(place, *shaded))
    named = [s for s in series if not s.faint]
    for s in series:
        colour = COLOURS[
            next((i for i, n in enumerate(named) if n.name == s.name), 0) % len(COLOURS)
        ]
        style = f'stroke="{colour}" ' + (
            'stroke-width="0.8" opacity="0.3"' if s.faint else 'stroke-width="1.7"'
        )
        parts.append(f'<path d="{_path(place, s)}" fill="none" stroke-linejoin="round" {style}/>')
    legend = "".join(
        f'<span><i style="background:{COLOURS[i % len(COLOURS)]}"></i>{escape(s.name)}</span>'
        for i, s in enumerate(named)
    )
    title = escape(f"{y_label} over {x_label}")
    svg = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">{"".join(parts)}</svg>'
    return f'<div class="chart">{svg}<div class="legend">{legend if len(named) > 1 else ""}</div></div>'


def running_mean(values: Sequence[float | None], share: float = 0.01) -> list[float | None]:
    """An exponential mean over about ``share`` of the values, started without bias; gaps stay
    gaps."""
    weight = 1 / max(1.0, share * len(values))
    total, mass, out = 0.0, 0.0, []
    for value in values:
        if not _finite(value):
            out.append(None)
            continue
        total, mass = (1 - weight) * total + weight * value, (1 - weight) * mass + weight
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
        if not _finite(y):
            pen = "M"
            continue
        commands.append(f"{pen}{place.x(x):.1f} {place.y(y):.1f}")
        pen = "L"
    return "".join(commands)


def _axes(place: _Placement, x_label: str, y_label: str, log_y: bool) -> str:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = []
    for tick in _log_ticks(*place.y_range) if log_y else _ticks(*place.y_range, 5):
        y = place.y(tick)
        label = _number(10**tick if log_y else tick)
        parts.append(f'<line x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{label}</text>')
    for tick in _ticks(*place.x_range, 8):
        x = place.x(tick)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}" class="axis"/>'
        )
        parts.append(
            f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{_number(tick)}</text>'
        )
    parts.append(f'<line x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}" class="axis"/>')
    parts.append(
        f'<text x="{(_LEFT + right) / 2}" y="{_HEIGHT - 3}" text-anchor="middle">{escape(x_label)}</text>'
    )
    middle = (_TOP + bottom) / 2
    turn = f'transform="rotate(-90 11 {middle})"'
    parts.append(f'<text x="11" y="{middle}" text-anchor="middle" {turn}>{escape(y_label)}</text>')
    return "".join(parts)


def _shade(place: _Placement, start: float, end: float, label: str) -> str:
    left, right = (min(max(place.x(value), _LEFT), _WIDTH - _RIGHT) for value in (start, end))
    height = _HEIGHT - _TOP - _BOTTOM
    rectangle = f'<rect x="{left:.1f}" y="{_TOP}" width="{right - left:.1f}" height="{height}" class="shade"/>'
    return f'{rectangle}<text x="{right - 4:.1f}" y="{_TOP + 11}" text-anchor="end">{escape(label)}</text>'


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
    return [
        power + math.log10(f)
        for power in powers
        for f in factors
        if low <= power + math.log10(f) <= high
    ]


def _widened(low: float, high: float, share: float) -> tuple[float, float]:
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-3):
        room = max(0.5, 1e-6 * abs(high))
        return low - room, high + room
    return low - share * (high - low), high + share * (high - low)


def _number(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:g}K"
    return f"{round(value, 6):g}"


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
