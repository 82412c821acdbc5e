"""The regression check in repositories as people have them: is its exit code, and the line that is read first, what is true there?

Each kind makes a git repository and a change in it, and says what a true answer is.  --before asks the same of the code as it was before
the kinds were known, and keeps the answers in validation/logs/, so that both stand in one table.
"""

import contextlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kinds_code
import kinds_history
import kinds_layers
import kinds_packages
import kinds_parts
import kinds_place
import repository
import study

MODULES = (kinds_code, kinds_packages, kinds_layers, kinds_history, kinds_parts, kinds_place)
KINDS = {kind.name: kind for kind in sorted((kind for module in MODULES for kind in module.KINDS), key=lambda kind: kind.slow)}
EARLIER = "b0eb24d"  # the last commit before the first kinds were mended
COLUMNS = ["repository", "code", "first line", "as wanted", "before: code", "before: first line", "before: as wanted"]
LONGEST = 150  # characters of a first line in the table


def one(trial: dict[str, Any], package: Path | None) -> dict[str, Any]:
    kind = KINDS[trial["kind"]]
    if why := kind.needs():
        print(f"left out: {kind.name}: {why}", file=sys.stderr)
        return {"left_out": why}
    with tempfile.TemporaryDirectory(prefix="toy-") as folder:
        said = repository.run(kind, Path(folder).resolve(), package)
    as_wanted = repository.wanted(kind, said)
    print(
        f"{'as wanted' if as_wanted else 'NOT AS WANTED'}: {kind.name}: {said.code}, {said.seconds} s: {said.line} {said.amiss}",
        file=sys.stderr,
    )
    return {"code": said.code, "line": said.line, "seconds": said.seconds, "amiss": said.amiss}


@contextlib.contextmanager
def earlier() -> Iterator[Path]:
    """A folder that holds layerbench as it was."""
    with tempfile.TemporaryDirectory(prefix="earlier-") as folder:
        tree, package = Path(folder, "tree"), Path(folder, "package", "layerbench")
        git = ["git", "-C", str(study.ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), EARLIER], check=True)
        try:
            package.mkdir(parents=True)
            for name in ("bench", "layers", "kernels"):
                (package / name).symlink_to(tree / name)
            yield package.parent
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def cells(kind: repository.Kind, entry: dict[str, Any] | None) -> list[str]:
    if entry is None:
        return ["", "", ""]
    if "left_out" in entry:
        return ["", f"left out: {entry['left_out']}", ""]
    said = repository.Said(entry["code"], entry["line"], entry["seconds"], entry["amiss"])
    line = re.sub(r"([|<>*_`])", r"\\\1", said.line)
    short = line if len(line) <= LONGEST else f"{line[:LONGEST]}…"
    return [str(said.code), "; ".join(filter(None, (short, said.amiss))), "yes" if repository.wanted(kind, said) else "**no**"]


def main() -> None:
    before = "--before" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--before"]
    chosen = study.options()
    todo = [{"kind": name} for name in KINDS]
    if before:
        with earlier() as package:
            study.trials("repositories-before", todo, lambda trial: one(trial, package), chosen, kept=True)
        return
    found = study.trials("repositories", todo, lambda trial: one(trial, None), chosen, kept=True)
    log = study.ROOT / "validation" / "logs" / "repositories-before.jsonl"
    then = {entry["trial"]["kind"]: entry["result"] for entry in study.read(log)}
    rows = [[each["kind"], *cells(KINDS[each["kind"]], each), *cells(KINDS[each["kind"]], then.get(each["kind"]))] for each in found]
    counts = [sum(row[place] == "yes" for row in rows) for place in (3, 6)]
    seconds = sorted(each["seconds"] for each in found if "seconds" in each)
    text = [
        "Each row is a git repository that was made for it, and one `layerbench check` in it as a process of its own. As wanted: the exit",
        "code is the one that is true of the change, the first line says what it must and nothing that it must not, and nothing is left",
        f"behind. Before: the same repositories with the code of commit {EARLIER}.",
        "",
        f"{len(rows)} kinds; as wanted {counts[0]}, before {counts[1]} of {sum(bool(row[4]) for row in rows)}. A check took "
        f"{seconds[len(seconds) // 2]:.0f} s at the median and {seconds[-1]:.0f} s at most.",
    ]
    study.publish("repositories", "The regression check in people's repositories", COLUMNS, rows, text, chosen)


if __name__ == "__main__":
    main()
