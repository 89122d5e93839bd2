"""Charts as inline SVG. Colors come from the page's stylesheet (`.series-0`, ...), for light and dark themes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape

Floats = npt.NDArray[np.float64]

HEIGHT = 170
NARROW, WIDE = 440, 900
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 24, 22
MOST_BINS = 32


@dataclass(frozen=True)
class Series:
    """Named values, styled by a CSS class of the page."""

    name: str
    style: str  # `series-0` to `series-5`, `series-truth`
    values: Floats


def distribution_chart(series: Sequence[Series], label: str) -> Markup:
    """Histogram outlines of all series on one axis."""
    values = np.concatenate([one.values for one in series])
    low, high = (float(v) for v in np.quantile(values, [0.005, 0.995]))
    if low == high:
        low, high = low - 0.5, high + 0.5
    bins = max(6, min(MOST_BINS, math.isqrt(4 * len(series[0].values))))
    shares = [np.histogram(s.values.clip(low, high), bins, (low, high))[0] / len(s.values) for s in series]
    top = max(float(share.max()) for share in shares)
    corners = np.repeat(np.linspace(low, high, bins + 1), 2)[1:-1]
    lines = [
        _line(_points(corners, np.repeat(share, 2), (low, high), top), one.style, one.name)
        for one, share in zip(series, shares, strict=True)
    ]
    return _chart(lines, (low, high), top * 100, label, "% of images")


def time_chart(seconds: Sequence[float], rates: Sequence[float], label: str, width: int) -> Markup:
    """A rate over time as a step chart. `seconds` are the edges of the intervals; `width` is `NARROW` or `WIDE`."""
    end = max(float(seconds[-1]), 1e-3)
    top = max([*rates, 1e-9]) * 1.05
    times = np.repeat(np.asarray(seconds, np.float64), 2)[1:-1]
    points = _points(times, np.repeat(np.asarray(rates, np.float64), 2), (0.0, end), top, width)
    return _chart([_line(points, "series-0", label)], (0.0, end), top, label, "images per second", "s", width)


def ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers in [low, high].

    >>> ticks(0, 10, 5), ticks(17.3, 41.0, 4)
    ([0, 2, 4, 6, 8, 10], [20, 25, 30, 35, 40])
    """
    rough = (high - low) / count
    power = 10 ** math.floor(math.log10(rough))
    step = min((m * power for m in (1, 2, 5, 10)), key=lambda s: abs(s - rough))
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 10) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _chart(
    lines: Sequence[Markup],
    across: tuple[float, float],
    top: float,
    label: str,
    vertical: str,
    unit: str = "",
    width: int = NARROW,
) -> Markup:
    grid = [*_across(across, unit, width), *_upward(top, width)]
    title = Markup("<title>{}</title>").format(label)
    caption = _text(LEFT, TOP - 12, vertical, "start")  # above the vertical axis
    size = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(width, HEIGHT, label)
    return size + title + Markup("").join([*grid, *lines, caption]) + Markup("</svg>")


def _line(points: str, style: str, name: str) -> Markup:
    return Markup('<polyline class="series {}" points="{}"><title>{}</title></polyline>').format(style, points, name)


def _across(span: tuple[float, float], unit: str, width: int) -> list[Markup]:
    marks = []
    for value in ticks(*span, width // 88):
        x = LEFT + (value - span[0]) / (span[1] - span[0]) * (width - LEFT - RIGHT)
        marks.append(_text(x, HEIGHT - BOTTOM + 15, f"{value:g}{unit}", "middle"))
    return marks


def _upward(top: float, width: int) -> list[Markup]:
    marks = []
    for value in ticks(0, top, 3):
        y = HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)
        rule = Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>')
        marks += [rule.format(LEFT, width - RIGHT, y, y), _text(LEFT - 6, y + 4, f"{value:g}", "end")]
    return marks


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text class="axis" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        x, y, anchor, escape(text)
    )


def _points(x: Floats, y: Floats, span: tuple[float, float], top: float, width: int = NARROW) -> str:
    across = LEFT + (x - span[0]) / (span[1] - span[0]) * (width - LEFT - RIGHT)
    upward = HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM)
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, upward, strict=True))
