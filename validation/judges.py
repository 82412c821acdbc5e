"""What each tool's rule, and the check's, says of one recorded noise: how many false alarms, and how many slow-downs found.

Reads what `traces` recorded.  Other tools measure the base in one launch and the head in another; a pair is two launches of one condition,
at most four apart.  The check draws whole launches.  Slow-downs are put in by arithmetic, all times of the head that much longer.
"""

import functools
import math
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from itertools import permutations
from typing import Any, NamedTuple

import replay
import study
from rules import STATISTICS, Side, asv_continuous, compare_fail, condensed, criterion_like, u_test
from traces import LAUNCHES

from layerbench.bench.check.executors import PER_PROCESS
from layerbench.bench.check.unit import trimmed
from layerbench.bench.stats.sequential import CONFIRMATIONS, LOOKS, Rule

EFFECTS = (0.0, 0.02, 0.03, 0.05, 0.10, 0.20)
APART = 4
DRAWN = 2000  # suites, of each of the check's rows and effects
BLOCK_SECONDS, SAMPLE_SECONDS = 0.002, 0.01
PER_CONFIRMATION = 2  # units that a process gives to the confirmation
CYCLES = 24  # super-cycles of a unit, of the 29 or more that half a second holds on a quiet machine
FEWEST_LAUNCHES = 5  # of a row

Launch = dict[str, dict[str, Any]]  # benchmark -> what `traces` recorded of it


class Flags(NamedTuple):
    """Benchmarks that were flagged and all of them; suites in which any was, and all of them."""

    flagged: int
    benchmarks: int
    flagged_suites: int
    suites: int


def side(recorded: dict[str, Any], effect: float = 0.0) -> Side:
    alone = recorded["alone"]
    return Side(*([each * (1 + effect) for each in alone[name]] for name in Side._fields))


