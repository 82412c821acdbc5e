"""What a layer's code consists of: which files are reached, which edits change it, and what two copies of a tree would share."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from toy_repository import isolate, make, write

from layerbench.bench.suite import copies
from layerbench.bench.suite.closure import Closure, changed, closures, elsewhere

ROOT = Path(__file__).resolve().parent.parent
HARNESS = "from layerbench.bench import Layer, Variant\nfrom ..bench import randn\n"


def closure(root: Path, name: str = "layers/a.py", working: Path | None = None) -> Closure:
    return closures(root, [root / name], working or root)[root / name]


def of(root: Path, text: str, files: dict[str, str] | None = None) -> Closure:
    """The closure of layers/a.py with this text, among these files."""
    return closure(write(root, {**(files or {}), "layers/a.py": text}))


def others(found: Closure) -> list[str]:
    """Its files, but for the layer's own."""
    return [file for file in found.files if file != "layers/a.py"]


def differs(root: Path, before: dict[str, str], after: dict[str, str], name: str = "layers/a.py") -> bool:
    """Whether the layer's code changes as the files do."""
    base = closure(write(root, before), name)
    return changed(base, closure(write(root, after), name))


NEAR = {"layers/common.py": "x = 1", "kernels/__init__.py": "", "kernels/fast.py": "def f(): pass", "kernels/slow.py": ""}
DEEP = {"layers/p/__init__.py": "", "layers/p/q/__init__.py": "", "layers/p/q/r.py": "from ...common import x", "layers/p/other.py": ""}


@pytest.mark.parametrize(
    ("text", "reached"),
    [
        ("from .common import x", ["layers/common.py"]),
        ("from . import common, nothing", ["layers/common.py"]),
        ("import common", ["layers/common.py"]),
        ("import common as c, math", ["layers/common.py"]),
        ("from common import x", ["layers/common.py"]),
        ("from ..kernels.fast import f", ["kernels/__init__.py", "kernels/fast.py"]),
        ("from ..kernels import fast", ["kernels/__init__.py", "kernels/fast.py"]),
        ("from .. import kernels", ["kernels/__init__.py"]),
        ("from ..kernels.fast import *", ["kernels/__init__.py", "kernels/fast.py"]),
        ("from ..kernels import *", ["kernels/__init__.py"]),
        ("class A:\n    def forward(self):\n        from ..kernels.slow import f", ["kernels/__init__.py", "kernels/slow.py"]),
        ("try:\n    import no_such\nexcept ImportError:\n    from . import common", ["layers/common.py"]),
        ("import p.q.r", ["layers/common.py", "layers/p/__init__.py", "layers/p/q/__init__.py", "layers/p/q/r.py"]),
        ("from p import q", ["layers/p/__init__.py", "layers/p/q/__init__.py"]),
        ("import importlib\nimportlib.import_module('common')", ["layers/common.py"]),
        ("c = __import__('common')", ["layers/common.py"]),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import common\nelse:\n    from . import p", ["layers/p/__init__.py"]),
        ("import torch, math, no_such\nfrom . import no_such\nfrom .... import far\nfrom .no.such import x", []),
    ],
)
def test_every_form_of_import(tmp_path: Path, text: str, reached: list[str]) -> None:
    found = of(tmp_path, text, NEAR | DEEP)
    assert (others(found), found.everything) == (reached, "")


def test_what_lies_above_the_tree_is_not_of_it(tmp_path: Path) -> None:
    write(tmp_path, {"far.py": ""})
    assert of(tmp_path / "tree", "from ... import far").files == ("layers/a.py",)


def test_imports_are_followed_further_and_in_circles(tmp_path: Path) -> None:
    circle = {"layers/b.py": "from .c import x\nfrom . import a", "layers/c.py": "from . import b, a", "layers/d.py": ""}
    assert of(tmp_path, "from . import b", circle).files == ("layers/a.py", "layers/b.py", "layers/c.py")


def test_a_star_takes_the_modules_that_the_package_lists(tmp_path: Path) -> None:
    package = {"kernels/__init__.py": "__all__ = ['fast']\n__all__ += ['gone']", "kernels/fast.py": "", "kernels/slow.py": ""}
    assert others(of(tmp_path, "from ..kernels import *", package)) == ["kernels/__init__.py", "kernels/fast.py"]


