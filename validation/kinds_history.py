"""Kinds of repository by their history, and by how a build server checked it out."""

from pathlib import Path

from repository import (
    FILES,
    IS_WRONG,
    MAIN,
    ORIGIN,
    PLAIN,
    RELU,
    SAME,
    SILU,
    SLOW,
    SUITE,
    WRONG,
    WRONG_GATE,
    Asked,
    Kind,
    Make,
    changed,
    commit,
    git,
    layer,
    made,
    write,
)


def behind(*words: str) -> Make:
    """main has got faster since the branch left it."""

    def make(folder: Path) -> Asked:
        root = changed(folder / "toy", {**FILES, "layers/silu.py": SLOW}, {"README.md": "more\n"})
        git(root, "checkout", "--quiet", "main")
        commit(write(root, {"layers/silu.py": SILU}))
        git(root, "checkout", "--quiet", "topic")
        return Asked(root, (*SUITE, *MAIN, *words))

    return make


def diverged(folder: Path) -> Asked:
    """The branch breaks one layer, and main has mended the other one since."""
    root = changed(
        folder / "toy", {**FILES, "layers/relu.py": layer("relu", "ReLU", "x * (x > 0)", first="[x > 0] * 9")}, {"layers/silu.py": WRONG}
    )
    git(root, "checkout", "--quiet", "main")
    commit(write(root, {"layers/relu.py": RELU}))
    git(root, "checkout", "--quiet", "topic")
    return Asked(root, (*SUITE, *MAIN, *PLAIN))


def against(ref: str) -> Make:
    """Two commits on one branch, the second one wrong, the first one tagged."""

    def make(folder: Path) -> Asked:
        root = made(folder / "toy", FILES)
        git(root, "tag", "--annotate", "v1", "--message", "first")
        first = git(root, "rev-parse", "HEAD")
        commit(write(root, {"layers/silu.py": WRONG}))
        return Asked(root, (*SUITE, "--against", ref.replace("HASH", first).replace("SHORT", first[:8]), *PLAIN))

    return make


def origin(folder: Path) -> Path:
    """A bare repository with main and a wrong topic."""
    changed(folder / "source", FILES, {"layers/silu.py": WRONG})
    git(folder, "clone", "--quiet", "--bare", str(folder / "source"), str(folder / "origin"))
    git(folder / "origin", "config", "uploadpack.allowFilter", "true")
    git(folder / "origin", "config", "uploadpack.allowAnySHA1InWant", "true")
    return folder / "origin"


def merge_ref(folder: Path) -> Asked:
    """As GitHub checks out a pull request: a merge commit of both, detached."""
    root = folder / "toy"
    git(folder, "clone", "--quiet", str(origin(folder)), str(root))
    git(root, "checkout", "--quiet", "--detach", "origin/main")
    git(root, "merge", "--quiet", "--no-ff", "--message", "merged", "origin/topic")
    git(root, "branch", "--delete", "--force", "topic")
    return Asked(root, (*SUITE, *ORIGIN, *PLAIN))


def cloned(*words: str, then: tuple[tuple[str, ...], ...] = (), ref: tuple[str, ...] = ORIGIN) -> Make:
    def make(folder: Path) -> Asked:
        root = folder / "toy"
        git(folder, "clone", "--quiet", "--branch", "topic", *words, origin(folder).as_uri(), str(root))
        for command in then:
            git(root, *command)
        return Asked(root, (*SUITE, *ref, *PLAIN))

    return make


def no_repository(folder: Path) -> Asked:
    return Asked(write(folder / "toy", FILES), (*SUITE, *MAIN, *PLAIN))


def no_commit(folder: Path) -> Asked:
    (folder / "toy").mkdir()
    git(folder / "toy", "init", "--quiet", "--initial-branch", "main")
    return Asked(write(folder / "toy", FILES), (*SUITE, "--against", "HEAD", *PLAIN))


def dirty(files: dict[str, str], *words: str, before: dict[str, str] | None = None) -> Make:
    """HEAD against a working tree in which nothing was committed."""
    return lambda folder: Asked(write(made(folder / "toy", before or FILES), files), (*SUITE, "--against", "HEAD", *(words or PLAIN)))


HELPED = layer(top="from ._gates import gate", value="gate(x)")


def linked_worktree(folder: Path) -> Asked:
    """A worktree that was made from a worktree."""
    root = changed(folder / "toy", FILES, {"layers/silu.py": WRONG})
    git(root, "worktree", "add", "--quiet", "--detach", str(folder / "one"), "topic")
    git(folder / "one", "worktree", "add", "--quiet", "--detach", str(folder / "two"), "topic")
    return Asked(folder / "two", (*SUITE, *MAIN, *PLAIN))


def bare_worktree(folder: Path) -> Asked:
    git(origin(folder), "worktree", "add", "--quiet", str(folder / "tree"), "topic")
    return Asked(folder / "tree", (*SUITE, *MAIN, *PLAIN))


def conflict(folder: Path) -> Asked:
    """A merge that was left with a conflict."""
    root = made(folder / "toy", FILES)
    marks = "<<<<<<< HEAD\n" + SILU + "=======\n" + WRONG + ">>>>>>> topic\n"
    return Asked(write(root, {"layers/silu.py": marks}), (*SUITE, "--against", "HEAD", *PLAIN))


