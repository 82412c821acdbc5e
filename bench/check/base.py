"""Which commit a working tree is held against: of a branch the one that it left it at, since what came later is not its doing."""

from dataclasses import dataclass
from pathlib import Path

from ..declare.mistake import Mistake
from . import git, worktrees

BRANCHES = ("refs/heads/", "refs/remotes/")


@dataclass(frozen=True)
class Base:
    commit: str
    ref: str  # in words
    note: str = ""  # where it is not what the user named


def base(root: Path, ref: str, tip: bool) -> Base:
    """The commit for `--against ref`.  tip: the branch as it is now.  Raises Mistake where there is none."""
    if ref.endswith("/") or not ref.strip():
        raise Mistake(
            f"--against {ref!r}: the name of the branch is empty; in CI this is no pull request, so name a branch, as origin/main"
        )
    commit = worktrees.resolve(root, ref)
    named = git.run(root, "rev-parse", "--symbolic-full-name", ref).stdout.strip()
    if tip or not named.startswith(BRANCHES):
        return Base(commit, ref)
    common = git.run(root, "merge-base", "HEAD", commit).stdout.strip()
    if not common and git.output(root, "rev-parse", "--is-shallow-repository").strip() == "true":
        raise Mistake(
            f"--against {ref}: this clone is shallow, and HEAD and {ref} have no commit in common in it; type  git fetch --unshallow  "
            f"(in CI: check out with fetch-depth: 0), or --tip to compare with {ref} as it is now"
        )
    if not common:
        return Base(commit, ref, f"the histories of HEAD and {ref} have nothing in common, so {ref} as it is now was compared")
    if common == commit:
        return Base(commit, ref)
    behind = git.output(root, "rev-list", "--count", f"{common}..{commit}").strip()
    commits = "1 commit" if behind == "1" else f"{behind} commits"
    note = (
        f"HEAD lacks {commits} of {ref}: it was compared with {common[:7]}, the last one that both have; --tip compares with {ref} as it is"
    )
    return Base(common, f"merge base with {ref}", note)
