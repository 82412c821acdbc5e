"""The regression check, live: how often does it cry wolf over equal code, and how often does it miss a slow-down that was planted?

A trial is one whole `layerbench check` of a repository of its own: twelve benchmarks, all measured, with a plant at the head or none.
The log is kept in validation/logs/: the study takes hours, and goes on where it was left.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import study
from neighbour import AS_IT_WAS, BURSTY, HALF, QUIET, beside

SUITE = Path(__file__).with_name("gate_suite.py").read_text(encoding="utf-8")
EVERYWHERE = tuple(f"{layer} {variant}" for layer in ("norm", "softmax", "linear") for variant in ("stock", "plain"))
PLANTS: dict[str, tuple[int, tuple[str, ...]]] = {  # name -> of so many calls one runs twice, where
    "none": (10**9, ()),
    "+5 % everywhere": (20, EVERYWHERE),
    "+10 % everywhere": (10, EVERYWHERE),
    "+5 % in one": (20, ("norm plain",)),
    "+5 % in one, at one batch": (20, ("softmax stock 16",)),
    "+3 % everywhere": (33, EVERYWHERE),
}
KINDS = (  # plant, condition, threshold; in an order that brings every kind early
    *(("none", condition, "5%") for condition in (QUIET, BURSTY, HALF, QUIET, BURSTY, HALF)),
    *(("+5 % everywhere", QUIET, "5%"), ("+5 % in one", BURSTY, "5%"), ("+10 % everywhere", BURSTY, "5%")),
    *(("+5 % in one, at one batch", QUIET, "5%"), ("+3 % everywhere", QUIET, "2%"), ("none", QUIET, "2%")),
    *(("none", AS_IT_WAS, "5%"), ("none", AS_IT_WAS, "5%"), ("+5 % everywhere", AS_IT_WAS, "5%")),
)
ROUNDS = 34
FEW = (0, 6)  # kinds of a quick study: equal code, and a plant everywhere
USUAL_SECONDS = 25.0  # of a check of equal code


TEXT = (
    "A suite is one `layerbench check --all` of twelve benchmarks: 3 layers, 2 batches, 2 implementations, forward, one thread.",
    "A plant runs one of 20 calls (10, 33) twice. Bursty: a process that computes for half a second and rests for one, on average.",
    "Flagged: suites in which a benchmark without a plant was flagged at first; false: in which the confirmation agreed.",
    "Missed: plants called clear. Code 4: the control differed from itself.",
    "Whatever else ran: a machine on which other people's tests and compilers were working at the same time.",
    "Before 2026-11-28 every unit took half a second. The 241 suites of that rule are in validation/logs/gate-half-seconds.jsonl: of 210",
    "without a plant none was false, at 5 % 200 of 200 plants were found, and a quiet suite of equal code took 35 s, the longest 45 s.",
)
COLUMNS = ["plant", "condition", "threshold", "suites", "flagged", "false", "found", "missed", "inconclusive"]
COLUMNS += ["code 4", "median", "longest"]


def one(trial: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="layerbench-gate-") as folder:
        root = repository(Path(folder), *PLANTS[trial["plant"]])
        before, started = _processor_seconds(), time.monotonic()
        code, printed = _check(root, trial["threshold"], trial["condition"])
        seconds = time.monotonic() - started
        busy = (_processor_seconds() - before) / seconds
    found = json.loads(printed)
    return {
        "code": code,
        "seconds": round(seconds, 1),
        "busy_cores": round(busy, 2),  # of the whole machine, this check and its neighbour included
        "unreliable": found["unreliable"],
        "control": [_differences(row, "units") for row in found["control"]],
        "rows": {_name(row): [row["verdict"], _differences(row, "units"), _differences(row, "confirmation")] for row in found["rows"]},
    }


def _check(root: Path, threshold: str, condition: str) -> tuple[int, str]:
    """The exit code and the JSON of one check, while a neighbour works or not."""
    words = ["--suite", "layers", "--against", "HEAD", "--all", "--step", "forward", "--json", "--threshold", threshold]
    command = [sys.executable, "-m", "layerbench.bench", "check", *words]
    with beside(condition, USUAL_SECONDS):
        process = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True)
    return process.returncode, process.stdout


def repository(root: Path, every: int, planted: Sequence[str]) -> Path:
    """The suite as it is in its one commit, and with the plant in the working tree."""
    file = root / "layers" / "suite.py"
    file.parent.mkdir()
    file.write_text(SUITE, encoding="utf-8")
    for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "base"]):
        subprocess.run([*git(root), *words], check=True)
    if planted:
        names = f"PLANTED: tuple[str, ...] = {tuple(planted)!r}"
        text = SUITE.replace("EVERY = NEVER", f"EVERY = {every}").replace("PLANTED: tuple[str, ...] = ()", names)
        assert str(every) in text and planted[0] in text
        file.write_text(text, encoding="utf-8")
    return root


def git(root: Path) -> list[str]:
    return ["git", "-C", str(root), "-c", "user.name=study", "-c", "user.email=study@example.org"]


def _name(row: dict[str, Any]) -> str:
    return f"{row['point']['layer']} {row['variant']} {row['point']['size']['batch']}"


def _differences(row: dict[str, Any], kind: str) -> list[float]:
    return [round(unit["difference"], 6) for unit in row[kind]]


def _processor_seconds() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.system)


class Counted(NamedTuple):
    """Over the trials of a kind: suites in which something equal was flagged, and called slower; and of planted benchmarks the verdicts."""

    flagged: int
    false: int
    planted: Counter[str]
    others: Counter[str]


def count(plant: str, trials: Sequence[dict[str, Any]]) -> Counted:
    wanted, flagged, false = PLANTS[plant][1], 0, 0
    planted: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for each in trials:
        equal = []
        for name, (verdict, _, confirmation) in each["rows"].items():
            is_planted = name in wanted or name.rpartition(" ")[0] in wanted
            (planted if is_planted else others)[verdict] += 1
            equal += [] if is_planted else [(verdict, bool(confirmation))]
        flagged += any(confirmed for _, confirmed in equal)
        false += any(verdict == "slower" for verdict, _ in equal)
    return Counted(flagged, false, planted, others)


def _row(kind: tuple[str, str, str], trials: Sequence[dict[str, Any]]) -> list[str]:
    counted = count(kind[0], trials)
    plants, found, open_ = counted.planted.total(), counted.planted["slower"], counted.planted["inconclusive"]
    plant = [f"{found} of {plants}", str(plants - found - open_)] if plants else ["", ""]
    unclear = f"{open_ + counted.others['inconclusive']} of {plants + counted.others.total()}"
    seconds = sorted(each["seconds"] for each in trials)
    times = [f"{seconds[len(seconds) // 2]:.0f} s", f"{seconds[-1]:.0f} s"]
    counts = [str(len(trials)), str(counted.flagged), str(counted.false)]
    return [*kind, *counts, *plant, unclear, str(sum(each["code"] == 4 for each in trials)), *times]


def main() -> None:
    chosen = study.options()
    todo = [
        {"round": r, "number": n, "plant": plant, "condition": condition, "threshold": threshold}
        for r in range(1 if chosen.quick else ROUNDS)
        for n, (plant, condition, threshold) in enumerate(KINDS)
        if n in FEW or not chosen.quick
    ]
    found = study.trials("gate", todo, one, chosen, kept=True)
    nulls = [each for each in found if each["plant"] == "none"]
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for each in found:
        groups.setdefault((each["plant"], each["condition"], each["threshold"]), []).append(each)
    text = [
        *TEXT,
        f"{len(found)} of {len(todo)} suites of the study are done. Without a plant: {len(nulls)}, false: {count('none', nulls).false}.",
    ]
    study.publish("gate", "The regression check, live", COLUMNS, [_row(kind, trials) for kind, trials in groups.items()], text, chosen)


if __name__ == "__main__":
    main()
