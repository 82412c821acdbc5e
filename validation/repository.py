"""A repository as somebody has it, a check that is run in it, and what a true answer is: the parts that all kinds of them are made of.

No kind itself, and no table: those are `kinds_*` and `repositories`.
"""

import itertools
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

WORDS = ("--step", "forward", "--device", "cpu", "--budget", "40s")
SUITE = ("--suite", "layers", *WORDS)
PLAIN = ("-k", "plain and silu")  # one benchmark
MAIN, ORIGIN = ("--against", "main"), ("--against", "origin/main")
LOOSE = ("--threshold", "50%")  # decided soon on any machine
SAME = "Nothing that could make a layer slower has changed"
IS_WRONG = "1 of 1 benchmark is wrong, silu.*plain"
SECONDS = 300.0  # after which a check is ended; the slowest kind compiles
AFTER = re.compile(r"note: |control: |verdict  |each side in |all \d|the other \d+ benchmark|took \d|results: ")  # the verdict
PREFIX = "layerbench-"  # of what must not stay in the folder for temporary files,
LOCK = "layerbench-cpu.lock"  # but for the machine's lock


@dataclass(frozen=True)
class Asked:
    """One call of `layerbench check`, in a repository that was made for it."""

    here: Path
    words: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    python: str = sys.executable
    prefix: tuple[str, ...] = ()  # a program that starts it
    meanwhile: Callable[["subprocess.Popen[str]"], None] | None = None
    afterwards: Callable[[], str] = lambda: ""  # what is not as it should be; "" where all is


Make = Callable[[Path], Asked]  # an empty folder -> a check in what was made there


@dataclass(frozen=True)
class Kind:
    """says, never: patterns of the first line.  slow: comes last.  needs: why it cannot be made here."""

    name: str
    make: Make
    code: int
    says: str
    never: str = "Traceback"
    slow: bool = False
    needs: Callable[[], str] = lambda: ""


@dataclass(frozen=True)
class Said:
    code: int
    line: str
    seconds: float
    amiss: str  # beside code and line


def wanted(kind: Kind, said: Said) -> bool:
    return said.code == kind.code and bool(re.search(kind.says, said.line)) and not re.search(kind.never, said.line) and not said.amiss


def run(kind: Kind, folder: Path, package: Path | None) -> Said:
    """package: a folder that holds another layerbench than the installed one."""
    for name in ("home", "temporary", "work"):
        (folder / name).mkdir()
    os.environ.update({**alone(folder), **({"PYTHONPATH": str(package)} if package else {})})
    asked = kind.make(folder / "work")
    variables = {**os.environ, **asked.variables}
    command = [*asked.prefix, asked.python, "-m", "layerbench.bench", "check", *asked.words]
    started = time.monotonic()
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=asked.here, env=variables, text=True, errors="replace", **streams)
    if asked.meanwhile:
        asked.meanwhile(process)
    try:
        out, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.terminate()
        out, err = process.communicate()
    seconds = time.monotonic() - started
    left = sorted(path.name for path in (folder / "temporary").glob(f"{PREFIX}*") if path.name != LOCK)
    amiss = "; ".join(filter(None, (f"left behind: {', '.join(left)}" if left else "", asked.afterwards())))
    return Said(process.returncode, _first_line(out, err).replace(f"{folder}/work", "…"), round(seconds, 1), amiss)


def _first_line(out: str, err: str) -> str:
    """What a reader of the log reads first: the verdict, which a log breaks at its width, else the sentence of why there is none."""
    lines = [line.strip() for line in out.splitlines() if line.strip()]
    told = [line for line in err.splitlines() if line.startswith("layerbench: ")] or err.splitlines()[-1:] or [""]
    return " ".join(itertools.takewhile(lambda line: not AFTER.match(line), lines)) or told[0].strip()


def alone(folder: Path) -> dict[str, str]:
    """An environment that no setting of the machine's or the user's reaches."""
    who = {
        f"GIT_{role}_{what}": text for role in ("AUTHOR", "COMMITTER") for what, text in (("NAME", "Some"), ("EMAIL", "some@example.org"))
    }
    places = {"HOME": str(folder / "home"), "XDG_CONFIG_HOME": str(folder / "home"), "XDG_CACHE_HOME": str(folder / "home")}
    # As they would be said in a user's own settings: a submodule may come from a folder.
    config = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "protocol.file.allow", "GIT_CONFIG_VALUE_0": "always"}
    nothing = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "TMPDIR": str(folder / "temporary")}
    return {**who, **places, **config, **nothing}


