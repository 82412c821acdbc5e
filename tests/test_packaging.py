"""The built wheel: what it holds, and that it works beside folders of the user's that have the names of ours."""

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
QUICK_SECONDS = 0.3  # for --help
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "bench", "layers", "kernels")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that no build folder is left in the tree."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tree / name)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(tree))
    return next(out.glob("*.whl"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the wheel's contents and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    pip("install", "--no-deps", "--target", str(folder), str(wheel))
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A user's project that has folders bench/, layers/ and kernels/ of its own."""
    for name in ("bench", "layers", "kernels"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f'WHOSE = "my {name}"\n')
    return tmp_path


def pip(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments, "--no-index"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def python(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(installed)}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)


def command(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The `layerbench` command of the wheel."""
    return python(installed, folder, str(installed / "bin" / "layerbench"), *arguments)


def test_the_wheel_installs_layerbench_and_no_other_name(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {"layerbench", f"{wheel.name.removesuffix('-py3-none-any.whl')}.dist-info"}
    assert {name.split("/")[1] for name in names if name.startswith("layerbench/")} == {"bench", "layers", "kernels"}


def test_the_wheel_holds_every_source_file_and_the_licence(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    kinds = {".py", ".html", ".css", ".js"}
    sources = {
        f"layerbench/{file.relative_to(ROOT).as_posix()}"
        for folder in ("bench", "layers", "kernels")
        for file in (ROOT / folder).rglob("*")
        if file.suffix in kinds
    }
    assert {name for name in names if name.startswith("layerbench/")} >= sources
    assert {Path(name).suffix for name in sources if "/report/" in name} == kinds
    assert [name for name in names if name.endswith("/licenses/LICENSE")] != []


def test_the_command_tells_its_version_and_its_commands(installed: Path, elsewhere: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert command(installed, elsewhere, "--version").stdout == f"layerbench {version}\n"
    done = command(installed, elsewhere, "--help")
    assert done.returncode == 0
    listed = [line.split()[0] for line in done.stdout.partition("Commands:")[2].splitlines() if line.strip()]
    assert {"list", "run", "report", "compare"} <= set(listed)


def test_folders_of_the_same_names_stay_the_users_own(installed: Path, elsewhere: Path) -> None:
    program = "import layerbench.bench, bench, layers, kernels; print(layerbench.bench.__file__, bench.WHOSE, layers.WHOSE, kernels.WHOSE)"
    done = python(installed, elsewhere, "-c", program)
    assert done.stdout.strip() == f"{installed / 'layerbench' / 'bench' / '__init__.py'} my bench my layers my kernels", done.stderr


def test_the_installed_layers_are_found_from_there(installed: Path, elsewhere: Path) -> None:
    done = command(installed, elsewhere, "list")
    assert done.returncode == 0, done.stderr
    assert "softmax" in done.stdout
    assert list(elsewhere.glob("**/__pycache__")) == []  # none of the user's folders was imported in its place


def test_help_imports_nothing_slow() -> None:
    program = "import sys\nfrom layerbench.bench.cli import main\n"
    program += "try:\n    main.main()\nfinally:\n    print(*sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program, "--help"], capture_output=True, text=True, check=False)
    assert "Commands:" in done.stdout
    assert {"torch", "triton", "numpy", "scipy", "pandas", "plotly", "jinja2", "pytest"} & set(done.stderr.split()) == set()


def test_help_is_quick() -> None:
    """In processor seconds, which a busy machine stretches less than the wall clock."""
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "layerbench.bench", "--help"], stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert statistics.median(times) < QUICK_SECONDS
