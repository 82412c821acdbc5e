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

from layerbench.bench.check import sequential
from layerbench.bench.check.sequential import CONFIRMATIONS, LOOKS, Rule

LOG = study.ROOT / "validation" / "logs" / "gate.jsonl"
EFFECTS = (0.0, 0.02, 0.03, 0.05, 0.10, 0.20)
NULLS, PLANTED = 100_000, 2_000  # suites
BATCH = 1_000  # suites of a trial

Units = dict[str, list[list[float]]]  # benchmark -> the differences of each recorded check, in their order


def recorded() -> Units:
    """All units of checks without a plant, whatever the condition."""
    units: Units = {}
    for line in LOG.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if entry["trial"]["plant"] == "none":
            for name, (_, differences, _) in entry["result"]["rows"].items():
                units.setdefault(name, []).append(differences)
    return units


def draw(checks: Sequence[Sequence[float]], number: int, dice: random.Random) -> list[float]:
    """So many units, of one recorded check after the other."""
    drawn: list[float] = []
    while len(drawn) < number:
        drawn += dice.choice(checks)
    return drawn[:number]


def suite(units: Units, effect: float, rule: Rule, dice: random.Random) -> list[str]:
    """The verdicts of one drawn suite: slower (confirmed) | unconfirmed | faster | clear | undecided."""
    shift = math.log1p(effect)
    drawn = {name: [each + shift for each in draw(checks, LOOKS[-1], dice)] for name, checks in units.items()}
    verdicts = dict.fromkeys(drawn, "undecided")
    taken = dict.fromkeys(drawn, 0)
    for look in LOOKS:
        left = [name for name, verdict in verdicts.items() if verdict == "undecided"]
        if not left:
            break
        taken |= dict.fromkeys(left, look)
        spread = sequential.pooled([drawn[name][: taken[name]] for name in drawn])
        for name in left:
            verdicts[name] = sequential.decide(sequential.mean(drawn[name][:look], spread), rule)
    for name in [name for name, verdict in verdicts.items() if verdict == "slower"]:
        again = [each + shift for each in draw(units[name], CONFIRMATIONS[-1], dice)]
        sure = any(sequential.confirmed(sequential.mean(again[:look], spread), rule) for look in CONFIRMATIONS)
        verdicts[name] = "slower" if sure else "unconfirmed"
    return list(verdicts.values())


def measure(units: Units) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def one(trial: dict[str, Any]) -> dict[str, Any]:
        dice = random.Random(json.dumps(trial))
        rule = Rule(trial["threshold"], max(0.005, trial["threshold"] / 10), len(units))
        suites = [suite(units, trial["effect"], rule, dice) for _ in range(trial["suites"])]
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
    units = recorded()
    scale = 100 if chosen.quick else 1
    todo = [
        {"threshold": threshold, "effect": effect, "number": number, "suites": BATCH // scale or 1}
        for threshold in (0.05, 0.02)
        for effect in EFFECTS
        for number in range((NULLS if effect == 0 else PLANTED) // BATCH)
    ]
    found = study.trials("replay", todo, measure(units), chosen)
    rows = []
    for threshold in (0.05, 0.02):
        for effect in EFFECTS:
            trials = [each for each in found if (each["threshold"], each["effect"]) == (threshold, effect)]
            if trials:
                rows.append(_row(threshold, effect, trials))
    checks = len(next(iter(units.values())))
    text = [
        f"Drawn from the units of {checks} live checks of twelve equal benchmarks (see gate), on a quiet and a busy machine, whole checks",
        "at a time; a slow-down is added to every unit. Simulated, not live. Failed: suites in which anything was called slower.",
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
