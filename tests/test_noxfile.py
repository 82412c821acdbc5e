"""What nox installs: for a measurement nothing that only the tests or the lint need, and nothing twice."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
DEPENDENCIES = {"tests": ["playwright"], "lint": ["mypy", "ruff"]}


class Session:
    """Stands where nox's stands, and notes what is to be run."""

    posargs: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.ran: list[list[str]] = []

    def run(self, *words: object, **options: object) -> None:
        self.ran.append([str(word) for word in words])

    def installed(self) -> list[list[str]]:
        """The words after `pip install` of each call."""
        return [words[words.index("install") + 1 :] for words in self.ran if "install" in words]


@pytest.fixture
def noxfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The file under a nox that does nothing: a runner has the real one, and not this environment."""
    nox: Any = ModuleType("nox")
    nox.session = lambda function=None, **options: function or (lambda inner: inner)
    nox.options, nox.Session = ModuleType("options"), Session
    nox.project = ModuleType("project")
    nox.project.load_toml = lambda path: {}
    nox.project.dependency_groups = lambda project, *groups: [each for group in groups for each in DEPENDENCIES[group]]
    command: Any = ModuleType("nox.command")
    command.CommandFailed = RuntimeError
    monkeypatch.setitem(sys.modules, "nox", nox)
    monkeypatch.setitem(sys.modules, "nox.command", command)
    spec = importlib.util.spec_from_file_location("noxfile", ROOT / "noxfile.py")
    assert spec and spec.loader
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.ENVIRONMENT = tmp_path / "python3"
    module.ENVIRONMENT.mkdir()
    return module


@pytest.mark.parametrize("name", ["bench", "bench_cpu", "bench_gpu", "report", "regression_check", "validate"])
def test_measuring_installs_neither_browser_nor_lint(noxfile: Any, name: str) -> None:
    session = Session()
    getattr(noxfile, name)(session)
    (installed,) = session.installed()
    assert not {"playwright", "mypy", "ruff"} & set(installed)
    assert ".[triton,tensorboard]" in installed


def test_tests_and_lint_add_what_they_need_once_and_take_nothing_away(noxfile: Any) -> None:
    session = Session()
    for each in (noxfile.bench, noxfile.tests, noxfile.tests, noxfile.lint, noxfile.bench, noxfile.lint):
        each(session)
    groups = [{"playwright", "mypy", "ruff"} & set(words) for words in session.installed()]
    assert groups == [set(), {"playwright"}, {"playwright", "mypy", "ruff"}]


def test_other_constraints_install_anew_with_the_groups_that_were_there(noxfile: Any, tmp_path: Path) -> None:
    session = Session()
    noxfile.tests(session)
    stamp = noxfile.ENVIRONMENT / "installed"
    stamp.write_text(stamp.read_text().replace(stamp.read_text().split()[0], "another"))
    noxfile.bench(session)
    assert "playwright" in session.installed()[-1]


def test_the_newest_versions_are_tried_without_constraints_in_an_environment_of_their_own(noxfile: Any) -> None:
    session = Session()
    noxfile.tests_newest(session)
    (installed,) = session.installed()
    assert "--constraint" not in installed
    assert {"--upgrade", "playwright"} <= set(installed)
    assert not any(str(noxfile.ENVIRONMENT) in word for words in session.ran for word in words)


def test_no_newer_nox_is_asked_for_than_is_needed(noxfile: Any) -> None:
    needed = sys.modules["nox"].needs_version  # type: ignore[attr-defined]
    assert needed == ">=2024.10.9"  # the first with dependency groups
