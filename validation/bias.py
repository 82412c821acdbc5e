"""An operation of one or two microseconds: what does the measuring loop add to it?  Against timeit's loop, block by block in turns."""

import statistics
import timeit
from typing import Any

import study
import torch

from layerbench.bench.timing.clock import Call, HostClock

OPERATIONS = {"x.view(-1) of 64 numbers": "x.view(-1)", "x + y of 8 numbers": "x + y"}
CALLS = 1000


def one(trial: dict[str, Any]) -> dict[str, Any]:
    x, y = torch.randn(8, 8) if "view" in trial["operation"] else torch.randn(8), torch.randn(8)
    run = {"x.view(-1)": lambda _: x.view(-1), "x + y": lambda _: x + y}[OPERATIONS[trial["operation"]]]
    bare = timeit.Timer(f"held = {OPERATIONS[trial['operation']]}", globals={"x": x, "y": y})
    clock, call = HostClock(), Call("a", None, run)
    ours, theirs = [], []
    for _ in range(200):
        ours.append(clock.time(call, CALLS) / CALLS)
        theirs.append(bare.timeit(CALLS) / CALLS)
    return {"ours": statistics.median(ours), "timeit": statistics.median(theirs)}


def main() -> None:
    chosen = study.options()
    todo = [{"repeat": r, "operation": name} for r in range(1 if chosen.quick else 10) for name in OPERATIONS]
    found = study.trials("bias", todo, one, chosen)
    rows = []
    for name in OPERATIONS:
        trials = [each for each in found if each["operation"] == name]
        ours, bare = (statistics.median(each[key] for each in trials) for key in ("ours", "timeit"))
        rows.append([name, f"{1e9 * bare:.0f} ns", f"{1e9 * ours:.0f} ns", f"{1e9 * (ours - bare):+.0f} ns"])
    text = [
        "timeit runs the statement inline; layerbench calls a Python function for every step, and that call is the difference. It is",
        "the same for every variant, so it pulls the ratio of very short operations towards 1 and leaves the others alone. Both hold",
        "the result until the next one is there; timeit with the bare statement, which drops it at once, takes some 200 ns more for",
        "the view.",
    ]
    study.publish("bias", "Bias on very short operations", ["operation", "timeit", "layerbench", "difference"], rows, text, chosen)


if __name__ == "__main__":
    main()
