"""The project's commands, a session each:  nox -l  lists them,  nox -s bench  measures.  What follows  --  goes to the command itself.

All sessions share one environment, so that torch is installed once; pip brings it up to date when what it is made from changes.
What only tests and lint need is added to it when they are first called: who measures gets no browser and no type checker.
"""

import hashlib
import os
import re
import sys
import tomllib
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2022.11.21"  # the first that knows interrupt_timeout; nothing newer is used
nox.options.sessions = ["tests", "lint"]

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".nox" / f"python{sys.version_info.major}.{sys.version_info.minor}"
EVERYTHING = ".[triton,tensorboard]"
OLDEST = ("torch==2.9.0", "triton==3.5.0", "numpy==2.3.5")  # the first two as pyproject.toml begins; see INTERPRETED_LOOP in tests/upstream
STUDIES = ("bias", "alike", "coverage", "aa", "overhead", "scaling", "tolerance", "kills")  # the shorter ones
SIDE_BY_SIDE = ("-n", str(min(4, os.cpu_count() or 1)), "--dist", "loadgroup")  # each process imports torch and holds a gigabyte
INTERRUPT_SECONDS = 30.0  # after Ctrl-C a run still writes what it has measured; nox's own patience is a third of a second


@nox.session(venv_backend="none")
def bench(session: nox.Session) -> None:
    """Measure on every device that this machine has; arguments as for `layerbench run`."""
    _layerbench(session, "run", *session.posargs)


@nox.session(name="bench-cpu", venv_backend="none")
def bench_cpu(session: nox.Session) -> None:
    """Measure on the CPU."""
    _layerbench(session, "run", "--device", "cpu", *session.posargs)


@nox.session(name="bench-gpu", venv_backend="none")
def bench_gpu(session: nox.Session) -> None:
    """Measure on the GPU; exit 2 where there is none."""
    _layerbench(session, "run", "--device", "gpu", *session.posargs)


@nox.session(venv_backend="none")
def report(session: nox.Session) -> None:
    """Write the page of the newest run, or of the run files given."""
    _layerbench(session, "report", *session.posargs)


@nox.session(name="regression-check", venv_backend="none")
def regression_check(session: nox.Session) -> None:
    """Check the working tree against a commit: nox -s regression-check -- --against origin/main."""
    _layerbench(session, "check", *session.posargs)


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """Run the tests; arguments as for pytest.  All of them run in several processes, what is chosen by arguments in one."""
    session.env["OMP_NUM_THREADS"] = "1"  # each process has a core
    _run(session, "python", "-m", "pytest", *(session.posargs or SIDE_BY_SIDE), group="tests")


@nox.session(name="tests-newest", venv_backend="none")
def tests_newest(session: nox.Session) -> None:
    """Run the tests with the newest versions that a user gets today, in an environment of its own; not with those of constraints.txt."""
    eager = ("--upgrade", "--upgrade-strategy", "eager")  # or pip keeps what an earlier day installed, where it is in its range
    _tests_elsewhere(session, "newest", *eager)


@nox.session(name="tests-oldest", venv_backend="none")
def tests_oldest(session: nox.Session) -> None:
    """Run the tests with the oldest torch and Triton that pyproject.toml allows, in an environment of its own."""
    _tests_elsewhere(session, "oldest", *OLDEST)


@nox.session(venv_backend="none")
def validate(session: nox.Session) -> None:
    """Run the studies of validation/ that are named, or the shorter ones; --quick, --fresh and --minutes=N are theirs."""
    flags = [word for word in session.posargs if word.startswith("-")]
    for study in [word for word in session.posargs if word not in flags] or STUDIES:
        _run(session, "python", f"validation/{study}.py", *flags)


@nox.session(name="gpu-proof", venv_backend="none")
def gpu_proof(session: nox.Session) -> None:
    """Show what holds on a GPU in ten minutes: nox -s gpu-proof -- --out FOLDER; --dry rehearses it without one."""
    _run(session, "python", "validation/gpu_proof.py", *(session.posargs or ("--out", "gpu-proof")), group="tests")


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Check style, layout and types."""
    _run(session, "python", "-m", "ruff", "check", group="lint")
    _run(session, "python", "-m", "ruff", "format", "--check", group="lint")
    _run(session, "python", "-m", "mypy", group="lint")


def _tests_elsewhere(session: nox.Session, name: str, *wanted: str) -> None:
    """The tests in an environment of their own, made with some more words for pip."""
    python = str(ENVIRONMENT.with_name(name) / "bin" / "python")
    session.run(sys.executable, "-m", "virtualenv", "--quiet", str(ENVIRONMENT.with_name(name)))
    session.run(python, "-m", "pip", "install", *wanted, "--editable", EVERYTHING, *_dependencies("tests"))
    session.run(python, "-m", "pip", "freeze", "--exclude-editable")  # what is tried
    session.env["OMP_NUM_THREADS"] = "1"
    session.run(python, "-m", "pytest", *(session.posargs or SIDE_BY_SIDE), interrupt_timeout=INTERRUPT_SECONDS)


def _layerbench(session: nox.Session, *words: str) -> None:
    """Run `layerbench`; a failure ends nox with the command's own exit code, where nox would make every failure 1."""
    try:
        _run(session, "layerbench", *words)
    except CommandFailed as failed:
        code = re.fullmatch(r"Returned code (-?\d+)", str(failed))  # the newest nox alone has it as a number
        if not code:
            raise
        sys.exit(int(code[1]))


def _run(session: nox.Session, program: str, *words: str, group: str = "") -> None:
    _install(session, group)
    session.run(str(ENVIRONMENT / "bin" / program), *words, interrupt_timeout=INTERRUPT_SECONDS)


def _install(session: nox.Session, group: str) -> None:
    """Make the shared environment with a dependency group, or bring it up to date; nothing where it has the group and all is as it was."""
    project, constraints = ((ROOT / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "constraints.txt"))
    wanted = hashlib.sha256("\n".join([sys.version, str(ROOT), project, constraints]).encode()).hexdigest()
    stamp = ENVIRONMENT / "installed"  # the digest of what it was made from, then the groups it has
    made, *had = stamp.read_text().split() if stamp.exists() else [""]
    groups = sorted({*had, group} - {""})
    if made == wanted and groups == had:
        return
    if made != wanted:
        session.run(sys.executable, "-m", "virtualenv", "--quiet", str(ENVIRONMENT))
    pip = (str(ENVIRONMENT / "bin" / "python"), "-m", "pip")
    session.run(*pip, "install", "--constraint", "constraints.txt", "--editable", EVERYTHING, *_dependencies(*groups))
    stamp.write_text("\n".join([wanted, *groups]))


def _dependencies(*groups: str) -> list[str]:
    """Those of some groups of pyproject.toml."""
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    return [each for group in groups for each in known[group]]