@pytest.mark.parametrize("folder", ["", "src/"])
def test_packages_of_the_tree_are_found_by_their_name(tmp_path: Path, folder: str) -> None:
    package = {"mine/__init__.py": "from .deep import thing", "mine/deep/__init__.py": "", "mine/deep/thing.py": "", "mine/ops.py": ""}
    found = of(tmp_path, "from mine.deep import thing", {folder + name: text for name, text in package.items()})
    assert others(found) == [folder + name for name in ("mine/__init__.py", "mine/deep/__init__.py", "mine/deep/thing.py")]
    assert found.absolute == ("mine", "mine.deep", "mine.deep.thing")


def test_a_package_that_is_installed_from_the_tree_is_found_in_both_copies_and_none_of_it_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = {"layers/a.py": "import toy_package.ops", "python/toy_package/__init__.py": "raise SystemExit('was run')"}
    head = write(tmp_path / "head", package | {"python/toy_package/ops.py": "x = 1"})
    base = write(tmp_path / "base", package | {"python/toy_package/ops.py": "x = 2"})
    monkeypatch.syspath_prepend(head / "python")
    found = [closure(root, working=head) for root in (base, head)]
    assert [each.files for each in found] == [("layers/a.py", "python/toy_package/__init__.py", "python/toy_package/ops.py")] * 2
    assert [each.absolute for each in found] == [("toy_package", "toy_package.ops")] * 2
    assert changed(*found)
    assert "toy_package" not in sys.modules


@pytest.mark.parametrize("inside", [".venv/lib/site-packages", ".nox/x", "env/lib/python3.11/site-packages"])
def test_what_is_installed_in_an_environment_inside_the_tree_is_not_the_trees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str
) -> None:
    write(tmp_path, {f"{inside}/toy_installed/__init__.py": ""})
    monkeypatch.syspath_prepend(tmp_path / inside)
    assert of(tmp_path, "import toy_installed, torch").files == ("layers/a.py",)


def test_a_folder_without_init_counts_unless_python_finds_the_name_elsewhere(tmp_path: Path) -> None:
    plain = {"kernels_of_mine/fast.py": "", "msgspec/fast.py": "", "json/fast.py": "", "json/__init__.py": ""}
    found = of(tmp_path, "from kernels_of_mine import fast\nfrom msgspec import fast\nfrom json import fast", plain)
    assert (others(found), found.absolute) == (["kernels_of_mine/fast.py"], ("kernels_of_mine.fast",))


def test_the_harness_is_no_part_of_a_layer(tmp_path: Path) -> None:
    harness = {"bench/__init__.py": "", "bench/declare.py": "", "bench/other.py": ""}
    text = HARNESS + "from ..bench.declare import x\nimport layerbench.bench.other\nimport bench\n"
    assert of(tmp_path, text, harness) == of(tmp_path, text, {"bench/declare.py": "y = 1"})
    assert of(tmp_path, text).files == ("layers/a.py",)


def test_a_bench_of_the_users_own_is(tmp_path: Path) -> None:
    assert others(of(tmp_path, "from ..bench.tools import x", {"bench/tools.py": ""})) == ["bench/tools.py"]


def test_the_layers_of_this_repository_reach_their_kernels_and_could_live_beside_a_copy() -> None:
    found = closures(ROOT, sorted((ROOT / "layers").glob("*.py")), ROOT)
    assert {file.name: each for file, each in found.items() if each.absolute or each.everything} == {}
    assert found[ROOT / "layers" / "softmax.py"].files == ("kernels/softmax.py", "layers/softmax.py")
    kernels = tuple(f"kernels/{name}.py" for name in ("conv2d", "conv2d_tiles", "matmul", "maxpool2d"))
    layers = ("layers/_autograd.py", "layers/conv2d.py", "layers/convnet.py")
    assert found[ROOT / "layers" / "convnet.py"].files == (*kernels, *layers)


def test_a_copy_of_this_repository_is_seen_through_the_installed_names(tmp_path: Path) -> None:
    text = "import layerbench.bench.declare\nfrom layerbench.kernels.softmax import softmax\nfrom layerbench import kernels"
    copy = write(tmp_path, {"bench/declare.py": "", "kernels/softmax.py": "", "layers/a.py": text, "examples/suite/a.py": text})
    for layer in ("layers/a.py", "examples/suite/a.py"):
        found = closure(copy, layer, working=ROOT)
        assert (set(found.files), found.absolute) == ({"kernels/softmax.py", layer}, ("layerbench.kernels.softmax",))


# Which edits change it.

KERNEL = '"""Fast."""\n\ndef f(x):\n    """Twice."""\n    # shift\n    return x + x\n'
LAYER = '"""A layer."""\nfrom ..kernels.fast import f\n\n\nclass A:\n    """Calls f."""\n\n    y = "text"\n'


