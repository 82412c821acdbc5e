"""What the sessions of noxfile.py install and run, with nox and its session replaced by what writes down the commands."""

import sys
import tomllib
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
GROUPS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]


class Session:
    """Writes down what is run."""

    def __init__(self, *posargs: str) -> None:
        self.posargs = list(posargs)
        self.env: dict[str, str] = {}
        self.ran: list[list[str]] = []

    def run(self, *words: str, **_: Any) -> None:
        self.ran.append([str(word) for word in words])


@pytest.fixture
def noxfile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The module, as nox would import it, with an environment below a folder of the test's."""

    def session(function: Callable[..., None] | None = None, **_: Any) -> Any:
        return function or (lambda found: found)

    nox, command = ModuleType("nox"), ModuleType("nox.command")
    nox.__dict__.update(session=session, options=SimpleNamespace(), Session=Session)
    command.CommandFailed = type("CommandFailed", (Exception,), {})
    monkeypatch.setitem(sys.modules, "nox", nox)
    monkeypatch.setitem(sys.modules, "nox.command", command)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made = ModuleType("noxfile")
    made.__file__ = str(ROOT / "noxfile.py")
    exec(SourceFileLoader("noxfile", made.__file__).get_code("noxfile"), made.__dict__)
    made.ENVIRONMENT = tmp_path
    return made


def installed(session: Session) -> list[str] | None:
    """What pip is told to install beside the project itself; None where pip is not called."""
    calls = [words for words in session.ran if "pip" in words]
    assert len(calls) <= 1
    return calls[0][calls[0].index(".[triton,tensorboard]") + 1 :] if calls else None


@pytest.mark.parametrize("name", ["bench", "bench_cpu", "bench_gpu", "report", "regression_check", "validate"])
def test_who_measures_gets_nothing_of_tests_and_lint(name: str, noxfile: ModuleType) -> None:
    session = Session()
    getattr(noxfile, name)(session)
    assert installed(session) == []


def test_tests_and_lint_add_what_they_need_when_they_are_first_called(noxfile: ModuleType) -> None:
    expected = {
        "bench": [],
        "report": None,
        "lint": GROUPS["lint"],
        "tests": GROUPS["lint"] + GROUPS["tests"],
        "validate": None,
    }
    assert GROUPS["lint"] and GROUPS["tests"]
    for name, wanted in expected.items():
        session = Session()
        getattr(noxfile, name)(session)
        assert installed(session) == wanted, name
        assert any("virtualenv" in words for words in session.ran) == (name == "bench")  # made once


def test_another_pyproject_brings_up_to_date_what_is_there_and_no_more(noxfile: ModuleType) -> None:
    noxfile.tests(Session())
    (noxfile.ENVIRONMENT / "installed").write_text("another-digest\ntests")
    session = Session()
    noxfile.bench(session)
    assert installed(session) == GROUPS["tests"]


def test_a_command_that_fails_ends_nox_with_its_own_exit_code(noxfile: ModuleType) -> None:
    """By what every nox says, from the oldest that is asked for: only the newest has the code as a number."""
    session = Session("x")
    noxfile.report(session)

    def fails(*words: str, **_: Any) -> None:
        raise noxfile.CommandFailed("Returned code 3")

    session.run = fails
    with pytest.raises(SystemExit) as ended:
        noxfile.report(session)
    assert ended.value.code == 3


def test_nox_may_be_as_old_as_that_of_the_distributions(noxfile: ModuleType) -> None:
    """Debian 12 and Ubuntu 24.04 have 2022.11.21 and 2024.3.2."""
    import nox

    asked = tuple(int(part) for part in nox.needs_version.removeprefix(">=").split("."))
    assert asked <= (2022, 11, 21)


def test_the_newest_versions_are_tried_without_constraints_in_an_environment_of_their_own(noxfile: Any) -> None:
    session = Session("-k", "stats")
    noxfile.tests_newest(session)
    made, install, freeze, run = session.ran
    assert "--constraint" not in install
    assert set(GROUPS["tests"]) <= set(install)
    assert install[install.index("--upgrade-strategy") + 1] == "eager"  # what was the newest on an earlier day is not kept
    assert freeze[-2:] == ["freeze", "--exclude-editable"]
    assert run[-2:] == ["-k", "stats"]
    assert made[-1] == str(noxfile.ENVIRONMENT.with_name("newest"))
    assert not any(word.startswith(str(noxfile.ENVIRONMENT)) for words in session.ran for word in words)
