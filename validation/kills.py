"""A run, or its worker, is killed at a hundred random instants and resumed: is a finished point ever lost, doubled or misshapen?

Not interleaved with anything: one kill is one real run of a small suite, of about eight seconds, and its resumption.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import study

sys.path.insert(0, str(study.ROOT / "tests"))
import kills  # the kill itself is the test's

KILLS, FEW = 100, 4


def main() -> None:
    chosen = study.options()
    todo = [{"seed": seed} for seed in range(FEW if chosen.quick else KILLS)]
    with tempfile.TemporaryDirectory(prefix="layerbench-kills-") as folder:
        undisturbed = kills.prepare(Path(folder))

        def measure(trial: dict[str, Any]) -> dict[str, Any]:
            return kills.kill_once(Path(folder), trial["seed"], undisturbed)._asdict()

        found = study.trials("kills", todo, measure, chosen)
    rows = []
    for who in ("parent", "worker"):
        of = [each for each in found if each["who"] == who]
        wrong, resumed = [each["wrong"] for each in of if each["wrong"]], sum(each["finished"] > 0 for each in of)
        slowest = f"{max((each['left_seconds'] for each in of), default=0.0):.2f} s"
        rows.append([who, str(len(of)), str(resumed), str(sum(each["finished"] for each in of)), str(len(wrong)), slowest])
        print(*wrong, sep="\n")
    text = [
        "A run of six points was killed with SIGKILL at a random instant of its measuring, or its start, or its worker was, "
        "and then resumed. Wrong: a finished point lost or measured twice, a file unlike that of an undisturbed run, more than one "
        "variant failed, or a process left behind. A killed worker costs the variant in hand at that point, no other."
    ]
    columns = ["killed", "kills", "with points finished", "such points", "wrong", "worker gone after at most"]
    study.publish("kills", "Killed at a random instant, then resumed", columns, rows, text, chosen)


if __name__ == "__main__":
    main()
