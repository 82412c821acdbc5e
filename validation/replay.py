"""The check's rule on recorded noise: units of live suites of equal code, drawn again and again, with slow-downs added.

Not live: what is drawn are the differences that `gate` recorded, whole processes at a time, since units of one share its luck.  The rule
is the code of the check itself.  Other tools' rules are not replayed here.
"""

import json
import math
import random
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import study

from layerbench.bench.check.executors import PER_PROCESS
from layerbench.bench.stats import sequential
from layerbench.bench.stats.sequential import CONFIRMATIONS, LOOKS, Mean, Rule, Spread

LOG = study.ROOT / "validation" / "logs" / "gate-half-seconds.jsonl"
EFFECTS = (0.0, 0.02, 0.03, 0.05, 0.10, 0.20)
NULLS, PLANTED = 100_000, 2_000  # suites
BATCH = 1_000  # suites of a trial

Process = dict[str, list[float]]  # benchmark -> the differences of the units that one process took, of equal code
PER_CONFIRMATION = 2  # units that a process gives to the confirmation


def recorded() -> list[Process]:
    """The first process of every check without a plant, whatever the condition: later ones have only what was not decided yet."""
    entries = map(json.loads, LOG.read_text(encoding="utf-8").splitlines())
    checks = [entry["result"]["rows"] for entry in entries if entry["trial"]["plant"] == "none"]
    return [{name: differences[:PER_PROCESS] for name, (_, differences, _) in rows.items()} for rows in checks]


def draw(processes: Sequence[Process], number: int, per_process: int, dice: random.Random) -> Process:
    """So many units of every benchmark, of one process after the other.  A process is drawn whole, for all benchmarks at once."""
    drawn = dice.choices(processes, k=-(-number // per_process))
    return {name: [each for process in drawn for each in process[name][:per_process]] for name in processes[0]}


def suite(processes: Sequence[Process], effect: float, rule: Rule, dice: random.Random) -> list[str]:
    """The verdicts on one drawn suite, of which every benchmark is slower by the effect."""
    first = draw(processes, LOOKS[-1], PER_PROCESS, dice)
    again = draw(processes, CONFIRMATIONS[-1], PER_CONFIRMATION, dice)
    return judge(first, again, math.log1p(effect), rule)


def judge(first: Process, again: Process, shift: float, rule: Rule, per_unit: int = 1) -> list[str]:
    """The check's verdicts, by its own code: slower (confirmed) | unconfirmed | faster | clear | undecided.

    first, again: what it finds and what it confirms with; shift is added to all of it.  per_unit: so many numbers belong to a unit.
    """
    verdicts = dict.fromkeys(first, "undecided")
    taken = dict.fromkeys(first, 0)
    spread = sequential.pooled([])
    for look in LOOKS:
        left = [name for name, verdict in verdicts.items() if verdict == "undecided"]
        if not left:
            break
        taken |= dict.fromkeys(left, look * per_unit)
        spread = sequential.pooled([first[name][: taken[name]] for name in first])
        for name in left:
            verdicts[name] = sequential.decide(_mean(first[name][: taken[name]], shift, spread), rule)
    for name in [name for name, verdict in verdicts.items() if verdict == "slower"]:
        means = [_mean(again[name][: look * per_unit], shift, sequential.afterwards(spread)) for look in CONFIRMATIONS]
        if not any(sequential.confirmed(mean, rule) for mean in means):
            verdicts[name] = "unconfirmed"
    return list(verdicts.values())


def _mean(differences: Sequence[float], shift: float, spread: Spread) -> Mean:
    found = sequential.mean(differences, spread)
    return found._replace(value=found.value + shift)


def measure(processes: Sequence[Process]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def one(trial: dict[str, Any]) -> dict[str, Any]:
        dice = random.Random(json.dumps(trial))
        rule = Rule(trial["threshold"], max(0.005, trial["threshold"] / 10), len(processes[0]))
        suites = [suite(processes, trial["effect"], rule, dice) for _ in range(trial["suites"])]
        every = [verdict for verdicts in suites for verdict in verdicts]
        words = ("slower", "unconfirmed", "undecided")
        return {
            "failed_suites": sum("slower" in verdicts for verdicts in suites),
            "flagged_suites": sum("slower" in verdicts or "unconfirmed" in verdicts for verdicts in suites),
            **{word: every.count(word) / len(every) for word in words},
        }

    return one


def main() -> None:
    chosen = study.options()
    processes = recorded()
    scale = 100 if chosen.quick else 1
    todo = [
        {"checks": len(processes), "threshold": threshold, "effect": effect, "number": number, "suites": BATCH // scale or 1}
        for threshold in (0.05, 0.02)
        for effect in EFFECTS
        for number in range((NULLS if effect == 0 else PLANTED) // BATCH)
    ]
    found = study.trials("replay", todo, measure(processes), chosen)
    rows = []
    for threshold in (0.05, 0.02):
        for effect in EFFECTS:
            trials = [each for each in found if (each["threshold"], each["effect"]) == (threshold, effect)]
            if trials:
                rows.append(_row(threshold, effect, trials))
    text = [
        f"Drawn from the units of {len(processes)} live checks of equal code (`gate`), quiet and busy, whole checks at a time; a",
        "slow-down is added to every unit. Simulated, not live. Failed: suites in which anything was called slower.",
    ]
    columns = ["threshold", "slow-down", "suites", "flagged", "failed", "found", "flag not confirmed", "inconclusive"]
    study.publish("replay", "The check's rule on recorded units", columns, rows, text, chosen)


def _row(threshold: float, effect: float, trials: Sequence[dict[str, Any]]) -> list[str]:
    suites = sum(each["suites"] for each in trials)
    shares = [f"{statistics.fmean(each[word] for each in trials):.3%}" for word in ("slower", "unconfirmed", "undecided")]
    counts = [str(sum(each[what] for each in trials)) for what in ("flagged_suites", "failed_suites")]
    return [f"{threshold:.0%}", f"{effect:+.0%}" if effect else "none", str(suites), *counts, *shares]


if __name__ == "__main__":
    main()
