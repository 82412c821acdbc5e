"""Git, in processes that run none of the user's hooks and take nothing over from a git that runs us, as in a hook."""

import os
import re
import subprocess
from pathlib import Path

from ..declare.mistake import Mistake

HANDED_DOWN = (  # git sets them for its hooks; they would name another repository than the suite's
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES"),
    *("GIT_NAMESPACE", "GIT_PREFIX"),
)
SETTINGS = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false")


def name_of(root: Path, name: str) -> str:
    """The hash of what a name stands for; "" where git knows nothing of that name."""
    found = run(root, "rev-parse", "--verify", "--quiet", name).stdout.strip()
    return found if re.fullmatch("[0-9a-f]{40,64}", found) else ""


def output(folder: Path, *words: str, index: Path | None = None) -> str:
    """What git prints.  Raises Mistake with git's own words where it fails.  index: another file than the repository's own."""
    done = run(folder, *words, index=index)
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        fatal = next((line for line in lines if line.startswith("fatal:")), lines[-1])
        # The last line is often what to type, as for a folder that is somebody else's.
        raise Mistake(f"git {words[0]} failed in {folder}: {'; '.join(dict.fromkeys((fatal, lines[-1])))}")
    return done.stdout


def run(folder: Path, *words: str, index: Path | None = None) -> subprocess.CompletedProcess[str]:
    """index: another file than the repository's own."""
    environment = {name: value for name, value in os.environ.items() if name not in HANDED_DOWN}
    environment["GIT_OPTIONAL_LOCKS"] = "0"  # looking must not hold up a git of the user's
    try:
        return subprocess.run(
            ["git", "-C", str(folder), *SETTINGS, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",  # a file's name may be any bytes
            env=environment | ({"GIT_INDEX_FILE": str(index)} if index else {}),
            check=False,
        )
    except FileNotFoundError as error:
        raise Mistake("git was not found; a check needs it for the state to check against: install git, or put it on PATH") from error
