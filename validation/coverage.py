"""How often does the 95 % interval of a ratio hold the truth?  Equal operations (1), and one call run 20 times against 21 times (20/21)."""

import math
import random
from collections.abc import Callable
from typing import Any

import study

from layerbench.bench.stats import estimates
from layerbench.bench.timing.clock import Call, HostClock
from layerbench.bench.timing.measure import Limit, measure

# Both sides use one instance: two instances differ by themselves, and the interval does not claim to know by how much
KINDS = {"A/A": (20, 20), "20 : 21": (20, 21)}
STOPS = {"by precision 2 %": Limit(3.0, 0.02), "by time, 0.5 s": Limit(0.5, 0.0)}


def repeated(operation: Callable[[], object], times: int) -> Callable[[object], object]:
    def run(_: object) -> None:
        for _ in range(times):
            operation()

    return run


def one(trial: dict[str, Any]) -> dict[str, Any]:
    operation = study.operations()[trial["operation"]]()
    first, second = KINDS[trial["kind"]]
    calls = {"a": Call("a", None, repeated(operation, first)), "b": Call("b", None, repeated(operation, second))}
    timings = measure(calls, "a", HostClock(), STOPS[trial["stop"]], seed=random.randrange(2**31))
    interval = estimates.speedup(timings["a"].seconds, timings["b"].seconds)
    return {"ratio": interval.ratio, "low": interval.low, "high": interval.high, "rounds": len(timings["a"].seconds)}


def main() -> None:
    chosen = study.options()
    repeats = 2 if chosen.quick else 34
    names = ("layer_norm", "softmax", "linear")
    todo = [{"repeat": r, "operation": n, "kind": k, "stop": s} for r in range(repeats) for n in names for k in KINDS for s in STOPS]
    found = study.trials("coverage", todo, one, chosen)
    rows = []
    for kind, (first, second) in KINDS.items():
        for stop in STOPS:
            trials = [each for each in found if (each["kind"], each["stop"]) == (kind, stop)]
            held = [each["low"] <= first / second <= each["high"] for each in trials]
            share = sum(held) / len(held)
            error = 1.96 * math.sqrt(max(share * (1 - share), 1e-4) / len(held))
            width = sum(math.sqrt(each["high"] / each["low"]) - 1 for each in trials) / len(trials)
            rounds = sum(each["rounds"] for each in trials) / len(trials)
            rows.append([kind, stop, str(len(held)), f"{100 * share:.1f} % ± {100 * error:.1f}", f"{100 * width:.2f} %", f"{rounds:.0f}"])
    text = [f"Operations: {', '.join(names)}. The ± is what {len(todo) // 4} pairs leave open. Width: mean half width of the interval."]
    study.publish(
        "coverage", "Coverage of the 95 % interval", ["pair", "stopped", "pairs", "held the truth", "width", "rounds"], rows, text, chosen
    )


if __name__ == "__main__":
    main()
