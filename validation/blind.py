"""The judge of equivalence on layers that it was not made for: wrong ones of many kinds, and right ones that are written otherwise.

Every suite is run as a user would run it, by `layerbench run` and its defaults.  In validation/plants/ a file's PLANTS names its wrong
variants; its others are right, and so are all of validation/right/.  Caught: it failed.  Marked: it ranks with a mark or a limit that no
right variant of its layer has.  Missed: it ranks like a right one.
"""

import ast
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import study

from layerbench.bench.analysis import frame
from layerbench.bench.data.record import Failed, Measured, Record, Skipped
from layerbench.bench.declare.layer import NOISE_FLOOR
from layerbench.bench.storage import run_file

HERE = study.ROOT / "validation"
SECONDS_PER_PLANT = 2  # of the run's budget: its times are not what is asked for
LONGEST = 1800  # seconds of a run, after which it hangs


class Plant(NamedTuple):
    kind: str
    what: str


def suites(folder: str) -> list[Path]:
    return sorted(file for file in (HERE / folder).glob("*.py") if not file.name.startswith("_"))


def plants(file: Path) -> dict[str, Plant]:
    """The wrong variants of a suite file, by `layer variant`; read, not imported."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["PLANTS"]:
            return {name: Plant(*said) for name, said in ast.literal_eval(node.value).items()}
    return {}


def one(trial: dict[str, Any]) -> dict[str, Any]:
    """Run a suite file; what became of each of its variants."""
    file, begun = HERE / trial["suite"], time.monotonic()
    with tempfile.TemporaryDirectory() as out:
        budget = f"{30 + SECONDS_PER_PLANT * len(plants(file))}s"
        command = [sys.executable, "-m", "layerbench.bench", "run", "--suite", str(file), "--device", "cpu", "--out", out, "--quiet"]
        ended = subprocess.run([*command, "--budget", budget], capture_output=True, text=True, timeout=LONGEST, env=dict(os.environ))
        if not [*(Path(out) / "results").glob("*.json")]:
            if not plants(file):  # the library that it takes its layers from may be missing
                return {"seconds": 0.0, "variants": {}, "not run": (ended.stderr.strip() or ended.stdout.strip()).splitlines()[-1]}
            raise SystemExit(f"{trial['suite']}: exit {ended.returncode}\n{ended.stdout[-4000:]}{ended.stderr[-4000:]}")
        run = run_file.read(run_file.newest(Path(out) / "results"))
    table = frame.tidy(run).set_index("id")
    references = {layer.name: layer.reference for layer in run.layers}
    found: dict[str, list[Record]] = defaultdict(list)
    for record in run.records:
        found[f"{record.point.layer} {record.variant}"].append(record)
    dead = [name for name, of in found.items() if references[of[0].point.layer] == of[0].variant and not _measured(of)]
    if dead:
        raise SystemExit(f"{trial['suite']}: the reference of {dead[0].split()[0]} was not measured: {_failure(found[dead[0]])}")
    seen = {
        name: outcome(of, [str(table.reason[record.id]) for record in of if table.outcome[record.id] == "invalid"])
        for name, of in found.items()
        if of[0].variant not in (references[of[0].point.layer], NOISE_FLOOR)
    }
    return {"seconds": time.monotonic() - begun, "variants": seen}


def _measured(records: Iterable[Record]) -> list[Measured]:
    return [record.outcome for record in records if isinstance(record.outcome, Measured)]


def _failure(records: Sequence[Record]) -> str:
    failed = [record.outcome for record in records if isinstance(record.outcome, Failed | Skipped)]
    return f"{failed[0].stage}: {failed[0].reason}" if failed else ""


def outcome(records: Sequence[Record], invalid: Sequence[str]) -> dict[str, Any]:
    """Of a variant over all its points: why it failed, or what is said where it ranks.

    invalid: what is wrong with its times, which says nothing of its values: on a busy machine a roof may be too low.
    """
    uses = [measured.accuracy.uses for measured in _measured(records) if measured.accuracy.uses]
    said = {way: what for each in uses for way, what in (*each.limits.items(), *each.marks.items())}
    return {"failed": _failure(records), "invalid": [*dict.fromkeys(invalid)], "said": said}


class Verdict(NamedTuple):
    word: str  # caught | marked | missed of a plant; rejected | marked | right of a right one
    why: str


def of_plant(seen: dict[str, Any], right: Iterable[dict[str, Any]]) -> Verdict:
    """right: what was seen of the right variants of its layer.  What is said of them, too, is not said of the fault."""
    if seen["failed"]:
        return Verdict("caught", seen["failed"])
    usual = {way for each in right for way in each["said"]}
    own = [f"{way}: {what}" for way, what in seen["said"].items() if way not in usual]
    return Verdict("marked", own[0]) if own else Verdict("missed", "")


def of_right(seen: dict[str, Any]) -> Verdict:
    if seen["failed"]:
        return Verdict("rejected", seen["failed"])
    return Verdict("marked" if seen["said"] else "right", "; ".join(f"{way}: {what}" for way, what in seen["said"].items()))


Row = tuple[str, str, str, str, Verdict]  # suite, layer and variant, kind, what, verdict


def judged(trials: Iterable[dict[str, Any]]) -> tuple[list[Row], list[Row]]:
    """Plants, and right ones."""
    wrong, right = [], []
    for trial in trials:
        planted, seen = plants(HERE / trial["suite"]), trial["variants"]
        if strange := planted.keys() - seen.keys():
            raise SystemExit(f"{trial['suite']}: PLANTS names {sorted(strange)[0]!r}, which was not run; write 'layer variant'")
        for name, what in seen.items():
            if name in planted:
                layer = name.split()[0]
                beside = [other for each, other in seen.items() if each.split()[0] == layer and each not in planted]
                wrong.append((trial["suite"], name, *planted[name], of_plant(what, beside)))
            else:
                right.append((trial["suite"], name, "", "", of_right(what)))
    return wrong, right


FIRST = study.ROOT / "validation" / "logs" / "blind-first.jsonl"  # by the judge as it was when the plants had been written
WORDS = ("caught", "marked", "missed")
TITLE = "The judge of equivalence on plants of many kinds"


def main() -> None:
    chosen = study.options()
    files = [*suites("plants"), *suites("right")]
    todo = [{"suite": str(file.relative_to(HERE)), "digest": _digest(file)} for file in (files[:1] if chosen.quick else files)]
    trials = study.trials("blind", todo, one, chosen)
    wrong, right = judged(trials)
    first, _ = judged({entry["trial"]["suite"]: entry["trial"] | entry["result"] for entry in study.read(FIRST)}.values())
    twins = [row for row in right if row[0].startswith("plants")]
    others = [row for row in right if row[0].startswith("right")]
    rows = [[kind, *_counts(wrong, kind), *_counts(first, kind)] for kind in sorted({row[2] for row in wrong})]
    rows.append(["all", *_counts(wrong), *_counts(first)])
    columns = ["kind", "plants", *WORDS, "at first: plants", *WORDS]
    groups = {"twins of plants": twins, "others": others}
    more = [
        ("Right ones", ["which", "variants", "rejected", "marked or limited"], [_right(name, of) for name, of in groups.items() if of]),
        ("Every plant", ["layer, variant", "kind", "what is wrong", "verdict", "reason"], [_shown(row) for row in wrong]),
        ("Right ones of which something is said", ["layer, variant", "verdict", "what"], [_told(row) for row in right if row[4].why]),
        ("Time", ["suite", "variants", "seconds", "seconds per variant"], [_time(trial) for trial in trials if trial["variants"]]),
        ("Not run", ["suite", "why"], [[trial["suite"], _cell(trial["not run"])] for trial in trials if "not run" in trial]),
    ]
    text = [
        "Every suite is run as it stands: `layerbench run --suite FILE --device cpu`, float32, forward and backward, nothing declared that",
        "helps. A plant is a variant with one fault; beside it stands one that is written alike without it, its twin. Caught: it failed.",
        "Marked: it ranks, with a mark or a limit that no right variant of its layer has. Missed: it ranks like a right one.",
        "",
        f"At first: by the judge as it was when the {len(first)} plants had been written, before anything was added for those it missed;",
        "most of it on a machine that was asked for five times its cores, so that some ways and sizes were not reached in their time. It",
        "rejected a right scan, which has a gradient of zeros where the reference has none, and in another run a log_softmax that rounds",
        "otherwise. The judge was then mended for what it had missed. So what it says of the plants now is no forecast for faults of other",
        "kinds; the first count is.",
    ]
    study.publish("blind", TITLE, columns, rows, text, chosen, "torch's own number of threads", [each for each in more if each[2]])


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


def _counts(rows: Iterable[Row], kind: str = "") -> list[str]:
    words = [row[4].word for row in rows if kind in ("", row[2])]
    return [str(len(words)), *(str(words.count(word)) for word in WORDS)]


def _right(name: str, rows: Sequence[Row]) -> list[str]:
    words = [row[4].word for row in rows]
    return [name, str(len(words)), *(str(words.count(word)) for word in ("rejected", "marked"))]


def _shown(row: Row) -> list[str]:
    _, name, kind, what, verdict = row
    return [name, kind, _cell(what), verdict.word, _cell(verdict.why)]


def _told(row: Row) -> list[str]:
    return [row[1], row[4].word, _cell(row[4].why)]


def _cell(text: str, most: int = 110) -> str:
    plain = " ".join(text.replace("|", "/").split())
    return plain if len(plain) <= most else f"{plain[:most].rpartition(' ')[0]} ..."


def _time(trial: dict[str, Any]) -> list[str]:
    number = len(trial["variants"])
    return [trial["suite"], str(number), f"{trial['seconds']:.0f}", f"{trial['seconds'] / number:.1f}"]


if __name__ == "__main__":
    main()