def half(of: Side) -> Side:
    """The first second: what pytest-benchmark takes of a benchmark."""
    return Side(*(each[: len(each) // 2] for each in of))


def asv(base: Side, head: Side) -> bool:
    """Ten samples of ten milliseconds a side, as one of asv's rounds takes them."""
    samples = [condensed(each.mean[: round(10 * SAMPLE_SECONDS / BLOCK_SECONDS)], 10) for each in (base, head)]
    return asv_continuous(*samples)


def pytest_benchmark(name: str, percent: float) -> Callable[[Side, Side], bool]:
    fails = compare_fail(name, percent)
    return lambda base, head: fails(half(base), half(head))


OTHERS: dict[str, Callable[[Side, Side], bool]] = {
    **{f"pytest-benchmark {name}:{percent}%": pytest_benchmark(name, percent) for name in STATISTICS for percent in (5, 10)},
    "asv continuous, factor 1.1": asv,
    "criterion-like": lambda base, head: criterion_like(condensed(base.mean, 100), condensed(head.mean, 100)),
    "U test": lambda base, head: u_test(base.mean, head.mean),
}


def pairs(launches: Sequence[Launch]) -> list[tuple[Launch, Launch]]:
    """Base and head: two launches that are not far apart in time, in either order."""
    return [(launches[i], launches[j]) for i, j in permutations(range(len(launches)), 2) if abs(i - j) <= APART]


def judged(rule: Callable[[Side, Side], bool], launches: Sequence[Launch], effect: float) -> Flags:
    suites = [[rule(side(base[name]), side(head[name], effect)) for name in base] for base, head in pairs(launches)]
    return Flags(sum(map(sum, suites)), sum(map(len, suites)), sum(map(any, suites)), len(suites))


def units(launches: Sequence[Launch]) -> list[replay.Process]:
    """As the check has them."""
    return [{name: [trimmed(cycles) for cycles in found["equal"]] for name, found in launch.items()} for launch in launches]


def cycles(launches: Sequence[Launch]) -> list[replay.Process]:
    """Without units: the super-cycles themselves, of every unit as many; of the launches in which every unit has so many."""
    whole = [launch for launch in launches if all(len(unit) >= CYCLES for found in launch.values() for unit in found["equal"])]
    return [{name: [each for unit in found["equal"] for each in unit[:CYCLES]] for name, found in launch.items()} for launch in whole]


def one_after_the_other(launches: Sequence[Launch]) -> list[replay.Process]:
    """Without interleaving: a quarter of a second of base, then as much of head, of one instance."""

    def differences(alone: dict[str, list[float]]) -> list[float]:
        pieces = [trimmed([math.log(each) for each in piece]) for piece in _pieces(alone["mean"], 8)]
        return [head - base for base, head in zip(pieces[::2], pieces[1::2], strict=True)]

    return [{name: differences(found["alone"]) for name, found in launch.items()} for launch in launches]


def _pieces(samples: Sequence[float], number: int) -> Iterator[Sequence[float]]:
    size = len(samples) // number
    return (samples[i * size : (i + 1) * size] for i in range(number))


class Variation(NamedTuple):
    """The check with or without one of its parts."""

    take: Callable[[Sequence[Launch]], list[replay.Process]]
    per_unit: int = 1
    failing: tuple[str, ...] = ("slower",)


OURS = {
    "layerbench check": Variation(units),
    "without confirmation": Variation(units, failing=("slower", "unconfirmed")),
    "without units": Variation(cycles, CYCLES),
    "without interleaving": Variation(one_after_the_other),
}


def drawn(variation: Variation, launches: Sequence[Launch], effect: float, suites: int) -> Flags:
    processes, dice = variation.take(launches), random.Random(0)
    rule, size = Rule(0.05, 0.005, len(processes[0])), variation.per_unit
    found = []
    for _ in range(suites):
        every = replay.draw(processes, (LOOKS[-1] + 1) * size, PER_PROCESS * size, dice)
        first = {name: differences[size:] for name, differences in every.items()}  # the check's first process gives one unit less
        again = replay.draw(processes, CONFIRMATIONS[-1] * size, PER_CONFIRMATION * size, dice)
        verdicts = replay.judge(first, again, math.log1p(effect), rule, size)
        found.append([verdict in variation.failing for verdict in verdicts])
    return Flags(sum(map(sum, found)), sum(map(len, found)), sum(map(any, found)), len(found))


@functools.cache
def recorded(quick: bool) -> dict[str, list[Launch]]:
    """Condition -> its launches in their order."""
    log = study.ROOT / "results" / "validation" / f"traces{'-quick' if quick else ''}.jsonl"
    if not log.exists():
        raise SystemExit(f"{log.name} is not there; record it with:  nox -s validate -- traces{' --quick' if quick else ''}")
    launches: dict[str, list[Launch]] = {}
    for entry in study.read(log):
        launches.setdefault(entry["trial"]["condition"], []).append(entry["result"])
    return {condition: launches[condition] for condition in LAUNCHES if condition in launches}


def one(trial: dict[str, Any]) -> dict[str, Any]:
    launches = recorded(trial["quick"])[trial["condition"]]
    if trial["rule"] in OURS:
        return drawn(OURS[trial["rule"]], launches, trial["effect"], trial["suites"])._asdict()
    return judged(OTHERS[trial["rule"]], launches, trial["effect"])._asdict()


def main() -> None:
    chosen = study.options()
    launches = recorded(chosen.quick)
    suites = DRAWN // 100 if chosen.quick else DRAWN
    rules = [*OTHERS, *OURS]
    todo = [
        {
            "quick": chosen.quick,
            "launches": len(launches[condition]),
            "condition": condition,
            "rule": rule,
            "effect": effect,
            "suites": suites,
        }
        for condition in launches
        for rule in rules
        for effect in EFFECTS
        if rule not in OURS or len(OURS[rule].take(launches[condition])) >= FEWEST_LAUNCHES
    ]
    found = study.trials("judges", todo, one, chosen)
    rows = []
    for condition in launches:
        for rule in rules:
            trials = [each for each in found if (each["condition"], each["rule"]) == (condition, rule)]
            if len(trials) == len(EFFECTS):
                rows.append([rule, condition, *_shares(trials)])
    counts = ", ".join(f"{len(of)} {condition}, {len(pairs(of))} pairs" for condition, of in launches.items())
    text = [
        f"Launches recorded by `traces`: {counts}; twelve benchmarks each. The check's rows: {suites} suites drawn for every effect.",
        "Without units: where every unit of at least five launches was long enough, which fewer super-cycles on a busy machine prevent.",
        "Those beside three neighbours shared the machine with a test run as well.",
        "False: benchmarks of equal code that were flagged, and suites in which any of twelve was. The other columns: slow-downs found.",
        f"Slow-downs are arithmetic. The one that was recorded, every twentieth call run twice, shows as {_recorded_plant(launches)}.",
        "Simulated from live recordings; the tools themselves, live, are in `peers`, the check itself in `gate`.",
    ]
    columns = ["rule", "condition", "false, benchmarks", "false, suites", *(f"{effect:+.0%}" for effect in EFFECTS[1:])]
    study.publish("judges", "One noise, many rules", columns, rows, text, chosen)


def _shares(trials: Sequence[dict[str, Any]]) -> list[str]:
    null = trials[0]
    shares = [each["flagged"] / each["benchmarks"] for each in trials]
    return [_percent(shares[0]), _percent(null["flagged_suites"] / null["suites"]), *map(_percent, shares[1:])]


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _recorded_plant(launches: dict[str, list[Launch]]) -> str:
    every = [trimmed(found["slower"]) for of in launches.values() for launch in of for found in launch.values()]
    return f"{math.expm1(statistics.median(every)):+.1%} in the median of {len(every)} units"


if __name__ == "__main__":
    main()