# --- git -----------------------------------------------------------------------------------------------------------------------------


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, text=True).stdout.strip()


def write(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8", newline="")
    return folder


def made(folder: Path, files: Mapping[str, str]) -> Path:
    """A repository with these files in the one commit of its branch main."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    commit(write(folder, files))
    return folder


def commit(folder: Path) -> str:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "another state")
    return git(folder, "rev-parse", "HEAD")


def changed(folder: Path, before: Mapping[str, str], after: Mapping[str, str]) -> Path:
    """A repository with a branch `topic`, checked out, that is one commit before main."""
    root = made(folder, before)
    git(root, "checkout", "--quiet", "-b", "topic")
    commit(write(root, after))
    return root


# --- layers --------------------------------------------------------------------------------------------------------------------------


def layer(name: str = "silu", stock: str = "SiLU", value: str = "x * x.sigmoid()", **parts: str) -> str:
    """A layer file.  parts: top (before the class), first (before the return), batch, more (variants)."""
    top, first = parts.get("top", ""), parts.get("first", "")
    return f'''"""{name}, written out."""
import torch
from torch import nn
from layerbench.bench import Layer, Variant, randn
{top}

class Plain(nn.{stock}):
    def forward(self, x):
        {first or "pass"}
        return {value}


{name} = Layer(
    "{name}",
    {{"batch": {parts.get("batch", "(32,)")}, "width": (1024,)}},
    (randn("batch", "width"),),
    lambda module, size: module(),
    {{"stock": Variant(nn.{stock}), "plain": Variant(Plain){parts.get("more", "")}}},
)
'''


SLOWLY = "[x.sigmoid() for _ in range(6)]"  # work that nobody asked for
VALUE, WRONG_VALUE = "x * x.sigmoid()", "x * x.sigmoid() * 1.001"
SILU, RELU = layer(), layer("relu", "ReLU", "x * (x > 0)")
SLOW, WRONG = layer(first=SLOWLY), layer(value=WRONG_VALUE)
FILES = {"layers/silu.py": SILU, "layers/relu.py": RELU, "README.md": "a suite\n"}
GATE = f"def gate(x):\n    return {VALUE}\n"
SLOW_GATE = f"def gate(x):\n    {SLOWLY}\n    return {VALUE}\n"
WRONG_GATE = f"def gate(x):\n    return {WRONG_VALUE}\n"


def uses(statement: str) -> str:
    """A layer that takes its formula from somewhere else."""
    return layer(top=statement, value="gate(x)")


def edit(after: dict[str, str], *words: str, before: dict[str, str] | None = None) -> Make:
    """A kind in which a branch changes these files."""
    return lambda folder: Asked(changed(folder / "toy", before or FILES, after), (*SUITE, *MAIN, *words))


# --- what is installed ---------------------------------------------------------------------------------------------------------------


def environment(folder: Path) -> str:
    """The Python of a new environment that sees what this one has, and in which more can be installed."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    places = subprocess.run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True)
    theirs = Path(places.stdout.strip(), "theirs.pth")
    theirs.write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n", encoding="utf-8")
    return str(python)


def install(python: str, project: Path, editable: bool) -> None:
    words = ("--quiet", "--no-build-isolation", "--no-deps", *(("--editable",) if editable else ()))
    subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", *words, str(project)], check=True, capture_output=True)
    for folder in ("build", "toy.egg-info", "src/toy.egg-info"):  # a build leaves them
        shutil.rmtree(project / folder, ignore_errors=True)


def pyproject(where: str = ".", dependencies: str = "") -> str:
    """Of a project toy whose packages are found in a folder, namespaces too."""
    return (
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        f'[project]\nname = "toy"\nversion = "1"\ndependencies = [{dependencies}]\n'
        f'[tool.setuptools.packages.find]\nwhere = ["{where}"]\ninclude = ["toy*"]\n'
    )
