"""Figures as inline SVG. Colors come from the page's style sheet, so they follow light, dark and print.

Every text goes through ``escape``: names of metrics, runs and categories are foreign text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

Points = Sequence[tuple[float, float]]
WIDTH, HEIGHT = 460, 250
LEFT, RIGHT, TOP, BOTTOM = 56, 24, 12, 40
MOST_POINTS = 400
"""Points a curve is drawn with; longer ones are thinned evenly, first and last included."""


@dataclass(frozen=True)
class Axis:
    """One direction of a figure: data to pixels, linear or logarithmic."""

    low: float
    high: float
    begin: float
    end: float
    logarithmic: bool = False

    def pixel(self, value: float) -> float:
        """Pixel of a value."""
        low, high, at = self.low, self.high, value
        if self.logarithmic:
            low, high, at = math.log(low), math.log(high), math.log(max(value, self.low))
        share = (at - low) / (high - low) if high > low else 0.5
        return self.begin + share * (self.end - self.begin)

    def ticks(self) -> list[float]:
        """Four to eight round values between the ends."""
        if self.logarithmic:
            return _log_ticks(self.low, self.high)
        if self.high <= self.low:
            return [self.low]
        rough = (self.high - self.low) / 5
        size = 10 ** math.floor(math.log10(rough))
        step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough)
        first = math.ceil(self.low / step)
        return [round(index * step, 12) for index in range(first, math.floor(self.high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]
        if len(ticks) <= 8:
            break
    return ticks or [low, high]


def svg(text: str) -> Markup:
    """A figure of ours, whose foreign texts are escaped already."""
    return Markup(text)  # noqa: S704 - this file escapes every text it takes


def curves(series: Mapping[str, Points], x_label: str, title: str, colors: Sequence[int] | None = None) -> str:
    """Lines over steps, one a run or metric; values that are not finite are left out."""
    finite = {name: [point for point in points if math.isfinite(point[1])] for name, points in series.items()}
    every = [point for points in finite.values() for point in points]
    if not every:
        return ""
    x = _axis([point[0] for point in every], LEFT, WIDTH - RIGHT)
    y = _axis([point[1] for point in every], HEIGHT - BOTTOM, TOP, room=0.06)
    body = []
    for position, points in enumerate(finite.values()):
        index = colors[position] if colors else position
        path = " ".join(f"{x.pixel(step):.1f},{y.pixel(value):.1f}" for step, value in thinned(points))
        if len(points) == 1:
            body.append(f'<circle class="dot s{index % 6}" cx="{path.split(",")[0]}" cy="{path.split(",")[1]}" r="3"/>')
        elif points:
            body.append(f'<polyline class="line s{index % 6}" points="{path}"/>')
    return _svg(x, y, "".join(body), x_label, "", f"{title} over {x_label}")


def scatter(pairs: Points, label: str, band: tuple[bool, float] | None = None) -> str:
    """Truth across, answer upwards, both on one scale; on the diagonal they are equal.

    ``band`` draws the answers whose interval holds the truth: (intervals are factors, radius of an interval).
    """
    pairs = [pair for pair in pairs if math.isfinite(pair[0]) and math.isfinite(pair[1])]
    if not pairs:
        return ""
    values = [value for pair in pairs for value in pair]
    logarithmic = min(values) > 0 and max(values) / min(values) > 20
    x = _axis(values, LEFT, WIDTH - RIGHT, room=0.04, logarithmic=logarithmic)
    y = Axis(x.low, x.high, HEIGHT + 60 - BOTTOM, TOP, logarithmic)
    ends = [
        f'{a}="{axis.pixel(value):.1f}"'
        for value, pair in ((x.low, "x1 y1"), (x.high, "x2 y2"))
        for a, axis in zip(pair.split(), (x, y), strict=True)
    ]
    dots = "".join(f'<circle cx="{x.pixel(truth):.1f}" cy="{y.pixel(answer):.1f}" r="2.6"/>' for truth, answer in pairs)
    body = f'{_band(x, y, band)}<line class="diagonal" {" ".join(ends)}/><g class="dots">{dots}</g>'
    return _svg(x, y, body, f"true {label}", f"answered {label}", f"{label}: truth and answer", HEIGHT + 60)


def _band(x: Axis, y: Axis, band: tuple[bool, float] | None) -> str:
    """The answers between both ends, over all truths, as an area cut off at the figure's edges."""
    if band is None:
        return ""
    factors, radius = band
    steps = [step / 40 for step in range(41)]
    truths = [x.low * (x.high / x.low) ** s if x.logarithmic else x.low + s * (x.high - x.low) for s in steps]
    sides = []
    for sign in (-1, 1):
        side = [t * math.exp(sign * radius) if factors else t + sign * radius for t in truths]
        sides.append([(x.pixel(t), y.pixel(min(max(v, y.low), y.high))) for t, v in zip(truths, side, strict=True)])
    points = " ".join(f"{across:.1f},{up:.1f}" for across, up in [*sides[0], *reversed(sides[1])])
    return f'<polygon class="band" points="{points}"/>'