def crlf(folder: Path) -> Asked:
    return dirty({"layers/silu.py": SILU.replace("\n", "\r\n"), "README.md": "more\r\n"})(folder)


def sparse(folder: Path) -> Asked:
    root = changed(folder / "toy", {**FILES, "large/data.txt": "x\n"}, {"layers/silu.py": WRONG})
    git(root, "sparse-checkout", "set", "layers")
    return Asked(root, (*SUITE, *MAIN, *PLAIN))


def own_history(folder: Path) -> Asked:
    """main was written anew: no commit in common."""
    root = made(folder / "toy", FILES)
    git(root, "checkout", "--quiet", "--orphan", "topic")
    commit(write(root, {"layers/silu.py": WRONG}))
    return Asked(root, (*SUITE, *MAIN, *PLAIN))


def itself(folder: Path) -> Asked:
    """A push to main, checked against main."""
    root = made(folder / "toy", FILES)
    commit(write(root, {"layers/silu.py": WRONG}))
    return Asked(root, (*SUITE, *MAIN, *PLAIN))


def shallow_base(folder: Path) -> Asked:
    """A shallow clone in which the newest commit of main was fetched; main has been mended since the branch left it."""
    origin_ = changed(folder / "source", {**FILES, "layers/silu.py": WRONG}, {"README.md": "more\n"})
    git(origin_, "checkout", "--quiet", "main")
    commit(write(origin_, {"layers/silu.py": SILU}))
    git(folder, "clone", "--quiet", "--depth", "1", "--branch", "topic", origin_.as_uri(), str(folder / "toy"))
    git(folder / "toy", "fetch", "--quiet", "--depth", "1", *FETCH[2:])
    return Asked(folder / "toy", (*SUITE, *ORIGIN, *PLAIN))


FETCH = ("fetch", "--quiet", "origin", "main:refs/remotes/origin/main")

KINDS = (
    Kind("branch behind its base", behind(), 0, SAME, "slower by"),
    Kind("the same with --tip", behind("--tip", "-k", "silu"), 1, "1 of 2 benchmarks got slower"),
    Kind("branch and base diverged", diverged, 1, IS_WRONG),
    Kind("histories with nothing in common", own_history, 1, IS_WRONG),
    *(Kind(f"against {name}", against(ref), 1, IS_WRONG) for name, ref in (("a tag", "v1"), ("a hash", "HASH"), ("a short hash", "SHORT"))),
    *(Kind(f"against {ref}", against(ref), 1, IS_WRONG) for ref in ("HEAD~1", "HEAD^{/another}~1", "v1^{commit}")),
    Kind("against a name that is nothing", against("mian"), 2, "git knows no such commit here"),
    Kind("merge commit of a pull request, detached", merge_ref, 1, IS_WRONG),
    Kind("shallow clone", cloned("--depth", "1", ref=("--against", "HEAD~1")), 2, "git fetch --unshallow"),
    Kind("single-branch clone", cloned("--single-branch"), 2, "git fetch origin main:refs/remotes/origin/main"),
    Kind("single-branch clone with that fetch", cloned("--single-branch", then=(FETCH,)), 1, IS_WRONG),
    Kind("shallow single-branch clone", cloned("--depth", "1"), 2, "git fetch --unshallow origin main:refs/remotes/origin/main"),
    Kind(
        "shallow single-branch clone with that fetch",
        cloned("--depth", "1", then=(("fetch", "--quiet", "--unshallow", *FETCH[2:]),)),
        1,
        IS_WRONG,
    ),
    Kind("shallow clone with the newest commit of the base alone", shallow_base, 2, "git fetch --unshallow"),
    Kind("push to main, against main", itself, 0, "one commit"),
    Kind("partial clone (--filter=blob:none)", cloned("--filter=blob:none"), 1, IS_WRONG),
    Kind("empty GITHUB_BASE_REF", against("origin/"), 2, "the name of the branch is empty"),
    Kind("no repository", no_repository, 2, "is in no git repository"),
    Kind("no commit yet", no_commit, 2, "has no commit yet"),
    Kind("HEAD against a dirty tree", dirty({"layers/silu.py": WRONG}), 1, IS_WRONG),
    Kind("untracked helper", dirty({"layers/silu.py": HELPED, "layers/_gates.py": WRONG_GATE}), 1, IS_WRONG),
    Kind(
        "ignored helper",
        dirty({"layers/silu.py": HELPED, "layers/_gates.py": WRONG_GATE}, before={**FILES, ".gitignore": "_gates.py\n"}),
        1,
        IS_WRONG,
    ),
    Kind(
        "ignored helper that both sides need",
        dirty({"layers/_gates.py": WRONG_GATE}, "-k", "plain", before={**FILES, "layers/silu.py": HELPED, ".gitignore": "_gates.py\n"}),
        0,
        "^1 benchmark was not compared: at the base, layers/silu.py.*_gates",
    ),
    Kind("worktree of a worktree", linked_worktree, 1, IS_WRONG),
    Kind("worktree of a bare clone", bare_worktree, 1, IS_WRONG),
    Kind("merge conflict in a layer", conflict, 1, "cannot be imported at the head"),
    Kind("CRLF line ends", crlf, 0, SAME),
    Kind("sparse checkout", sparse, 1, IS_WRONG),
)
