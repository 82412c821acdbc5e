"""Where the difference between two variants comes from: their profiles at one point, operator by operator.  It measures nothing."""

import difflib
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..data.profiled import Operator, Profile
from ..data.record import LayerFacts, Measured, Outcome, Point, Run
from ..declare.mistake import Mistake
from ..plan import planning
from ..plan.planning import Selection, Task
from ..plan.steps import OPTIMIZERS, written

OUTSIDE = "outside operators: Python, and the profiler itself"

Pair = tuple[float, float]  # of the first variant and of the second


@dataclass(frozen=True)
class Row:
    """One operator, per step.  Self time, without the operators called inside; CPU and device together."""

    operator: str
    calls: Pair
    seconds: Pair
    allocated_bytes: Pair

    @property
    def difference(self) -> float:
        """Seconds that the second variant takes more."""
        return self.seconds[1] - self.seconds[0]


@dataclass(frozen=True)
class Explanation:
    point: Point
    variants: tuple[str, str]
    unprofiled: Pair  # median seconds per step of the timed pass
    profiled: Pair  # seconds per step with the profiler on
    rows: tuple[Row, ...]  # their seconds are the profile's shares of the unprofiled time

    @property
    def contradicted(self) -> bool:
        """Whether the variant that takes longer looks like the faster one with the profiler on, or in the total of the rows.

        On a GPU the rows add host and device time, which run at the same time.
        """
        longer = self.unprofiled[1] - self.unprofiled[0]
        return longer * (self.profiled[1] - self.profiled[0]) < 0 or longer * self.total.difference < 0

    @property
    def total(self) -> Row:
        return add("total", self.rows)


def diff(a: Profile, b: Profile) -> tuple[Row, ...]:
    """A row per operator that either has, the largest difference in time first; last what no operator accounts for.

    On a CPU the seconds of all rows add up to the profiled step.  On a GPU they are more, for host and device work at the same time.
    """
    sides = [{operator.name: operator for operator in profile.operators} for profile in (a, b)]
    steps = [max(1, profile.calls) for profile in (a, b)]

    def row(name: str) -> Row:
        found = [side.get(name, Operator(name, 0, 0.0, 0.0, 0)) for side in sides]
        calls, seconds, nbytes = (
            tuple(amount / n for amount, n in zip(amounts, steps, strict=True))
            for amounts in (
                [each.calls for each in found],
                [each.cpu_seconds + each.device_seconds for each in found],
                [each.allocated_bytes for each in found],
            )
        )
        return Row(name, calls, seconds, nbytes)  # type: ignore[arg-type]  # two of each

    rows = sorted((row(name) for name in sides[0] | sides[1]), key=lambda each: -abs(each.difference))
    return (*rows, Row(OUTSIDE, (0.0, 0.0), (_outside(a), _outside(b)), (0.0, 0.0)))


def _outside(profile: Profile) -> float:
    """Seconds per step in none of the operators.  Operators on several threads at once may leave nothing."""
    return max(0.0, profile.wall_seconds - sum(each.cpu_seconds for each in profile.operators)) / max(1, profile.calls)


def add(name: str, rows: Sequence[Row]) -> Row:
    """The sum of rows as a row."""

    def both(pairs: Sequence[Pair]) -> Pair:
        return sum(first for first, _ in pairs), sum(second for _, second in pairs)

    return Row(name, both([r.calls for r in rows]), both([r.seconds for r in rows]), both([r.allocated_bytes for r in rows]))


def explain(run: Run, point: Point, variants: tuple[str, str]) -> Explanation:
    """Two variants of a run at one point.  Raises Mistake where one of them was not measured there."""
    outcomes = {record.variant: record.outcome for record in run.records if record.point.id == point.id}
    a, b = (_measured(outcomes.get(name), name, point) for name in variants)
    unprofiled = statistics.median(a.timing.seconds), statistics.median(b.timing.seconds)
    profiled = a.profile.wall_seconds / max(1, a.profile.calls), b.profile.wall_seconds / max(1, b.profile.calls)
    return Explanation(point, variants, unprofiled, profiled, _shares(diff(a.profile, b.profile), unprofiled, profiled))


