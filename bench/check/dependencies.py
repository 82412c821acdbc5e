"""Files that say which packages are wanted: where they differ between the sides, both ran the packages that are installed."""

import fnmatch
import tomllib
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from . import git

FILES = (  # wherever they lie in the repository
    *("requirements*.txt", "requirements*.in", "constraints*.txt", "environment*.yml", "environment*.yaml"),
    *("pyproject.toml", "setup.cfg", "setup.py", "Pipfile", "*.lock", "pylock*.toml", "conda-lock.yml"),
)
WATCHED = ("torch", "triton", "numpy")  # whose versions decide most of a layer's time


def differences(root: Path, commit: str) -> list[str]:
    """The files that are other ones in the working tree than at the commit, new and removed ones too; relative to the root."""
    tracked = git.output(root, "diff", "--name-only", "--no-renames", "-z", commit).split("\0")
    new = git.output(root, "ls-files", "--others", "--exclude-standard", "-z").split("\0")
    return sorted(name for name in {*tracked, *new} if name and _wanted(name) and list(_lines(root, commit, name)))


def note(root: Path, commit: str, files: Sequence[str]) -> str:
    """One sentence where some differ, else ""."""
    if not files:
        return ""
    lines = [line for name in files for line in _lines(root, commit, name)]
    what = f": {'; '.join(lines[:3])}{'; …' if len(lines) > 3 else ''}"
    names = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
    return (
        f"{names} differ{'s' if len(files) == 1 else ''} from the base{what}. Both sides ran the packages that are installed"
        f" ({', '.join(_installed())}), so what another version would change was not compared: docs/ci.md says how to"
    )


def _wanted(name: str) -> bool:
    last = name.rsplit("/", 1)[-1]
    return any(fnmatch.fnmatch(last, pattern) for pattern in FILES)


def _lines(root: Path, commit: str, name: str) -> Iterator[str]:
    """What was removed and added, as -old and +new, without comments and blank lines.  Of pyproject.toml the dependencies alone."""
    now = (root / name).read_text(encoding="utf-8", errors="replace") if (root / name).is_file() else ""
    then = git.run(root, "show", f"{commit}:{name}").stdout
    before, after = (_entries(name, text) for text in (then, now))
    yield from (f"-{line}" for line in before if line not in after)
    yield from (f"+{line}" for line in after if line not in before)


def _entries(name: str, text: str) -> list[str]:
    if name.rsplit("/", 1)[-1] == "pyproject.toml":
        return _of_project(text)
    lines = (line.split(" #")[0].strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _of_project(text: str) -> list[str]:
    """Requirements of a pyproject.toml; all its lines where it is none that reads."""
    try:
        made = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return text.splitlines()
    project, tool = made.get("project", {}), made.get("tool", {})
    groups = [*project.get("optional-dependencies", {}).values(), *made.get("dependency-groups", {}).values()]
    found = [*project.get("dependencies", ()), *(each for group in groups for each in group), project.get("requires-python", "")]
    found += [f"{name} {wanted}" for name, wanted in tool.get("poetry", {}).get("dependencies", {}).items()]
    return [str(each) for each in found if each]


def _installed() -> Iterator[str]:
    for name in WATCHED:
        try:
            yield f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
