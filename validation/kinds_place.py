"""Kinds of repository by where they lie, by what the machine allows, and by what happens to the check meanwhile."""

import os
import subprocess
import sys
import time
from pathlib import Path

from repository import (
    FILES,
    IS_WRONG,
    MAIN,
    PLAIN,
    RELU,
    SILU,
    SUITE,
    VALUE,
    WORDS,
    WRONG,
    Asked,
    Kind,
    Make,
    changed,
    commit,
    edit,
    git,
    layer,
    made,
    write,
)


def wrong(folder: Path) -> Path:
    return changed(folder, FILES, {"layers/silu.py": WRONG})


def with_variables(*words: str, **variables: str) -> Make:
    return lambda folder: Asked(wrong(folder / "toy"), (*SUITE, *MAIN, *PLAIN, *words), variables)


def read_only(folder: Path, name: str = "toy") -> Asked:
    """Mounted read-only for the check alone, as some build servers mount a checkout."""
    root = wrong(folder / name)
    mount = f'mount --bind -o ro "{root}" "{root}" && mount -o remount,bind,ro "{root}" && cd "{root}" && exec "$@"'
    words = (*SUITE, *MAIN, *PLAIN, "--out", str(folder / "out"))
    return Asked(root, words, prefix=("unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh"))


def read_only_submodule(folder: Path) -> Asked:
    inner = made(
        folder / "inner",
        {"gates.py": f"def gate(x):\n    return {VALUE}\n", "__init__.py": "", ".gitattributes": "gates.py export-ignore\n"},
    )
    root = made(folder / "toy", {"layers/silu.py": layer(top="from .lib.gates import gate", value="gate(x)"), "layers/relu.py": RELU})
    git(root, "submodule", "--quiet", "add", str(inner), "layers/lib")
    commit(root)
    git(root, "checkout", "--quiet", "-b", "topic")
    commit(write(root / "layers/lib", {"gates.py": "def gate(x):\n    return x\n"}))
    commit(root)
    mount = f'mount --bind -o ro "{root}" "{root}" && mount -o remount,bind,ro "{root}" && cd "{root}" && exec "$@"'
    words = (*SUITE, *MAIN, *PLAIN, "--out", str(folder / "out"))
    return Asked(root, words, prefix=("unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh"))


def no_mounts() -> str:
    done = subprocess.run(["unshare", "--map-root-user", "--mount", "true"], capture_output=True, text=True)
    return "" if done.returncode == 0 else f"nothing can be mounted here: {done.stderr.strip()}"


def somebody_elses(folder: Path) -> Asked:
    """The checkout belongs to another user, as where a container mounts one; git refuses it until it is told."""
    root = wrong(folder / "toy")
    for path in (root, *root.rglob("*")):
        os.chown(path, 65534, 65534)
    return Asked(root, (*SUITE, *MAIN, *PLAIN))


def not_root() -> str:
    return "" if os.geteuid() == 0 else "only root can give files away"


def alphabets(folder: Path) -> Asked:
    root = changed(folder / "my työ 模型" / "toy 'quoted'", {"schichten und ebenen/слой.py": SILU}, {"schichten und ebenen/слой.py": WRONG})
    return Asked(root, ("--suite", "schichten und ebenen", *WORDS, *MAIN, *PLAIN))