@pytest.mark.parametrize(
    ("old", "new"),
    [("# shift", "# add\n"), ("Fast.", "Quick."), ("Twice.", "Two times."), ("x + x", "(x   +\n        x)"), ("def f(x)", "def f(x,)")],
)
def test_comments_docstrings_and_formatting_change_nothing(tmp_path: Path, old: str, new: str) -> None:
    assert KERNEL.replace(old, new) != KERNEL
    before = {"layers/a.py": LAYER, "kernels/fast.py": KERNEL}
    assert not differs(tmp_path, before, {"kernels/fast.py": KERNEL.replace(old, new)})


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("kernels/fast.py", "x + x", "x * 2"),
        ("layers/a.py", '"text"', '"test"'),
        ("layers/a.py", '"text"', 'b"text"'),
        ("layers/a.py", "y = ", "z = "),
        ("layers/a.py", "    y = ", "y = "),
    ],
)
def test_code_changes_it(tmp_path: Path, file: str, old: str, new: str) -> None:
    files = {"layers/a.py": LAYER, "kernels/fast.py": KERNEL}
    assert differs(tmp_path, files, {file: files[file].replace(old, new)})


def test_a_kernel_changes_the_layers_that_import_it_and_no_other(tmp_path: Path) -> None:
    lazily = "class B:\n    def forward(self):\n        from ..kernels.fast import f\n"
    files = {"layers/a.py": LAYER, "layers/b.py": lazily, "layers/c.py": "from . import d", "layers/d.py": "", "kernels/fast.py": KERNEL}
    names = [tmp_path / f"layers/{name}.py" for name in "abcd"]
    before = closures(write(tmp_path, files), names, tmp_path)
    after = closures(write(tmp_path, {"kernels/fast.py": "def f(x): return 2 * x"}), names, tmp_path)
    assert [changed(before[name], after[name]) for name in names] == [True, True, False, False]


def test_a_layer_that_moved_is_the_same_and_one_whose_kernel_was_renamed_is_not(tmp_path: Path) -> None:
    base = closure(write(tmp_path / "base", {"layers/a.py": LAYER, "kernels/fast.py": KERNEL}))
    moved = closure(write(tmp_path / "moved", {"suite/z.py": LAYER, "kernels/fast.py": KERNEL}), "suite/z.py")
    renamed = closure(write(tmp_path / "renamed", {"layers/a.py": LAYER.replace("fast", "quick"), "kernels/quick.py": KERNEL}))
    assert (changed(base, moved), changed(base, renamed)) == (False, True)


def test_two_kernels_that_change_places_change_the_layer(tmp_path: Path) -> None:
    text = "from ..kernels.one import f\nfrom ..kernels.two import g\n"
    before = {"layers/a.py": text, "kernels/one.py": "x = 1", "kernels/two.py": "x = 2"}
    assert differs(tmp_path, before, {"kernels/one.py": "x = 2", "kernels/two.py": "x = 1"})


@pytest.mark.parametrize("reading", ["assert A.__doc__", "import inspect\nsource = inspect.getsource(A)"])
def test_a_file_that_reads_its_own_text_counts_to_the_letter(tmp_path: Path, reading: str) -> None:
    text = f'class A:\n    """Once."""\n\n{reading}\n'
    assert differs(tmp_path, {"layers/a.py": text}, {"layers/a.py": text.replace("Once", "Twice")})


@pytest.mark.parametrize("broken", ["def f(:", "x = 1\0", "\udcff"], ids=["syntax", "null byte", "encoding"])
def test_a_file_that_python_cannot_parse_counts_as_it_is(tmp_path: Path, broken: str) -> None:
    write(tmp_path, {"layers/a.py": "from . import b", "layers/c.py": ""})
    digests = set()
    for end in ("", "# another"):
        (tmp_path / "layers/b.py").write_text(f"from . import c\n{broken}{end}", encoding="utf-8", errors="surrogateescape")
        found = closure(tmp_path)
        assert found.files == ("layers/a.py", "layers/b.py")
        digests.add(found.digest)
    assert len(digests) == 2


@pytest.mark.parametrize("terms", [1500, 5000])
def test_a_sum_of_many_terms_counts_too(tmp_path: Path, terms: int) -> None:
    text = "x = " + "\\\n + ".join(["y"] * terms) + "\n"
    assert differs(tmp_path, {"layers/a.py": text}, {"layers/a.py": text.replace("y\n", "z\n")})


