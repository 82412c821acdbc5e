"""Kinds of repository by what changed in the code of the layers, and how that code is written and called."""

from pathlib import Path

from repository import (
    FILES,
    GATE,
    IS_WRONG,
    LOOSE,
    MAIN,
    PLAIN,
    RELU,
    SAME,
    SILU,
    SLOW,
    SLOW_GATE,
    SUITE,
    VALUE,
    WORDS,
    WRONG,
    WRONG_GATE,
    Asked,
    Kind,
    Make,
    changed,
    commit,
    edit,
    git,
    layer,
    made,
    uses,
    write,
)

GONE = "import gone_with_the_wind\n"


def removed(name: str, after: dict[str, str], *words: str) -> Make:
    """A kind in which a branch removes a file and writes others."""

    def make(folder: Path) -> Asked:
        root = changed(folder / "toy", FILES, after)
        git(root, "rm", "--quiet", name)
        commit(root)
        return Asked(root, (*SUITE, *MAIN, *words))

    return make


def neither(*words: str) -> Make:
    return edit({"README.md": "more\n"}, *words, before={"layers/silu.py": GONE + SILU})


def two_suites(folder: Path) -> Asked:
    """Both have a common.py that is imported by its plain name; the other one's is changed."""
    files = {f"{one}/layers/{name}": text for one in ("a", "b") for name, text in {"silu.py": uses("from common import gate")}.items()}
    before = {**files, "a/layers/common.py": GATE, "b/layers/common.py": GATE}
    root = changed(folder / "toy", before, {"b/layers/common.py": WRONG_GATE})
    return Asked(root, ("--suite", "a/layers", *WORDS, *MAIN))


def folder_renamed(folder: Path) -> Asked:
    root = made(folder / "toy", FILES)
    git(root, "checkout", "--quiet", "-b", "topic")
    git(root, "mv", "layers", "suite")
    commit(write(root, {"suite/silu.py": WRONG}))
    return Asked(root, ("--suite", "suite", *WORDS, *MAIN, *PLAIN))


def latin(folder: Path) -> Asked:
    """A layer file in another encoding than UTF-8, as its first line says."""
    first, second = (f"# coding: latin-1\n# Maßstab\n{text}".encode("latin-1") for text in (SILU, WRONG))
    root = made(folder / "toy", {"layers/relu.py": RELU})
    (root / "layers" / "silu.py").write_bytes(first)
    commit(root)
    git(root, "checkout", "--quiet", "-b", "topic")
    (root / "layers" / "silu.py").write_bytes(second)
    commit(root)
    return Asked(root, (*SUITE, *MAIN, *PLAIN))


FACTOR = layer(top='import json\nFACTOR = json.loads(open("layers/factor.json").read())', value="x * x.sigmoid() * FACTOR")
SISTERS = {"layers/silu.py": uses("from .parts.inner.deep import gate"), "layers/relu.py": RELU}
NESTED = {"layers/parts/__init__.py": "", "layers/parts/inner/__init__.py": ""}
SWISH = SILU.replace('"silu"', '"swish"').replace("silu = ", "swish = ")
SLOW_SWISH = SLOW.replace('"silu"', '"swish"').replace("silu = ", "swish = ")
OTHER = layer("mish", "Mish", "x * torch.tanh(nn.functional.softplus(x))")
DROPPED = SILU.replace(', "plain": Variant(Plain)', "")
COMPILED = ', "compiled": Variant(Plain, compile=True)'
BREAK = "torch._dynamo.graph_break()"
INLINE = """from torch.utils.cpp_extension import load_inline
CODE = "torch::Tensor gate(torch::Tensor x) {{ return x * x.sigmoid(){}; }}"
built = load_inline("toy_gate", [CODE], functions=["gate"])
gate = built.gate
"""


def inline(extra: str) -> str:
    return layer(top=INLINE.format(extra), value="gate(x)")


