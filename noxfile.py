"""The project's commands, a session each:  nox -l  lists them,  nox -s bench  measures.  What follows  --  goes to the command itself.

All sessions share one environment, so that torch is installed once; pip brings it up to date when what it is made from changes.  What
only the tests or the lint need is added when they are first called.  `tests-newest` has an environment of its own.
"""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2024.10.9"  # the first with dependency groups
nox.options.sessions = ["tests", "lint"]

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".nox" / f"python{sys.version_info.major}.{sys.version_info.minor}"
EVERYTHING = ".[triton,tensorboard]"
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
    """Run the tests; arguments as for pytest."""
    _run(session, "python", "-m", "pytest", *session.posargs, groups=["tests"])


@nox.session(name="tests-newest", venv_backend="none")
def tests_newest(session: nox.Session) -> None:
    """Run the tests with the newest versions that a user gets today, in an environment of its own; not with those of constraints.txt."""
    environment = ENVIRONMENT.with_name("newest")
    pip = (environment / "bin" / "python", "-m", "pip")
    session.run(sys.executable, "-m", "virtualenv", "--quiet", environment)
    session.run(*pip, "install", "--upgrade", "--editable", EVERYTHING, *_packages(["tests"]))
    session.run(*pip, "freeze", "--exclude-editable")
    session.run(environment / "bin" / "python", "-m", "pytest", *session.posargs, interrupt_timeout=INTERRUPT_SECONDS)


@nox.session(venv_backend="none")
def validate(session: nox.Session) -> None:
    """Run the studies of validation/ that are named, or the shorter ones; --quick, --fresh and --minutes=N are theirs."""
    flags = [word for word in session.posargs if word.startswith("-")]
    for study in [word for word in session.posargs if word not in flags] or (
        "bias",
        "alike",
        "coverage",
        "aa",
        "overhead",
        "scaling",
        "kills",
    ):
        _run(session, "python", f"validation/{study}.py", *flags)


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Check style, layout and types."""
    _run(session, "python", "-m", "ruff", "check", groups=["lint"])
    _run(session, "python", "-m", "ruff", "format", "--check", groups=["lint"])
    _run(session, "python", "-m", "mypy", groups=["lint"])


def _layerbench(session: nox.Session, *words: str) -> None:
    """Run `layerbench`; a failure ends nox with the command's own exit code, where nox would make every failure 1."""
    try:
        _run(session, "layerbench", *words)
    except CommandFailed as failed:
        sys.exit(failed.return_code)


def _run(session: nox.Session, program: str, *words: str, groups: Sequence[str] = ()) -> None:
    _install(session, groups)
    session.run(ENVIRONMENT / "bin" / program, *words, interrupt_timeout=INTERRUPT_SECONDS)


def _install(session: nox.Session, groups: Sequence[str]) -> None:
    """Make the shared environment, or bring it up to date, with the dependency groups that are asked for; nothing where it has all that.

    The stamp has a digest of what it was made from, then the groups that it holds.
    """
    inputs = [sys.version, str(ROOT), *((ROOT / name).read_text() for name in ("pyproject.toml", "constraints.txt"))]
    digest = hashlib.sha256("\n".join(inputs).encode()).hexdigest()
    stamp = ENVIRONMENT / "installed"
    made_from, *held = stamp.read_text().split() if stamp.exists() else [""]
    wanted = sorted({*held, *groups})
    if (made_from, held) == (digest, wanted):
        return
    session.run(sys.executable, "-m", "virtualenv", "--quiet", ENVIRONMENT)
    pip = (ENVIRONMENT / "bin" / "python", "-m", "pip")
    session.run(*pip, "install", "--constraint", "constraints.txt", "--editable", EVERYTHING, *_packages(wanted))
    stamp.write_text(" ".join([digest, *wanted]))


def _packages(groups: Sequence[str]) -> Sequence[str]:
    return nox.project.dependency_groups(nox.project.load_toml(ROOT / "pyproject.toml"), *groups) if groups else ()