def test_warnings_about_somebodys_text_are_not_ours(tmp_path: Path) -> None:
    text = "from . import b\npattern = '\\d'\n"
    assert others(of(tmp_path, text, {"layers/b.py": ""})) == ["layers/b.py"]  # here a warning would be an error


# What cannot be followed, what is loaded, what is shared.

TREE = {
    "tool.py": "",
    "layers/b.py": "",
    "bench/declare.py": "",
    ".hidden/x.py": "",
    "env/pyvenv.cfg": "",
    "env/x.py": "",
    "node_modules/x.py": "",
    "x.txt": "",
}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import importlib\n\nx = importlib.import_module('kernels.' + name)", "line 3, calls importlib.import_module"),
        ("from importlib import import_module as load\nload(f'{name}')", "line 2, calls importlib.import_module"),
        ("import importlib.util as u\nu.spec_from_file_location('x', 'tool.py')", "line 2, calls importlib.util.spec_from_file_location"),
        ("__import__(name)", "line 1, calls __import__"),
        ("__import__('b', globals())", "line 1, calls __import__"),
        ("__import__('b', level=1)", "line 1, calls __import__"),
        ("import importlib\nimportlib.import_module('.b')", "line 2, calls importlib.import_module"),
        ("def f():\n    exec(open('tool.py').read())", "line 2, calls exec"),
        ("x = eval(text)", "line 1, calls eval"),
        ("import runpy\nrunpy.run_path('tool.py')", "line 2, calls runpy.run_path"),
        ("import sys\nsys.path.insert(0, '..')", "line 2, uses sys.path"),
        ("from sys import path", "line 1, uses sys.path"),
    ],
)
def test_where_imports_cannot_be_followed_all_python_files_count(tmp_path: Path, text: str, why: str) -> None:
    found = of(tmp_path, "from . import c", TREE | {"layers/c.py": text})
    assert found.files == ("layers/a.py", "layers/b.py", "layers/c.py", "tool.py")
    assert found.everything == f"layers/c.py, {why}"
    assert changed(found, of(tmp_path, "from . import c", {"tool.py": "x = 1"}))


@pytest.mark.parametrize("text", ["model.eval()", "import re\nre.compile('x')", "import os\nos.path.join('a')", "def exec_(): pass"])
def test_what_only_looks_like_it_does_not(tmp_path: Path, text: str) -> None:
    assert of(tmp_path, text, TREE).everything == ""


def test_data_and_sources_beside_the_code_count(tmp_path: Path) -> None:
    beside = {f"kernels/x{suffix}": "" for suffix in (".cu", ".cuh", ".cpp", ".h", ".json", ".toml", ".npy", ".safetensors")}
    elsewhere = {"kernels/x.txt": "", "kernels/x.pyi": "", "kernels/sub/x.cu": "", "results/x.json": ""}
    found = of(tmp_path, "from ..kernels import fast", {"kernels/fast.py": "", **beside, **elsewhere})
    assert others(found) == sorted(["kernels/fast.py", *beside])
    assert changed(found, of(tmp_path, "from ..kernels import fast", {"kernels/x.cu": "// a comment counts here"}))


@pytest.mark.parametrize("named", ["'csrc/scale.cu'", "here / 'csrc' / 'scale.cu'", "f'csrc/{name}.cu'", "glob('csrc/*.cu')"])
def test_so_do_those_that_the_code_names_wherever_they_lie(tmp_path: Path, named: str) -> None:
    files = {"csrc/scale.cu": "", "csrc/scale.cuh": "", "csrc/notes.txt": "", "other/scale.cpp": ""}
    assert others(of(tmp_path, f'"""Not csrc/scale.cpp, or\nscale.cpp"""\nload({named})', files)) == ["csrc/scale.cu", "csrc/scale.cuh"]


@pytest.mark.parametrize(
    ("text", "shared"),
    [
        ("import common", ()),  # mounting keeps these apart
        ("from . import lazy", ()),
        ("def forward():\n    if True:\n        import common", ("common",)),
        ("def forward():\n    from . import further", ("common",)),
        ("def forward():\n    from . import lazy", ("common",)),  # lazy imports it, and only then
        ("import lazy\ndef forward():\n    from .lazy import x", ("common",)),
        ("import package", ("package",)),  # of these mounting knows nothing
    ],
)
def test_what_two_copies_of_a_tree_would_share(tmp_path: Path, text: str, shared: tuple[str, ...]) -> None:
    files = {
        "layers/common.py": "",
        "layers/lazy.py": "import common",
        "layers/further.py": "from . import lazy",
        "layers/package/__init__.py": "",
    }
    assert of(tmp_path, text, files).absolute == shared