def _shares(rows: Sequence[Row], unprofiled: Pair, profiled: Pair) -> tuple[Row, ...]:
    """The rows with each variant's seconds scaled from its profiled step to its unprofiled one; the largest difference first again.

    The profiler costs a time per operator, so a variant of many small ones would look slower than it is, even than one that takes longer.
    """
    scale = [without / with_ if with_ else 1.0 for without, with_ in zip(unprofiled, profiled, strict=True)]
    scaled = [replace(row, seconds=(row.seconds[0] * scale[0], row.seconds[1] * scale[1])) for row in rows]
    return (*sorted(scaled[:-1], key=lambda row: -abs(row.difference)), scaled[-1])


def _measured(outcome: Outcome | None, name: str, point: Point) -> Measured:
    if isinstance(outcome, Measured):
        return outcome
    why = f"{type(outcome).__name__.lower()}: {outcome.reason}" if outcome else "not in this run"
    raise Mistake(f"explain: there is no profile of {name} at {point.id}; it is {why}")


def tasks(run: Run) -> list[Task]:
    """The points of a stored run, each with its variants."""
    return [Task(point, tuple(names)) for point, names in _by_point(run).values()]


def _by_point(run: Run) -> dict[str, tuple[Point, list[str]]]:
    found: dict[str, tuple[Point, list[str]]] = {}
    for record in run.records:
        found.setdefault(record.point.id, (record.point, []))[1].append(record.variant)
    return found


def pair(layers: Sequence[LayerFacts], layer: str, words: str) -> tuple[str, str]:
    """`stock,compile` -> the two variants; one alone is held against the reference.  Raises Mistake for what the layer does not have."""
    facts = {each.name: each for each in layers}
    if layer not in facts:
        raise Mistake(f"explain: no layer is called {layer!r}{_near(layer, facts)}; layers: {', '.join(facts)}")
    known = [variant.name for variant in facts[layer].variants]
    names = [word.strip() for word in words.split(",") if word.strip()]
    for name in names:
        if name not in known:
            raise Mistake(f"--variants: {layer} has no {name!r}{_near(name, known)}; variants: {', '.join(known)}")
    if len(names) == 1:
        names.insert(0, facts[layer].reference)
    if len(names) != 2 or names[0] == names[1]:
        raise Mistake(f"--variants {words}: name two different ones of {', '.join(known)}, as --variants {','.join((known * 2)[:2])}")
    return names[0], names[1]


def _near(word: str, known: Sequence[str] | dict[str, LayerFacts]) -> str:
    close = difflib.get_close_matches(word, list(known), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def choose(candidates: Sequence[Task], layer: str, selection: Selection) -> Point:
    """The one point of a layer that a selection leaves.  Raises Mistake where it leaves none, or several."""
    left = [task for task in candidates if task.point.layer == layer and _fits(task.point, selection)]
    left = planning.select(left, selection.expression) if left else []
    if not left:
        raise Mistake(f"explain: no such point of {layer}; there are {_few([t.point.id for t in candidates if t.point.layer == layer])}")
    if len(left) > 1:
        raise Mistake(f"explain: {len(left)} points of {layer} match, one is needed; add for example  -k {left[0].point.id}")
    return left[0].point


def _fits(point: Point, selection: Selection) -> bool:
    """Devices, dtypes, steps and sizes as given; nothing given fits all."""
    steps = written(selection.steps, selection.optimizers or OPTIMIZERS)
    wanted = ((selection.devices, point.device), (selection.dtypes, point.dtype), (steps, point.step))
    gpu = "gpu" in selection.devices and point.device != "cpu"
    return all(not words or word in words or (gpu and word == point.device) for words, word in wanted) and all(
        point.size.get(dimension) in values for dimension, values in selection.sizes.items()
    )


def _few(ids: Sequence[str]) -> str:
    return ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "") if ids else "none"


def only(selection: Selection, point: Point, variants: tuple[str, str]) -> Selection:
    """The selection that measures just these two variants at this point."""
    return replace(selection, expression=" or ".join(f"{point.id}-{name}" for name in variants), steps=(point.step,), optimizers=())
