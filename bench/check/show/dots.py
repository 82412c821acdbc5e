"""The units of a regression check as dots over one shared axis, in SVG.  Numbers in, markup out: no text from outside gets here.

A dot is a subpath of no length with round caps, a square one with square caps: seven bytes each, so that thousands of rows stay light.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from markupsafe import Markup

from ...data.check_record import Row, Unit
from ...text.digits import known

WIDTH, HEIGHT = 320, 34
TOP, BOTTOM = 5, 21  # the units, in the order of time
BAR = 28  # height of the interval
EDGE = 8  # room beside the plot for marks of what lies beyond it
REACH = 4  # the axis goes at most so many thresholds to either side: one benchmark far off must not squeeze the others
STEPS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)


@dataclass(frozen=True)
class Axis:
    """Change in percent, above 0 is slower."""

    low: float
    high: float
    threshold: float  # in percent too
    tolerance: float

    def x(self, percent: float) -> float:
        """Pixels; what lies beyond the axis at its end."""
        inside = min(max(percent, self.low), self.high)
        return EDGE + (WIDTH - 2 * EDGE) * (inside - self.low) / (self.high - self.low)

    def beyond(self, percent: float) -> int:
        return (percent > self.high) - (percent < self.low)


def axis(rows: Iterable[Row], threshold: float, tolerance: float) -> Axis:
    """Wide enough for every unit and interval, within reason, and always for the threshold."""
    limit = 100 * max(threshold, 0.001)
    values = [value for row in rows for value in _values(row)]
    high = min(max([1.4 * limit, *values]), REACH * limit)
    low = max(min([-0.6 * limit, *values]), -REACH * limit)
    return Axis(low, high, 100 * threshold, 100 * tolerance)


def _values(row: Row) -> Iterator[float]:
    yield from (_percent(unit) for unit in (*row.units, *row.confirmation))
    if known(row.estimate):
        yield from (100 * (ratio - 1) for ratio in (row.estimate.low, row.estimate.high))


def _percent(unit: Unit) -> float:
    return 100 * math.expm1(unit.difference)


def guides(axis: Axis) -> Markup:
    """The lines that every row repeats: no change, the tolerance and the threshold."""
    lines = (("zero", 0.0), ("tolerance", axis.tolerance), ("threshold", axis.threshold))
    drawn = "".join(f'<path class="{name}" d="M{axis.x(at):.1f} 0V{HEIGHT}"/>' for name, at in lines)
    return Markup(f'<svg class="unseen" aria-hidden="true"><defs><g id="guides">{drawn}</g></defs></svg>')


def scale(axis: Axis) -> Markup:
    """The head of the column: its ticks, and which side is slower."""
    step = next((step for step in STEPS if (axis.high - axis.low) / step <= 6), STEPS[-1])
    ticks = [number * step for number in range(math.ceil(axis.low / step), math.floor(axis.high / step) + 1)]
    marks = "".join(
        f'<path d="M{axis.x(tick):.1f} 29v5"/><text x="{axis.x(tick):.1f}" y="26" text-anchor="middle">{tick:g}\u00a0%</text>'
        for tick in ticks
    )
    sides = f'<text x="0" y="11">← faster</text><text x="{WIDTH}" y="11" text-anchor="end">slower →</text>'
    title = f"<title>Change of time per call, from {axis.low:.0f} to {axis.high:.0f} %; right is slower</title>"
    return Markup(f'<svg class="scale" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{title}{sides}{marks}</svg>')


def picture(row: Row, axis: Axis) -> Markup:
    """Round: units that searched; square: units that confirmed; bar: the interval, with a stroke at the ratio.  "" without units."""
    if not row.units and not row.confirmation:
        return Markup("")
    count = len(row.units) + len(row.confirmation)
    marks: dict[str, list[str]] = {"u": [], "c": [], "e": []}
    for place, unit in enumerate((*row.units, *row.confirmation)):
        y, percent = TOP + (BOTTOM - TOP) * place / max(count - 1, 1), _percent(unit)
        if side := axis.beyond(percent):
            marks["e"].append(_chevron(side, y, 3))
        else:
            marks["u" if place < len(row.units) else "c"].append(f"M{axis.x(percent):.0f} {y:.3g}h0")
    drawn = "".join(f'<path class="{name}" d="{"".join(parts)}"/>' for name, parts in marks.items() if parts)
    shape = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img"><title>{_said(row)}</title><use href="#guides"/>'
    return Markup(f"{shape}{drawn}{_bar(row, axis)}</svg>")


def _bar(row: Row, axis: Axis) -> str:
    if not known(row.estimate):
        return ""
    low, middle, high = (100 * (ratio - 1) for ratio in (row.estimate.low, row.estimate.ratio, row.estimate.high))
    side = axis.beyond(middle)
    end = _chevron(side, BAR, 5) if side else f"M{axis.x(middle):.1f} {BAR - 4}v8"
    return f'<path class="i" d="M{axis.x(low):.1f} {BAR}H{axis.x(high):.1f}{end}"/>'


def _chevron(side: int, y: float, size: int) -> str:
    """Points out of the picture."""
    tip = WIDTH - 1 if side > 0 else 1
    return f"M{tip - side * size} {y - size:.3g}l{side * size} {size} {-side * size} {size}"


def _said(row: Row) -> str:
    """The same in words, for who cannot see the dots or points at them."""
    parts = (("units", row.units), ("confirming units", row.confirmation))
    said = (f"{name}: {', '.join(f'{_percent(unit):+.1f}' for unit in part)}" for name, part in parts if part)
    return "Change in %; " + "; ".join(said)