def test_a_copy_that_is_installed_elsewhere_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python would run the copy on both sides, and no change of the tree's would be seen."""
    text = "from mine.ops import f\nclass A:\n    def forward(self):\n        import common"
    root = write(tmp_path / "tree", {"src/mine/__init__.py": "", "src/mine/ops.py": "", "layers/common.py": "", "layers/a.py": text})
    copy = write(tmp_path / "site", {"mine/__init__.py": "", "mine/ops.py": "", "common.py": ""})
    code = closure(root)
    assert code.absolute == ("common", "mine", "mine.ops")
    assert elsewhere(code, root / "layers/a.py", root) is None  # it is installed nowhere
    monkeypatch.syspath_prepend(str(copy))
    assert elsewhere(code, root / "layers/a.py", root) == ("mine", copy / "mine")  # what lies beside the layer comes first
    monkeypatch.syspath_prepend(str(root / "src"))
    assert elsewhere(code, root / "layers/a.py", root) is None


BELOW = "services/model/pkg"  # three folders down


@pytest.mark.parametrize(
    ("tree", "site", "found"),
    [
        ({f"{BELOW}/mine/__init__.py": "VERSION = 1", f"{BELOW}/mine/ops.py": "x = 1"}, {"mine/__init__.py": "VERSION = 1"}, True),
        ({f"{BELOW}/mine/__init__.py": "VERSION = 1", f"{BELOW}/mine/ops.py": "x = 1"}, {"mine/__init__.py": "import other"}, False),
        (
            {f"{BELOW}/mine/__init__.py": "", f"{BELOW}/pyproject.toml": '[project]\nname = "Mine_Kernels"\n'},
            {"mine/__init__.py": "x = 1"},
            True,
        ),
        (
            {f"{BELOW}/mine/__init__.py": "", f"{BELOW}/pyproject.toml": '[project]\nname = "another"\n'},
            {"mine/__init__.py": "x = 1"},
            False,
        ),
    ],
    ids=["the same beginning", "another package of that name", "a project of that name", "another project"],
)
def test_a_copy_of_what_lies_deep_in_the_tree_is_told(
    tree: dict[str, str], site: dict[str, str], found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package was installed as a copy from a project somewhere below: what the copy runs, no change of the source reaches."""
    root = write(tmp_path / "tree", {**tree, f"{BELOW}/bench/layers/a.py": "from mine import ops"})
    copy = write(tmp_path / "site", {**site, "mine/ops.py": "", "mine_kernels-1.dist-info/METADATA": "Name: mine-kernels\nVersion: 1\n"})
    write(copy, {"mine_kernels-1.dist-info/top_level.txt": "mine\n"})
    monkeypatch.syspath_prepend(str(copy))
    copies._distributions.cache_clear()
    layer = root / BELOW / "bench/layers/a.py"
    code = closures(root, [layer], root)[layer]
    copies._distributions.cache_clear()
    begins = any(path.endswith("__init__.py") for path in tree)  # else projects may share the name, and the next one counts
    told = ("mine", copy / "mine") if begins else ("mine.ops", copy / "mine/ops.py")
    assert elsewhere(code, layer, root) == (told if found else None)
    if found:
        project = BELOW if f"{BELOW}/pyproject.toml" in tree else "."
        assert copies.project(root, code.files, told[0].split(".")[-1]) == project


MODERN = '[project]\nname = "mine-kernels"\n'


@pytest.mark.parametrize(
    ("project", "text", "folder"),
    [
        ("setup.py", 'from setuptools import setup\nsetup(name="mine-kernels")\n', "src/mine"),
        ("setup.py", 'from setuptools import setup\nNAME = "mine_kernels"\nsetup(name=NAME)\n', "src/mine"),
        ("setup.cfg", "[metadata]\nname = Mine.Kernels\n", "src/mine"),
        ("pyproject.toml", '[tool.poetry]\nname = "mine-kernels"\n', "src/mine"),
        ("pyproject.toml", MODERN, "lib/stuff"),
        ("pyproject.toml", MODERN, "src/without_init/mine"),
    ],
    ids=["setup.py", "a name in a variable", "setup.cfg", "poetry", "a folder of another name", "no __init__.py"],
)
def test_whatever_a_project_calls_itself_in_and_its_folder_the_copy_of_it_is_told(
    project: str, text: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy begins with another file than the source, so only the project's name says that it is one."""
    begin = {} if "without_init" in folder else {f"{BELOW}/{folder}/__init__.py": "VERSION = 2"}
    files = {f"{BELOW}/{project}": text, f"{BELOW}/{folder}/ops.py": "x = 2", f"{BELOW}/other/__init__.py": "", **begin}
    root = write(tmp_path / "tree", {**files, "bench/layers/a.py": "from mine import ops", "pyproject.toml": '[project]\nname = "all"\n'})
    there = {"mine/ops.py": "x = 1"} | ({"mine/__init__.py": "VERSION = 1"} if begin else {})
    copy = write(tmp_path / "site", {**there, "mine_kernels-1.dist-info/METADATA": "Name: mine-kernels\nVersion: 1\n"})
    write(copy, {"mine_kernels-1.dist-info/top_level.txt": "mine\n"})
    monkeypatch.syspath_prepend(str(copy))
    copies._distributions.cache_clear()
    layer = root / "bench/layers/a.py"
    code = closures(root, [layer], root)[layer]
    assert f"{BELOW}/{folder}/ops.py" in code.files
    assert elsewhere(code, layer, root) == (("mine", copy / "mine") if begin else ("mine.ops", copy / "mine/ops.py"))
    assert copies.project(root, code.files, "mine" if begin else "ops") == BELOW
    write(root, {f"{BELOW}/{project}": text.replace("ine", "eta")})
    copies._names.cache_clear()
    assert closures(root, [layer], root)[layer].files == ("bench/layers/a.py",)
    copies._distributions.cache_clear()


def test_of_two_projects_that_share_a_name_each_is_looked_up_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As company.one, installed in editable form, and company.two, installed as a copy."""
    trees = {name: f"libs/{name}/src/company/{name}" for name in ("one", "two")}
    files = {f"{folder}/__init__.py": "" for folder in trees.values()} | {f"{folder}/ops.py": "x = 1" for folder in trees.values()}
    projects = {f"libs/{name}/pyproject.toml": f'[project]\nname = "company-{name}"\n' for name in trees}
    text = "import company.one.ops\nfrom company.two.ops import x"
    root = write(tmp_path / "tree", {**files, **projects, "layers/a.py": text})
    copy = write(tmp_path / "site", {"company/two/__init__.py": "", "company/two/ops.py": "x = 1"})
    for name in trees:
        about = {"METADATA": f"Name: company-{name}\nVersion: 1\n", "top_level.txt": "company\n"}
        write(copy, {f"company_{name}-1.dist-info/{file}": words for file, words in about.items()})
    monkeypatch.syspath_prepend(str(copy))
    monkeypatch.syspath_prepend(str(root / "libs/one/src"))
    copies._distributions.cache_clear()
    code = closure(root)
    assert {f"{folder}/ops.py" for folder in trees.values()} < set(code.files)
    assert elsewhere(code, root / "layers/a.py", root) == ("company.two", copy / "company/two")
    assert copies.project(root, code.files, "two") == "libs/two"
    monkeypatch.syspath_prepend(str(root / "libs/two/src"))
    assert elsewhere(code, root / "layers/a.py", root) is None
    copies._distributions.cache_clear()


def test_the_sentence_names_the_install_that_mends_it_from_where_the_user_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(tmp_path, monkeypatch)
    package = {"pyproject.toml": MODERN, "src/mine/__init__.py": "", "src/mine/ops.py": "x = 1"}
    files = {f"{BELOW}/{name}": text for name, text in package.items()} | {"suites/fast/a.py": "from mine.ops import x"}
    root = make(tmp_path / "a tree", files)
    about = {"METADATA": "Name: mine-kernels\nVersion: 1\n", "top_level.txt": "mine\n"}
    site = write(tmp_path / "site", {"mine/__init__.py": "", "mine/ops.py": "x = 1"})
    write(site, {f"mine_kernels-1.dist-info/{name}": text for name, text in about.items()})
    write(root, {f"{BELOW}/src/mine/ops.py": "x = 2"})
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    words = [sys.executable, "-m", "layerbench.bench", "check", "--against", "main", "--suite", "fast", "--out", str(tmp_path)]
    done = subprocess.run(words, cwd=root / "suites", capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert f"a.py imports mine, which this Python takes from {site / 'mine'}" in done.stderr
    assert done.stderr.strip().endswith(f"python -m pip install --editable ../{BELOW}")
