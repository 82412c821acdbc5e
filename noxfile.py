"""The project's commands, a session each:  nox -l  lists them,  nox -s bench  measures.  What follows  --  goes to the command itself.

All sessions share one environment, so that torch is installed once; pip brings it up to date when what it is made from changes.
"""

import hashlib
import sys
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2026.10.20"
nox.options.sessions = ["tests", "lint"]

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".nox" / f"python{sys.version_info.major}.{sys.version_info.minor}"
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
    _run(session, "python", "-m", "pytest", *session.posargs)


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
    _run(session, "python", "-m", "ruff", "check")
    _run(session, "python", "-m", "ruff", "format", "--check")
    _run(session, "python", "-m", "mypy")


def _layerbench(session: nox.Session, *words: str) -> None:
    """Run `layerbench`; a failure ends nox with the command's own exit code, where nox would make every failure 1."""
    try:
        _run(session, "layerbench", *words)
    except CommandFailed as failed:
        sys.exit(failed.return_code)


def _run(session: nox.Session, program: str, *words: str) -> None:
    _install(session)
    session.run(ENVIRONMENT / "bin" / program, *words, interrupt_timeout=INTERRUPT_SECONDS)


def _install(session: nox.Session) -> None:
    """Make the shared environment, or bring it up to date; nothing where pyproject.toml and constraints.txt are as they were."""
    inputs = [sys.version, str(ROOT), *((ROOT / name).read_text() for name in ("pyproject.toml", "constraints.txt"))]
    wanted = hashlib.sha256("\n".join(inputs).encode()).hexdigest()
    stamp = ENVIRONMENT / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    groups = nox.project.dependency_groups(nox.project.load_toml(ROOT / "pyproject.toml"), "tests", "lint")
    session.run(sys.executable, "-m", "virtualenv", "--quiet", ENVIRONMENT)
    pip = (ENVIRONMENT / "bin" / "python", "-m", "pip")
    session.run(*pip, "install", "--constraint", "constraints.txt", "--editable", ".[triton,tensorboard]", *groups)
    stamp.write_text(wanted)
