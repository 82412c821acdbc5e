"""Suites mounted by path: what a layer file may import, which mistakes it may hold, and what is known of it without building it."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerbench import bench
from layerbench.bench import law
from layerbench.bench.data.record import LayerFacts, VariantFacts
from layerbench.bench.declare.mistake import Mistake
from layerbench.bench.suite import identity
from layerbench.bench.suite.mount import DEFAULT, locate, mount


@pytest.fixture(autouse=True)
def _as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The test stands in an empty folder; what it mounts is forgotten afterwards."""
    modules, paths = set(sys.modules), list(sys.path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield
    sys.path[:] = paths
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    importlib.invalidate_caches()


def layer(name: str, start: str = "from layerbench.bench import Layer, Variant", module: str = "dict") -> str:
    return f'{start}\n\n{name} = Layer("{name}", {{"n": (1,)}}, (), lambda module, size: None, {{"stock": Variant({module})}})\n'


def put(path: str, text: str) -> Path:
    file = Path.cwd() / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def refusal(suite: str) -> str:
    with pytest.raises(Mistake) as caught:
        mount(suite)
    return str(caught.value)


def names(suite: str) -> list[str]:
    return [declared.layer.name for declared in mount(suite)]


def test_a_folder_gives_the_layers_of_its_files_in_their_order_but_not_of_private_ones() -> None:
    put("suite/softmax.py", layer("softmax"))
    put("suite/gelu.py", layer("gelu") + layer("gelu_tanh", ""))
    put("suite/_common.py", layer("hidden"))
    put("suite/notes.txt", "not Python")
    assert names("suite") == ["gelu", "gelu_tanh", "softmax"]


def test_a_single_file_gives_its_layers_alone() -> None:
    put("suite/softmax.py", layer("softmax"))
    put("suite/gelu.py", layer("gelu"))
    assert names("suite/gelu.py") == ["gelu"]


def test_the_installed_suite_is_found_by_its_name() -> None:
    assert locate(DEFAULT).resolve() == (Path(bench.__file__).parents[1] / "layers").resolve()


def test_both_ways_to_import_the_harness_give_the_running_one() -> None:
    put("mine/layers/near.py", layer("near", "from ..bench import Layer, Variant"))
    put("mine/layers/far.py", layer("far"))
    assert [type(declared.layer) for declared in mount("mine/layers")] == [bench.Layer, bench.Layer]


def test_a_copy_of_the_repository_uses_the_running_harness_too() -> None:
    put("copy/bench/__init__.py", "raise ImportError('the copy was imported')")
    put("copy/bench/declare.py", "")
    put("copy/layers/gelu.py", layer("gelu", "from ..bench import Layer, Variant"))
    assert type(mount("copy/layers")[0].layer) is bench.Layer


def test_siblings_and_neighbours_are_imported_relatively_or_by_their_name() -> None:
    put("mine/layers/_common.py", "class Module: pass")
    put("mine/layers/shapes_of_mine.py", "class Module: pass")
    put("mine/kernels/fast.py", "class Module: pass")
    start = "from layerbench.bench import Layer, Variant\n"
    put("mine/layers/a.py", layer("a", start + "from ._common import Module", "Module"))
    put("mine/layers/b.py", layer("b", start + "from shapes_of_mine import Module", "Module"))
    put("mine/layers/c.py", layer("c", start + "from ..kernels.fast import Module", "Module"))
    modules = [declared.layer.variants["stock"].module for declared in mount("mine/layers")]
    assert [module.__name__ for module in modules] == ["Module"] * 3
    assert [module.__module__.rpartition(".")[2] for module in modules] == ["_common", "shapes_of_mine", "fast"]


def test_a_layer_imported_by_another_file_belongs_to_the_file_that_declares_it() -> None:
    put("suite/all_of_them.py", '"""Not here."""\n\nfrom .softmax import softmax\n')
    put("suite/softmax.py", '"""Here."""\n' + layer("softmax"))
    facts = [declared.facts for declared in mount("suite")]
    assert [(each.name, each.file, each.line, each.about) for each in facts] == [("softmax", "suite/softmax.py", 4, "Here.")]


def test_beside_their_own_bench_a_users_import_bench_is_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    put("project/bench/__init__.py", "WHOSE = 'theirs'")
    start = "import bench\nfrom ..bench import WHOSE\nfrom layerbench.bench import Layer, Variant\nassert bench.WHOSE == WHOSE == 'theirs'"
    put("project/layers/gelu.py", layer("gelu", start))
    monkeypatch.syspath_prepend(str(Path.cwd() / "project"))
    monkeypatch.delitem(sys.modules, "bench", raising=False)
    assert names("project/layers") == ["gelu"]
    assert sys.modules["bench"].__file__ == str(Path.cwd() / "project/bench/__init__.py")
    assert sys.modules["layerbench.bench"] is bench


def test_two_copies_of_one_tree_stay_apart_side_by_side() -> None:
    for copy in ("old", "new"):
        put(f"{copy}/layers/plain_neighbour.py", f"def module(): return '{copy} by name'")
        put(f"{copy}/layers/_near.py", f"def module(): return '{copy} relatively'")
        put(f"{copy}/kernels/fast.py", f"def module(): return '{copy} kernel'")
        start = (
            "from ..bench import Layer, Variant\nfrom ._near import module as near\n"
            "from plain_neighbour import module as plain\nfrom ..kernels.fast import module as fast"
        )
        variants = '{"stock": Variant(near), "plain": Variant(plain), "fast": Variant(fast)}'
        put(f"{copy}/layers/gelu.py", f'{start}\n\ngelu = Layer("gelu", {{"n": (1,)}}, (), lambda module, size: module(), {variants})\n')
    old, new = mount("old/layers")[0].layer, mount("new/layers")[0].layer
    assert [variant.module() for variant in old.variants.values()] == ["old relatively", "old by name", "old kernel"]
    assert [variant.module() for variant in new.variants.values()] == ["new relatively", "new by name", "new kernel"]


def test_mounting_twice_gives_the_same_values() -> None:
    put("suite/gelu.py", layer("gelu"))
    assert mount("suite")[0].layer is mount("suite")[0].layer is mount("suite/gelu.py")[0].layer


def test_the_facts_of_a_layer() -> None:
    put(
        "suite/linear.py",
        '''"""y = x W + b, stated once.

More about it.
"""

from layerbench.bench import GPU, Layer, Variant, randn

NAMES = ["linear"]

linear = Layer(
    "linear",
    sweep={"batch": [1, 8], "width": (64,)},
    inputs=(randn("batch", "width"),),
    build=lambda module, size: module(),
    variants={"stock": Variant(dict), "triton": Variant(dict, devices=GPU), "compile": Variant(dict, compile=True)},
    absent={"function": "the same as stock"},
    gpu_sweep={"batch": [8, 4096]},
)
computed = Layer("lin" + "ear2", {"n": (1,)}, (), lambda module, size: module(), {"stock": Variant(dict)})
named = Layer(name="named", sweep={"n": (1,)}, inputs=(), build=lambda module, size: module(), variants={"stock": Variant(dict)})
''',
    )
    linear, computed, named = (declared.facts for declared in mount("suite"))
    assert linear == LayerFacts(
        name="linear",
        about="y = x W + b, stated once.",
        file="suite/linear.py",
        line=10,
        sweep={"batch": (1, 8), "width": (64,)},
        variants=(VariantFacts("stock", False, "any"), VariantFacts("triton", False, "gpu"), VariantFacts("compile", True, "any")),
        absent={"function": "the same as stock"},
        gpu_sweep={"batch": (8, 4096)},
    )
    assert (computed.name, computed.line) == ("linear2", 1)
    assert (named.name, named.line) == ("named", 20)


def test_a_file_outside_the_current_folder_is_shown_by_its_whole_path(monkeypatch: pytest.MonkeyPatch) -> None:
    file = put("suite/gelu.py", layer("gelu"))
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert mount("../suite")[0].facts.file == str(file)


def test_a_file_that_changes_the_working_directory_leaves_it_as_it_was() -> None:
    here = Path.cwd()
    put("wanders.py", "import os\nos.chdir('/')\n" + layer("wanders"))
    (declared,) = mount("wanders.py")
    assert (declared.facts.file, Path.cwd()) == ("wanders.py", here)


def test_a_path_that_is_no_suite() -> None:
    put("notes.txt", "")
    assert refusal("suit") == "--suite suit: there is no such file or folder; give a folder of layer files, or one file"
    assert refusal("notes.txt") == ("--suite notes.txt: not a Python file; give a folder of layer files, or one file that ends in .py")


def test_no_layer_at_all() -> None:
    put("suite/gelu.py", "x = 1")
    advice = 'no Layer found; write at module level for example  softmax = Layer("softmax", ...)'
    assert refusal("suite") == f"suite: {advice}"
    assert refusal("suite/gelu.py") == f"suite/gelu.py: {advice}"


@pytest.mark.parametrize("holder", ["[{}]", "({},)", "{{'a': {}}}"])
def test_a_layer_that_only_a_list_holds_is_told_and_one_with_a_name_too_is_not(holder: str) -> None:
    one = layer("gelu").strip().rpartition("gelu = ")[2]
    start = "from layerbench.bench import Layer, Variant\n"
    put("suite/a.py", f"{start}ALL = {holder.format(one)}\n")
    assert refusal("suite") == "suite/a.py: ALL holds layer 'gelu', which has no name at module level; write  gelu = Layer(...)"
    put("other/a.py", f"{start}gelu = {one}\nALL = {holder.format('gelu')}\n")
    assert names("other") == ["gelu"]


UNNAMED = "which has no name at module level; write"


def test_a_layer_that_nothing_names_is_not_passed_over_beside_others() -> None:
    put("list.py", layer("gelu") + layer("silu", "").replace("silu =", "ALL =").replace("= Layer", "= {'of': [Layer").rstrip() + "]}\n")
    assert refusal("list.py") == f"list.py: ALL holds layer 'silu', {UNNAMED}  silu = Layer(...)"
    put("bare.py", layer("gelu") + layer("silu", "").replace("silu = ", ""))
    assert refusal("bare.py") == f"bare.py, line 6: nothing keeps layer 'silu', {UNNAMED}  silu = Layer(...)"
    put("twice.py", layer("gelu") + layer("silu", "").replace("silu =", "gelu ="))
    assert refusal("twice.py") == f"twice.py, line 3: nothing keeps layer 'gelu', {UNNAMED}  gelu = Layer(...)"


def test_a_list_of_layers_that_have_their_names_in_other_files_is_only_a_list() -> None:
    put("suite/gelu.py", layer("gelu"))
    put("suite/lists.py", "from . import gelu\nALL = [gelu.gelu]\n")
    assert names("suite") == ["gelu"]


def test_in_a_check_an_unnamed_layer_leaves_the_others_in() -> None:
    put("suite/gelu.py", layer("gelu") + "\n" + layer("silu", "").replace("silu = ", ""))
    broken: dict[Path, str] = {}
    assert [each.layer.name for each in mount("suite", broken)] == ["gelu"]
    assert list(broken) == [Path.cwd() / "suite/gelu.py"]
    assert "nothing keeps layer 'silu'" in broken[Path.cwd() / "suite/gelu.py"]


def test_one_name_in_two_files() -> None:
    put("suite/a.py", layer("gelu"))
    put("suite/b.py", layer("gelu"))
    assert refusal("suite") == "suite/b.py: layer 'gelu' is also in suite/a.py; give one of them another name"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\ny = (\n", "suite/gelu.py, line 2: '(' was never closed; fix it and run again"),
        ("x = 1\n\0", "suite/gelu.py: source code string cannot contain null bytes; fix it and run again"),
        (
            "x = 1\nimport no_such_module_anywhere\n",
            "suite/gelu.py, line 2: the file does not import: ModuleNotFoundError: No module named 'no_such_module_anywhere'; "
            "fix it, or name another --suite",
        ),
        (
            "def f():\n    return 1 / 0\n\nf()\n",
            "suite/gelu.py, line 2: the file does not import: ZeroDivisionError: division by zero; fix it, or name another --suite",
        ),
        (
            "import sys\nsys.exit('wants --arguments')\n",
            "suite/gelu.py, line 2: the file does not import: SystemExit: wants --arguments; fix it, or name another --suite",
        ),
        (
            "from layerbench.bench import Layer, Variant, randn\n"
            "Layer('gelu', {'width': (1,)}, (randn('widht'),), None, {'stock': Variant(dict)})\n",
            "suite/gelu.py: input dimension 'widht' is not in sweep; it has width",
        ),
    ],
    ids=["syntax", "null byte", "import", "exception", "exit", "mistake"],
)
def test_a_file_that_does_not_import(text: str, said: str) -> None:
    before = set(sys.modules)
    put("suite/gelu.py", text)
    assert refusal("suite") == said
    assert not [name for name in set(sys.modules) - before if name.endswith(".suite.gelu")]  # fixed, it can be mounted again


