"""Ten, a hundred, a thousand points: does a run's time or memory grow faster than their number?  Each point gets the shortest time."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import study

SUITE = """
from torch import nn
from layerbench.bench import Layer, Variant, randn

class Other(nn.ReLU):
    pass

relu = Layer("relu", {{"batch": tuple(range(1, {points} + 1))}}, (randn("batch", 64),), lambda module, size: module(),
    {{"stock": Variant(nn.ReLU), "other": Variant(Other)}})
"""


def one(trial: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="layerbench-scaling-") as folder:
        (Path(folder) / "suite.py").write_text(SUITE.format(points=trial["points"]))
        words = ["run", "--suite", "suite.py", "--device", "cpu", "--step", "forward", "--threads", "1", "--budget", "1s"]
        started, peaks = time.monotonic(), {"parent": 0, "worker": 0}
        process = psutil.Popen([sys.executable, "-m", "layerbench.bench", *words], cwd=folder, stdout=subprocess.DEVNULL)
        while process.poll() is None:
            _note(process, peaks)
            time.sleep(0.2)
        assert process.returncode == 0
        seconds = time.monotonic() - started
        (file,) = Path(folder, "results").glob("*.json")
        (page,) = Path(folder, "reports").glob("*/index.html")
        sizes = {"file": file.stat().st_size, "page": page.stat().st_size}
    return {"seconds": seconds, **peaks, **sizes}


def _note(process: psutil.Popen, peaks: dict[str, int]) -> None:
    """The most memory that the parent, and its largest child, have held so far."""
    try:
        peaks["parent"] = max(peaks["parent"], process.memory_info().rss)
        peaks["worker"] = max([peaks["worker"], *(child.memory_info().rss for child in process.children())])
    except psutil.NoSuchProcess:  # it ended meanwhile
        return


def main() -> None:
    chosen = study.options()
    found = study.trials("scaling", [{"points": points} for points in ((10, 100) if chosen.quick else (10, 100, 1000))], one, chosen)
    rows = []
    for each in found:
        memory = [f"{each[who] / 1e6:.0f} MB" for who in ("parent", "worker")]
        sizes = [f"{each[what] / 1e6:.2f} MB" for what in ("file", "page")]
        rows.append([str(each["points"]), f"{each['seconds']:.1f} s", f"{each['seconds'] / each['points']:.2f} s", *memory, *sizes])
    text = [
        "A small layer of two variants and the second copy of the reference, forward only; every point is timed for the shortest time,",
        "0.4 s, or until it is precise. Memory is the most that the planning process and the measuring one held (resident set).",
    ]
    columns = ["points", "wall time", "per point", "parent", "worker", "run file", "page"]
    study.publish("scaling", "A run of many points", columns, rows, text, chosen)


if __name__ == "__main__":
    main()