KINDS = (
    Kind("unchanged", edit({"README.md": "more\n"}), 0, SAME),
    Kind("other comments and docstrings alone", edit({"layers/silu.py": SILU.replace("written out", "in full") + "# the end\n"}), 0, SAME),
    Kind("slow-down in a layer", edit({"layers/silu.py": SLOW}, *PLAIN), 1, r"1 of 1 benchmark got slower, silu.*plain"),
    Kind(
        "slow-down in a helper three folders deep",
        edit({"layers/parts/inner/deep.py": SLOW_GATE}, *PLAIN, before={**SISTERS, **NESTED, "layers/parts/inner/deep.py": GATE}),
        1,
        "1 of 1 benchmark got slower",
    ),
    Kind("wrong layer", edit({"layers/silu.py": WRONG}, "-k", "silu"), 1, "1 of 2 benchmarks is wrong, silu.*plain"),
    Kind(
        "wrong layer that is right again",
        edit({"layers/silu.py": SILU}, before={**FILES, "layers/silu.py": WRONG}),
        0,
        "^1 benchmark was not compared: base failed at verify",
    ),
    Kind("head does not import", edit({"layers/silu.py": GONE + SILU}), 1, "cannot be imported at the head", "wrong"),
    Kind(
        "base does not import",
        edit({"layers/silu.py": SILU}, before={**FILES, "layers/silu.py": GONE + SILU}),
        0,
        "^2 benchmarks were not compared: at the base, layers/silu.py, line 1",
        "new",
    ),
    Kind("neither side imports", neither(), 2, "ModuleNotFoundError: No module named 'gone"),
    Kind("neither side imports, with -k", neither("-k", "silu"), 2, "ModuleNotFoundError: No module named 'gone"),
    Kind("neither side imports, with --set", neither("--set", "batch=8"), 2, "ModuleNotFoundError: No module named 'gone"),
    Kind("layer added", edit({"layers/mish.py": OTHER}), 0, rf"{SAME}.*2 new"),
    Kind("layer removed", removed("layers/silu.py", {}), 1, r"2 .*missing.*--allow-missing"),
    Kind("layer removed, --allow-missing", removed("layers/silu.py", {}, "--allow-missing"), 0, rf"{SAME}.*2 skipped"),
    Kind("layer replaced by another", removed("layers/silu.py", {"layers/mish.py": OTHER}), 1, r"missing.*--allow-missing", "paired"),
    Kind("file renamed", removed("layers/silu.py", {"layers/swish.py": SILU}), 0, SAME, "new|missing"),
    Kind("file renamed, and slower", removed("layers/silu.py", {"layers/swish.py": SLOW}, *PLAIN), 1, "1 of 1 benchmark got slower"),
    Kind("folder of the suite renamed", folder_renamed, 1, IS_WRONG),
    Kind("layer renamed", edit({"layers/silu.py": SWISH}, *LOOSE), 0, "2 benchmarks compared", "missing|new"),
    Kind(
        "layer and file renamed", removed("layers/silu.py", {"layers/swish.py": SWISH}, *LOOSE), 0, "2 benchmarks compared", "missing|new"
    ),
    Kind("layer renamed, and slower", edit({"layers/silu.py": SLOW_SWISH}, "-k", "swish and plain"), 1, "got slower, swish", "missing"),
    Kind("sweep changed", edit({"layers/silu.py": layer(batch="(64,)")}), 1, r"missing.*--allow-missing"),
    Kind("sweep extended", edit({"layers/silu.py": layer(batch="(32, 64)")}, "-k", "silu", *LOOSE), 0, r"2 benchmarks compared.*2 new"),
    Kind("variant added", edit({"layers/silu.py": SILU}, before={**FILES, "layers/silu.py": DROPPED}), 0, "1 benchmark compared.*1 new"),
    Kind("variant removed", edit({"layers/silu.py": DROPPED}, *LOOSE), 1, r"1 of 2 benchmarks is missing.*--allow-missing"),
    Kind("two suites, each with its own common.py", two_suites, 0, SAME),
    Kind(
        "layer file called as a module of the standard library",
        edit({"layers/random.py": WRONG}, *PLAIN, before={"layers/random.py": SILU}),
        1,
        IS_WRONG,
    ),
    Kind("layer file called torch.py", edit({"layers/torch.py": WRONG}, *PLAIN, before={"layers/torch.py": SILU}), 1, IS_WRONG),
    Kind(
        "more memory",
        edit({"layers/silu.py": layer(value="(x.clone() * x.sigmoid()).clone()")}, "--threshold", "1000%", *PLAIN),
        1,
        r"1 of 1 benchmark got larger.*peak forward",
    ),
    Kind(
        "graph break added",
        edit(
            {"layers/silu.py": layer(first=BREAK, more=COMPILED)},
            *("-k", "compiled", "--threshold", "1000%"),
            before={**FILES, "layers/silu.py": layer(more=COMPILED)},
        ),
        1,
        "1 of 1 benchmark got larger.*graph",
        slow=True,
    ),
    Kind(
        "C++ extension by load_inline, wrong",
        edit({"layers/silu.py": inline(" * 1.001")}, "--budget", "1m", *PLAIN, before={**FILES, "layers/silu.py": inline("")}),
        1,
        "1 of 1 benchmark is wrong",
        slow=True,
    ),
    Kind(
        "C++ extension by load_inline, slower",
        edit(
            {"layers/silu.py": inline(" + 0 * (x.sigmoid() + x.sigmoid() + x.sigmoid() + x.sigmoid())")},
            *("--budget", "2m", *PLAIN),
            before={**FILES, "layers/silu.py": inline("")},
        ),
        1,
        "1 of 1 benchmark got slower",
        slow=True,
    ),
    Kind("layer file in Latin-1", latin, 1, IS_WRONG),
    Kind("layer file with a byte order mark", edit({"layers/silu.py": "\ufeff" + WRONG}, *PLAIN), 1, IS_WRONG),
    Kind(
        "data file named from the working directory, wrong at the base",
        edit(
            {"layers/factor.json": "1"}, *("-k", "plain", *LOOSE), before={**FILES, "layers/silu.py": FACTOR, "layers/factor.json": "1.001"}
        ),
        0,
        "^1 benchmark was not compared: base failed at verify",
    ),
    Kind("code rewritten, as fast", edit({"layers/silu.py": layer(value=VALUE, first="y = x")}, *PLAIN, *LOOSE), 0, "1 benchmark compared"),
)