def test_a_broken_sibling_is_named_where_its_syntax_is_wrong() -> None:
    put("suite/_common.py", "x = 1\n\ny = )\n")
    put("suite/gelu.py", "from ._common import x\n")
    assert refusal("suite") == "suite/_common.py, line 3: unmatched ')'; fix it and run again"


def test_a_layer_of_another_copy_of_the_harness() -> None:
    put("suite/gelu.py", "class Layer: pass\nLayer.__module__ = 'bench.declare'\ngelu = Layer()\n")
    assert refusal("suite") == (
        "suite/gelu.py: gelu was made by another copy of layerbench; import it as  from layerbench.bench import Layer"
    )


@pytest.mark.parametrize(
    ("start", "encoding"), [("# coding: latin-1\n# Maßstab", "latin-1"), ("", "utf-8-sig")], ids=["Latin-1", "byte order mark"]
)
def test_a_file_in_another_encoding_that_python_can_read(start: str, encoding: str) -> None:
    file = put("layers/a.py", "")
    file.write_bytes(f"{start}\n{layer('fine')}".encode(encoding))
    (declared,) = mount("layers")
    assert (declared.facts.name, declared.facts.line) == ("fine", 3 + start.count("\n") + 1)


def test_what_a_suite_imports_of_the_harness_is_the_harness_itself() -> None:
    """A copy would have a Mistake of its own, which nobody expects."""
    put("suite/noisy.py", "from ..bench import law\nfrom ..bench.law import dropout\nassert law.dropout is dropout\ndropout(2)\n")
    assert refusal("suite").startswith("suite/noisy.py: law.dropout: probability is 2; write the share that is dropped")
    assert law.__name__ == "layerbench.bench.law"


def test_the_installed_suite_is_found_where_it_lies_though_it_is_reached_by_a_symbolic_link(monkeypatch: pytest.MonkeyPatch) -> None:
    real = locate(DEFAULT)
    Path("clone").symlink_to(real.parent)
    monkeypatch.setattr(importlib.import_module(DEFAULT), "__path__", [str(Path.cwd() / "clone" / "layers")])
    assert locate(DEFAULT) == real


def test_code_that_cannot_be_read_has_no_digest_and_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    put("suite/gelu.py", layer("gelu"))
    (declared,) = mount("suite")
    placed = [(declared.file, declared.facts)]
    assert identity.identified(placed)[0].digest

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(identity, "closures", refused)
    assert identity.identified(placed) == (declared.facts,)


def test_a_link_that_leads_nowhere_is_no_code() -> None:
    put("suite/gelu.py", layer("gelu") + "exec('x = 1')\n")  # everything in the folder counts then
    Path("suite/.#gelu.py").symlink_to("nowhere")
    Path("suite/old.py").symlink_to("nowhere")
    (declared,) = (each for each in mount("suite/gelu.py"))
    assert identity.identified([(declared.file, declared.facts)])[0].digest
