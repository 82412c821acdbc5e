"""The two sides of a check as folders: the repository that holds a suite, and a commit of it beside it.  Nothing is imported here."""

import contextlib
import difflib
import fcntl
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from ..declare.mistake import Mistake
from . import git, submodules

PREFIX = "layerbench-base-"  # of the folders that commits are checked out into; by it a later check finds what a killed one left
BRANCH, HASH = re.compile(r"[A-Za-z_][\w./-]*"), re.compile(r"HEAD|[0-9a-f]{7,64}")
SIMILAR = 0.5  # share of equal lines above which a new file is an old one renamed; git's own default


def repository(suite: Path) -> Path:
    """The top folder of the repository that a suite lies in.  Raises Mistake where it lies in none, or git ignores it."""
    folder = suite.resolve() if suite.is_dir() else suite.resolve().parent
    if not any((each / ".git").exists() for each in (folder, *folder.parents)):
        raise Mistake(f"{suite} is in no git repository, so there is no earlier state to check against; give --suite PATH of one that is")
    root = Path(git.output(folder, "rev-parse", "--show-toplevel").rstrip("\n"))
    if git.run(root, "check-ignore", "--quiet", "--", str(suite.resolve())).returncode == 0:
        raise Mistake(f"{suite} is ignored by git, so no commit has it to check against; give --suite PATH of one that git tracks")
    return root


def head_commit(root: Path) -> str:
    """The full hash of the commit that the working tree is based on.  Raises Mistake where there is no commit yet."""
    if not (commit := git.name_of(root, "HEAD")):
        raise Mistake(f"{root} has no commit yet, so there is nothing to check against; type  git add . && git commit")
    return commit


def dirty(root: Path) -> bool:
    """Whether the working tree differs from its commit: tracked files changed, or new ones that git does not ignore."""
    return bool(git.output(root, "status", "--porcelain", "--untracked-files=normal"))


def resolve(root: Path, ref: str) -> str:
    """The full hash of the commit that the user named.  Raises Mistake that says how to get it where it is not here."""
    found = "" if ref.startswith("-") else git.name_of(root, ref)  # no name of a commit begins so: it is an option gone astray
    if not found:
        head_commit(root)
        raise Mistake(f"--against {ref}: {_unknown(root, ref)}")
    # In two steps, as  :/words^{commit}  would look for the words "words^{commit}".
    if not (commit := git.name_of(root, f"{found}^{{commit}}")):
        kind = git.run(root, "cat-file", "-t", found).stdout.strip()
        raise Mistake(f"--against {ref}: {f'this is a {kind}, not a commit; give a commit' if kind else _unknown(root, ref)}")
    return commit


@contextlib.contextmanager
def checked_out(root: Path, commit: str) -> Iterator[Path]:
    """The files of a commit in a new folder, which is removed on the way out: a worktree of git's, or plain files.

    Git lists worktrees in the repository, so in one that cannot be written the folder holds the files alone.  A check that was killed
    leaves its folder, so first those are removed that no living check holds.
    """
    with _turns(root) as turn:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
        with _held(folder):
            try:
                with turn():
                    _remove_abandoned(root)
                    if _writable(root):
                        git.output(root, "worktree", "add", "--quiet", "--detach", str(folder), commit)
                    else:
                        submodules.unpack(root, commit, folder)
                submodules.fill(root, folder, commit)
                yield folder
            finally:
                with turn():
                    _remove(root, folder)


def base_path(root: Path, worktree: Path, head_path: Path, commit: str) -> Path | None:
    """Where a file or folder of the working tree lay at the commit that is checked out in `worktree`; None where it is new.

    A file is found again after it was moved or renamed, whether git has been told of it or not, and a folder by its files.
    """
    path = head_path.parent.resolve() / head_path.name
    there = worktree / path.relative_to(root)
    if there.exists():
        return there
    if path.is_file():
        return _renamed(root, worktree, path, commit)
    folders = Counter(then.parent for file in sorted(path.glob("*.py")) if (then := _renamed(root, worktree, file, commit)))
    return folders.most_common(1)[0][0] if folders else None


def _renamed(root: Path, worktree: Path, path: Path, commit: str) -> Path | None:
    """The file that was most like this one, among those that the working tree has no more."""
    gone = git.output(root, "diff-index", "--name-only", "--no-renames", "--diff-filter=D", "-z", commit).split("\0")
    # What was only taken out of git's index still lies in the working tree, and is no earlier name of anything.
    candidates = [worktree / name for name in gone if name.endswith(path.suffix) and not (root / name).exists()]
    likeness = {each: _likeness(each, path) for each in candidates if each.is_file()}
    best = max(likeness, key=lambda each: (likeness[each], each.name == path.name), default=None)
    return best if best and likeness[best] >= SIMILAR else None


