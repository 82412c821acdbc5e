"""Where does the time of a run go?  The standard suite on the CPU, as `layerbench run` measures it: seconds by stage."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import study

from layerbench.bench.analysis import frame
from layerbench.bench.storage import run_file

CALLS = ("warm", "time")  # the stages that consist of calls that are timed, or warm up for that
COMPILER = ("start the compiler", "compile")
BESIDE = "start, roofs, storing"  # what lies between the points


def one(trial: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="layerbench-overhead-") as folder:
        words = ["run", "--device", "cpu", "--budget", trial["budget"], "--out", folder]
        subprocess.run([sys.executable, "-m", "layerbench.bench", *words], stdout=subprocess.DEVNULL, check=True)
        run = run_file.read(run_file.newest(Path(folder) / "results"))
    inside = sum(sum(timing.seconds) * timing.calls_per_sample for timing in (r.outcome.timing for r in frame.measured(run)))
    return {
        "seconds": run.seconds,
        "stages": run.stages,
        "inside": inside,
        "points": len(frame.by_point(run.records)),
        "threads": run.environment.threads,
    }


def main() -> None:
    chosen = study.options()
    (found,) = study.trials("overhead", [{"budget": "1m" if chosen.quick else "4m"}], one, chosen)
    stages = {**found["stages"], BESIDE: found["seconds"] - sum(found["stages"].values())}
    whole = found["seconds"]
    rest = whole - sum(stages.get(stage, 0.0) for stage in COMPILER)
    rows = []
    for stage, seconds in sorted(stages.items(), key=lambda item: -item[1]):
        share = "" if stage in COMPILER else f"{seconds / rest:.1%}"
        rows.append([stage, f"{seconds:.1f} s", f"{seconds / whole:.1%}", share])
    calls = sum(stages.get(stage, 0.0) for stage in CALLS)
    rows.append([f"{' + '.join(CALLS)}", f"{calls:.1f} s", f"{calls / whole:.1%}", f"{calls / rest:.1%}"])
    rows.append(["inside the clock", f"{found['inside']:.1f} s", f"{found['inside'] / whole:.1%}", f"{found['inside'] / rest:.1%}"])
    what = f"`layerbench run --device cpu --budget {found['budget']}`: {found['points']} points in {whole:.0f} s."
    text = [
        f"{what} The stage `time` holds the timed blocks, the untimed call before each, and for",
        "a backward the forward before every call; the clock runs in a part of it only.",
    ]
    columns = ["stage", "seconds", "share", "without compiling"]
    study.publish("overhead", "Where the time of a run goes", columns, rows, text, chosen, f"{found['threads']} threads")


if __name__ == "__main__":
    main()
