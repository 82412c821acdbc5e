"""The submodules of a commit that was checked out: their files, at the commits that it names, from the clones in the working tree.

Git itself would clone them anew, from where they came.  Nothing is fetched: what the working tree's clones do not have is missing.
"""

from pathlib import Path

from . import git

LINK = "160000 commit "  # of git ls-tree: a submodule, and the commit that it is at


def fill(root: Path, folder: Path, commit: str) -> None:
    """Put the files of every submodule where the commit has it, in `folder`, and of the submodules in them."""
    for path, wanted in _links(root, commit).items():
        clone = root / path
        if (clone / ".git").exists() and git.name_of(clone, f"{wanted}^{{commit}}"):
            unpack(clone, wanted, folder / path)
            fill(clone, folder / path, wanted)


def missing(root: Path, commit: str) -> dict[str, str]:
    """Submodule -> why it could not be filled, with what to type; the path is relative to the root."""
    found = {}
    for path, wanted in _links(root, commit).items():
        clone = root / path
        if not (clone / ".git").exists():
            found[path] = f"submodule {path} is not checked out; type  git submodule update --init --recursive"
        elif not git.name_of(clone, f"{wanted}^{{commit}}"):
            found[path] = f"submodule {path} does not have the base's commit {wanted[:7]}; type  git -C {path} fetch origin {wanted}"
        else:
            found |= {f"{path}/{below}": why.replace(below, f"{path}/{below}") for below, why in missing(clone, wanted).items()}
    return found


def _links(repository: Path, commit: str) -> dict[str, str]:
    """Path -> commit of each submodule of a commit."""
    lines = git.output(repository, "ls-tree", "-r", "-z", commit).split("\0")
    entries = (line.removeprefix(LINK).partition("\t") for line in lines if line.startswith(LINK))
    return {path: wanted for wanted, _, path in entries}


def unpack(clone: Path, commit: str, folder: Path) -> None:
    """Put the files of a commit into a folder.  Nothing is written to the clone.

    Through an index of its own, so that attributes that keep files out of archives, and filters as LFS's, are as in a checkout.
    """
    folder.mkdir(parents=True, exist_ok=True)
    index = folder / ".layerbench-index"
    try:
        git.output(clone, "read-tree", commit, index=index)
        git.output(clone, "checkout-index", "--all", "--force", f"--prefix={folder}/", index=index)
    finally:
        index.unlink(missing_ok=True)