def _likeness(old: Path, new: Path) -> float:
    """Share of the lines that both have, 0 to 1."""
    before, after = (each.read_text(encoding="utf-8", errors="replace").splitlines() for each in (old, new))
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    return matcher.ratio() if matcher.quick_ratio() >= SIMILAR else 0.0


def _unknown(root: Path, ref: str) -> str:
    """What to type for a name that git does not know here."""
    remotes = git.output(root, "remote").split()
    for remote in remotes:
        if git.name_of(root, f"refs/remotes/{remote}/{ref}"):
            return f"git knows no such commit here, but it knows {remote}/{ref}; type  --against {remote}/{ref}"
    remote = next((each for each in remotes if re.fullmatch(rf"{re.escape(each)}/[\w./-]+", ref)), "")
    branch = ref.removeprefix(f"{remote}/")
    named = len(remotes) == 1 and bool(BRANCH.fullmatch(ref)) and not HASH.fullmatch(ref)  # perhaps a branch of it, as `main`
    place = remote or (remotes[0] if named else "")
    wanted = f"{place} {branch}:refs/remotes/{place}/{branch}"
    if git.output(root, "rev-parse", "--is-shallow-repository").strip() == "true":
        fetch = f"--unshallow {wanted}" if place else "--unshallow"
        then = "" if remote or not place else f"  and  --against {place}/{branch}"
        return f"this clone is shallow and does not have it; type  git fetch {fetch}{then}  (in CI: check out with fetch-depth: 0)"
    if remote:
        return f"git knows no such commit here; type  git fetch {wanted}  and check again"
    if place:
        return f"git knows no such commit here; if it is a branch of {place}, type  git fetch {wanted}  and  --against {place}/{branch}"
    return "git knows no such commit here; give a branch, a tag or a hash, as  git branch --all  and  git tag  list them"


def _common(root: Path) -> Path:
    """Where git keeps what all worktrees of a repository share."""
    return root / git.output(root, "rev-parse", "--git-common-dir").rstrip("\n")


def _writable(root: Path) -> bool:
    """Whether git can list another worktree."""
    listing = _common(root) / "worktrees"
    return os.access(listing if listing.exists() else listing.parent, os.W_OK)


@contextlib.contextmanager
def _turns(root: Path) -> Iterator[Callable[[], contextlib.AbstractContextManager[None]]]:
    """Turns for what changes the worktrees of a repository: two gits that do it at once trip over each other's half-written files."""
    shared = os.open(_common(root), os.O_RDONLY)

    @contextlib.contextmanager
    def turn() -> Iterator[None]:
        with contextlib.suppress(OSError):  # a file system that cannot lock a folder, as some of a network: then all go at once
            fcntl.flock(shared, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(shared, fcntl.LOCK_UN)

    try:
        yield turn
    finally:
        os.close(shared)


def _remove_abandoned(root: Path) -> None:
    """Remove what killed checks left.  Who still holds the lock beside its folder is alive."""
    lines = git.output(root, "worktree", "list", "--porcelain").splitlines()
    listed = [Path(line.removeprefix("worktree ")) for line in lines if line.startswith("worktree ")]
    for folder in listed[1:]:  # the first is the repository itself
        if folder.name.startswith(PREFIX) and folder != root:
            if folder.exists():
                _remove_unless_held(root, folder)
            else:  # the folder for temporary files was emptied; `git worktree prune` would forget worktrees of the user's too
                _remove(root, folder)
    for lock in Path(tempfile.gettempdir()).resolve().glob(f"{PREFIX}*.lock"):  # killed before git knew of its folder, or after
        if (folder := lock.with_suffix("")) not in (root, *listed):
            _remove_unless_held(root, folder)


def _remove_unless_held(root: Path, folder: Path) -> None:
    try:
        file = os.open(_lock(folder), os.O_RDWR | os.O_NOFOLLOW)
    except OSError:  # no lock beside it, or another user's: then the folder is not ours, whatever its name
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # its check is going on
        return
    else:
        _remove(root, folder)
        _lock(folder).unlink(missing_ok=True)
    finally:
        os.close(file)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Mark a folder as ours and in use: the system lets go of the lock when this process ends, however it ends."""
    file = os.open(_lock(folder), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        _lock(folder).unlink(missing_ok=True)
        os.close(file)


def _lock(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _remove(root: Path, folder: Path) -> None:
    """Remove a worktree and what git knows of it; twice --force, since one that was killed at birth is locked."""
    words = ("worktree", "remove", "--force", "--force", str(folder))
    if git.run(root, *words).returncode != 0:
        shutil.rmtree(folder, ignore_errors=True)
        git.run(root, *words)  # git forgets one whose folder is gone; where it never knew of it, this does nothing