def ascii_only(folder: Path) -> Asked:
    """No character beyond ASCII can be printed."""
    asked = alphabets(folder)
    locale = {"LC_ALL": "C", "LANG": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    return Asked(asked.here, asked.words, locale)


def linked_suite(folder: Path) -> Asked:
    root = made(folder / "toy", {f"real/{name}": text for name, text in FILES.items()})
    (root / "layers").symlink_to("real/layers")
    commit(root)
    git(root, "checkout", "--quiet", "-b", "topic")
    commit(write(root, {"real/layers/silu.py": WRONG}))
    return Asked(root, (*SUITE, *MAIN, *PLAIN))


def from_elsewhere(folder: Path) -> Asked:
    root = wrong(folder / "toy")
    (folder / "elsewhere").mkdir()
    return Asked(folder / "elsewhere", ("--suite", str(root / "layers"), *WORDS, *MAIN, *PLAIN))


def from_inside(folder: Path) -> Asked:
    """In a project three folders deep, called from there."""
    root = changed(folder / "mono", {"teams/vision/toy/layers/silu.py": SILU}, {"teams/vision/toy/layers/silu.py": WRONG})
    return Asked(root / "teams/vision/toy", (*SUITE, *MAIN, *PLAIN))


def nobody(folder: Path) -> Asked:
    """A container that runs under a number which no user has, and has no HOME."""
    prefix = ("unshare", "--map-user=54321", "env", "-u", "HOME", "-u", "XDG_CACHE_HOME")
    return Asked(wrong(folder / "toy"), (*SUITE, *MAIN, *PLAIN), prefix=prefix)


def temporary_inside(folder: Path) -> Asked:
    """The folder for temporary files lies in the repository."""
    root = wrong(folder / "toy")
    (root / "tmp").mkdir()
    return Asked(
        root, (*SUITE, *MAIN, *PLAIN), {"TMPDIR": str(root / "tmp")}, afterwards=lambda: ", ".join(map(str, (root / "tmp").iterdir()))
    )


def out_unwritable(folder: Path) -> Asked:
    write(folder, {"file": "no folder"})
    return with_variables("--out", str(folder / "file"))(folder)


def summary_unwritable(folder: Path) -> Asked:
    return with_variables(GITHUB_STEP_SUMMARY=str(folder / "nowhere" / "summary.md"))(folder)


def cancelled(folder: Path) -> Asked:
    """SIGTERM once the base is checked out."""
    root = wrong(folder / "toy")

    def end(process: "subprocess.Popen[str]") -> None:
        deadline = time.monotonic() + 60
        while len(_worktrees(root)) < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1)
        process.terminate()

    return Asked(root, (*SUITE, *MAIN, *PLAIN), meanwhile=end, afterwards=lambda: _left(root))


def _worktrees(root: Path) -> list[str]:
    return git(root, "worktree", "list").splitlines()


def _left(root: Path) -> str:
    return "" if len(_worktrees(root)) == 1 else "a worktree is left behind"


def twice(folder: Path) -> Asked:
    """Another check of the same repository begins at the same time."""
    root = wrong(folder / "toy")
    words = (*SUITE, *MAIN, *PLAIN)
    other: list[int] = []

    def begin(_: "subprocess.Popen[str]") -> None:
        command = [sys.executable, "-m", "layerbench.bench", "check", *words]
        other.append(subprocess.run(command, cwd=root, capture_output=True).returncode)

    def files() -> str:
        written = len(list((root / "results").glob("*.check.json")))
        return "" if (other, written) == ([1], 2) else f"the other one's exit code is {other[0]}; {written} result files of 2"

    return Asked(root, words, meanwhile=begin, afterwards=files)


NOTHING = edit({"layers/silu.py": layer(value="x.sigmoid() * x")}, *PLAIN, "--budget", "1s")

KINDS = (
    Kind("read-only checkout", read_only, 1, IS_WRONG, needs=no_mounts),
    Kind("read-only checkout with a submodule", read_only_submodule, 1, IS_WRONG, needs=no_mounts),
    Kind("checkout of another user", somebody_elses, 2, "safe.directory", needs=not_root),
    Kind("user without a name and without HOME", nobody, 1, IS_WRONG, needs=no_mounts),
    Kind("folder for temporary files in the repository", temporary_inside, 1, IS_WRONG),
    Kind("spaces, quotes and other alphabets in paths", alphabets, 1, IS_WRONG),
    Kind("the same in an ASCII locale", ascii_only, 1, IS_WRONG),
    Kind("suite behind a symbolic link", linked_suite, 1, IS_WRONG),
    Kind("called from outside of the repository", from_elsewhere, 1, IS_WRONG),
    Kind("called from a project three folders deep", from_inside, 1, IS_WRONG),
    Kind("GITHUB_STEP_SUMMARY cannot be written", summary_unwritable, 1, IS_WRONG),
    Kind("--out cannot be written", out_unwritable, 1, IS_WRONG),
    Kind("cancelled by SIGTERM", cancelled, 143, "interrupted before there was a verdict"),
    Kind("two checks at once", twice, 1, IS_WRONG),
    Kind("budget too small to decide", NOTHING, 4, r"Nothing was (decided|compared).*--budget"),
)