def bars(values: Sequence[tuple[str, float | None, int]], title: str) -> str:
    """One bar a band: (name, percentage, rows); a band without a value has none."""
    known = [value for _, value, _ in values if value is not None]
    if not known:
        return ""
    y = Axis(0, max(known) * 1.1 or 1, HEIGHT - BOTTOM, TOP + 8)
    width = (WIDTH - LEFT - RIGHT) / len(values)
    body = []
    for index, (name, value, rows) in enumerate(values):
        middle = LEFT + (index + 0.5) * width
        if value is not None:
            top = y.pixel(value)
            shown = f"{value:.0f} %" if value >= 10 else f"{value:.1f} %"
            body.append(
                f'<rect class="bar" x="{middle - width * 0.36:.1f}" y="{top:.1f}" width="{width * 0.72:.1f}" '
                f'height="{HEIGHT - BOTTOM - top:.1f}" rx="3"><title>{escape(name)}: {rows} rows</title></rect>'
                f'<text class="value" x="{middle:.1f}" y="{top - 4:.1f}" text-anchor="middle">{shown}</text>'
            )
        body.append(f'<text x="{middle:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{escape(name)}</text>')
        body.append(
            f'<text class="quiet" x="{middle:.1f}" y="{HEIGHT - BOTTOM + 29}" text-anchor="middle">{rows} rows</text>'
        )
    return _svg(None, y, "".join(body), "", "", title)


def whisker(value: float, low: float, high: float, ends: tuple[float, float]) -> str:
    """A figure with its interval on the scale ``ends``, small enough for a table cell."""
    axis = Axis(*ends, 4, 80)
    left, right, at = (min(80.0, max(4.0, axis.pixel(one))) for one in (low, high, value))
    return (
        f'<svg class="whisker" viewBox="0 0 84 14" width="84" height="14" role="img" aria-label="interval">'
        f'<line class="track" x1="4" x2="80" y1="7" y2="7"/>'
        f'<line class="range" x1="{left:.1f}" x2="{right:.1f}" y1="7" y2="7"/>'
        f'<circle cx="{at:.1f}" cy="7" r="3.5"/></svg>'
    )


def thinned(points: Points) -> Points:
    """At most MOST_POINTS of the points, evenly, first and last included."""
    if len(points) <= MOST_POINTS:
        return points
    step = (len(points) - 1) / (MOST_POINTS - 1)
    return [points[round(index * step)] for index in range(MOST_POINTS)]


def _axis(values: Sequence[float], begin: float, end: float, room: float = 0.0, logarithmic: bool = False) -> Axis:
    low, high = min(values), max(values)
    if logarithmic:
        margin = (high / low) ** room
        return Axis(low / margin, high * margin, begin, end, True)
    if low == high == 0:
        return Axis(0.0, 1.0, begin, end)
    margin = (high - low) * room or abs(high) * 0.1 * (high == low)
    return Axis(low - margin, high + margin, begin, end)


def _svg(x: Axis | None, y: Axis, body: str, x_label: str, y_label: str, title: str, height: int = HEIGHT) -> str:
    floor = height - BOTTOM
    grid = "".join(
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y.pixel(tick):.1f}" y2="{y.pixel(tick):.1f}"/>'
        for tick in y.ticks()
    )
    labels = "".join(
        f'<text x="{LEFT - 6}" y="{y.pixel(tick) + 3.5:.1f}" text-anchor="end">{tick:g}</text>' for tick in y.ticks()
    )
    if x is not None:
        labels += "".join(
            f'<text x="{x.pixel(tick):.1f}" y="{floor + 15}" text-anchor="middle">{tick:g}</text>' for tick in x.ticks()
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    return (
        f'<svg class="figure" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f'<g class="rules">{grid}</g><g class="labels">{labels}'
        f'<text class="axis" x="{middle:.0f}" y="{height - 4}" text-anchor="middle">{escape(x_label)}</text>'
        f'<text class="axis" transform="translate(12 {floor / 2:.0f}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text></g>{body}</svg>"
    )
