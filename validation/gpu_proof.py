"""What a GPU shows of layerbench, in ten minutes on a bare machine: proofs, clock, a run, energy, counters, check, tests.  No nox.

python validation/gpu_proof.py --out FOLDER      every part in turn; it goes on after any failure and ends with a table of what held
python validation/gpu_proof.py --out FOLDER --only proofs,clock:60      some parts, with other limits
python validation/gpu_proof.py --out FOLDER --dry     all of it on the CPU, or on the emulated device of the tests: a rehearsal

Each part is a process of its own with a limit of seconds.  FOLDER ends with at most nine files: table.md, log.txt, and those of the parts.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PARTS = {"proofs": 70, "clock": 90, "run": 90, "energy": 40, "counters": 60, "check": 120, "tests": 110}  # the part -> its limit in seconds
DRY_LAYERS = ("softmax", "rmsnorm", "dropout")
BUDGET = 60  # seconds, of the run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--dry", action="store_true")
    parser.add_argument("--part", default="")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    if chosen.part:
        sys.path[:0] = [str(ROOT / "tests")]  # the emulated device
        from gpu_parts import BY_NAME

        BY_NAME[chosen.part](chosen.out, chosen.dry)
        return
    began, rows = time.monotonic(), []
    for word in chosen.only.split(","):
        part, _, limit = word.partition(":")
        rows += list(_part(part, int(limit or PARTS[part]), chosen.out, chosen.dry))
        _table(rows, chosen.out, began)
    print((chosen.out / "table.md").read_text(encoding="utf-8"))


def _part(part: str, limit: int, out: Path, dry: bool) -> Iterator[tuple[str, str, str]]:
    """Run one part; its rows: what was looked at, what was found, whether it held."""
    command = [sys.executable, str(Path(__file__)), "--out", str(out), "--part", part, *(["--dry"] if dry else [])]
    began = time.monotonic()
    with (out / "log.txt").open("a", encoding="utf-8") as log:
        log.write(f"\n===== {part}\n")
        log.flush()
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=_environment(), start_new_session=True)
        try:
            code = process.wait(limit)
            ended = f"exit code {code}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
            code, ended = -9, f"stopped after {limit} s"
    yield f"{part}: ended", f"{ended}, {time.monotonic() - began:.0f} s", "yes" if code == 0 else "NO"
    rows = out / f"{part}.rows"
    if rows.exists():
        yield from (tuple(json.loads(line)) for line in rows.read_text(encoding="utf-8").splitlines())
        rows.unlink()


def _table(rows: list[tuple[str, str, str]], out: Path, began: float) -> None:
    lines = ["| what | found | held |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
    (out / "table.md").write_text("\n".join([*lines, "", f"{time.monotonic() - began:.0f} s in all"]) + "\n", encoding="utf-8")


def _environment() -> dict[str, str]:
    """The checkout as package `layerbench`, where it is not installed."""
    package = ROOT / ".gpu-proof" / "layerbench"
    package.mkdir(parents=True, exist_ok=True)
    for name in ("bench", "layers", "kernels"):
        if not (package / name).exists():
            (package / name).symlink_to(ROOT / name)
    paths = [str(package.parent), str(ROOT / "tests"), str(ROOT / "validation"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path), "PYTHONUNBUFFERED": "1"}


def say(out: Path, part: str, what: str, found: str, held: bool | None) -> None:
    """A row of the table.  held None: a figure that is to be known, with no bar."""
    with (out / f"{part}.rows").open("a", encoding="utf-8") as file:
        file.write(json.dumps([what, found, "-" if held is None else "yes" if held else "NO"]) + "\n")


def write(out: Path, name: str, rows: list[dict[str, Any]]) -> None:
    (out / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
