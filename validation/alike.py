"""Copies of one class under different names: does any step favour one of them?  Whoever is the reference must win as often as it loses.

The times of all copies of a point are compared with one reference, so the point and not the copy is the unit of the statistics.
"""

import math
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import study

from layerbench.bench.data.record import Measured, Skipped
from layerbench.bench.stats import estimates
from layerbench.bench.storage import run_file

STEPS = ("forward", "backward", "training", "update")
REFERENCE = "stock"
SUITE = """
import torch
from torch import nn
from layerbench.bench import Layer, Variant, randn

class Cat(nn.Module):
    def forward(self, a, b):
        return torch.cat((a, b), -1)

class Relu(nn.ReLU): pass
class Linear(nn.Linear): pass
class Norm(nn.LayerNorm): pass
class Gate(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.a, self.b = nn.Linear(width, width), nn.Linear(width, width)
    def forward(self, x):
        return torch.sigmoid(self.a(x)) * self.b(x)

def layer(name, kind, build, *inputs):
    copies = {each: Variant(type(each, (kind,), {})) for each in ("copy_a", "copy_b", "copy_c")}
    return Layer(name, {"batch": tuple(range(1, BATCHES + 1))}, inputs, build, {"stock": Variant(kind)} | copies)

x = randn("batch", 32)
cat = layer("cat", Cat, lambda module, size: module(), x, x)
relu = layer("relu", Relu, lambda module, size: module(), x)
linear = layer("linear", Linear, lambda module, size: module(32, 32), x)
norm = layer("norm", Norm, lambda module, size: module(32), x)
gate = layer("gate", Gate, lambda module, size: module(32), x)
"""


def one(trial: dict[str, Any]) -> dict[str, Any]:
    """One launch of the command.  Step -> for every point the logs of the copies' ratios; the noise floor is one of the copies."""
    logs: dict[str, list[list[float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="layerbench-alike-") as folder:
        (Path(folder) / "suite.py").write_text(SUITE.replace("BATCHES", str(trial["batches"])))
        steps = [word for step in STEPS for word in ("--step", step)]
        words = ["run", "--suite", "suite.py", "--device", "cpu", "--threads", "1", "--budget", "1s", *steps]
        subprocess.run([sys.executable, "-m", "layerbench.bench", *words], cwd=folder, stdout=subprocess.DEVNULL, check=True)
        (file,) = Path(folder, "results").glob("*.json")
        records = run_file.read(file).records
    seconds: dict[tuple[str, str], dict[str, tuple[float, ...]]] = defaultdict(dict)
    for record in records:
        if isinstance(record.outcome, Skipped):  # a layer without parameters has nothing to update
            continue
        assert isinstance(record.outcome, Measured), record
        seconds[record.point.step, record.point.id][record.variant] = record.outcome.timing.seconds
    for (step, _), taken in seconds.items():
        reference = taken.pop(REFERENCE)
        logs[step.partition("_")[0]].append([math.log(estimates.speedup(reference, copy).ratio) for copy in taken.values()])
    return {"logs": logs}


def main() -> None:
    chosen = study.options()
    launches, batches = (1, 2) if chosen.quick else (4, 16)
    found = study.trials("alike", [{"launch": launch, "batches": batches} for launch in range(launches)], one, chosen)
    rows = []
    for step in STEPS:
        points = [point for each in found for point in each["logs"].get(step, [])]
        if not points:
            continue
        means = [statistics.fmean(point) for point in points]
        ahead = [statistics.fmean(log > 0 for log in point) for point in points]
        error, share_error = (1.96 * statistics.stdev(each) / math.sqrt(len(each)) for each in (means, ahead))
        mean = f"{100 * statistics.fmean(means):+.2f} % ± {100 * error:.2f}"
        rows.append([step, str(len(points)), mean, f"{100 * statistics.fmean(ahead):.0f} % ± {100 * share_error:.0f}"])
    text = [
        "Five small layers (forward 2 to 21 us, backward 14 to 57); the reference, three copies of its class under other names, "
        "and the noise floor's copy of it.",
        f"{len(found)} launches of the command; every point is timed for the shortest time, 0.4 s. The truth is 0 and 50 %.",
        "mean: of log(ratio) over the points, with its 95 % interval. ahead: the share of the copies that beat the reference.",
    ]
    study.publish("alike", "Copies of one class", ["step", "points", "mean", "ahead"], rows, text, chosen)


if __name__ == "__main__":
    main()
