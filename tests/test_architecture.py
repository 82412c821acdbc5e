"""The rules of docs/architecture.md that a reader of the imports can check."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("bench", "layers", "kernels")
HEAVY = {"torch", "triton"}  # slow to import, and not needed to read a run

DOC = ROOT / "docs" / "architecture.md"

# Which folder of bench/ may import from which, itself aside.  docs/architecture.md has the same table, with the job of each folder.
# Modules that lie in bench/ itself stand here by their own names: they are the doors of the house.
MAY_IMPORT = {
    "declare": "",
    "data": "",
    "stats": "",
    "law": "declare",
    "machine": "data declare",
    "suite": "data declare",
    "text": "data",
    "timing": "data machine stats",
    "plan": "data declare text",
    "process": "data declare suite",
    "analysis": "data declare plan stats",
    "subject": "declare machine plan timing",
    "storage": "analysis data declare text",
    "check": "analysis data declare machine plan process stats storage suite",
    "equivalence": "data declare law subject",
    "profiling": "data declare subject timing",
    "terminal": "analysis data declare text",
    "cell": "data declare equivalence machine plan process profiling subject suite timing",
    "pytest_face": "cell data declare equivalence machine plan profiling subject suite",
    "report": "analysis data declare plan stats storage text",
    "run": "analysis data declare machine plan process storage suite terminal text",
    "check/show": "data declare report stats storage text",
    "check/side": "cell check data declare equivalence machine process subject suite timing",
    "cli": "analysis check check/show data declare plan process report run storage terminal text",
    "worker": "cell check/side declare machine process",
    "target": "declare machine process profiling subject suite timing",
    "notebook": "analysis cell data declare equivalence machine stats subject text timing",
    "__main__": "cli",
    "__init__": "declare notebook",
}
# Folders whose modules may reach torch.  All others plan, talk to the worker, read or print.
WITH_TORCH = {"law", "machine", "timing", "subject", "equivalence", "profiling", "cell", "pytest_face", "check/side", "worker", "target"}
WITH_TORCH |= {"notebook", "__init__"}  # the latter inside `compare` alone: a layer file does without torch


def files() -> list[Path]:
    return [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]


def name_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import of a file, in functions too, but for those that only a type checker sees."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node
    for child in ast.iter_child_nodes(node):
        yield from statements(child)


@cache
def imports(file: Path) -> dict[str, set[str]]:
    """What a file imports: module -> the names taken from it.  Ours as bench.make, without `layerbench.`; a submodule by its own name."""
    package = list(file.relative_to(ROOT).parent.parts)
    found: dict[str, set[str]] = {}
    for statement in statements(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                found.setdefault(alias.name.removeprefix("layerbench."), set())
            continue
        base = package[: len(package) - statement.level + 1] if statement.level else []
        module = ".".join([*base, *filter(None, [statement.module])]).removeprefix("layerbench.")
        for alias in statement.names:
            inside = f"{module}.{alias.name}".strip(".")
            if (ROOT / inside.replace(".", "/")).with_suffix(".py").exists() or (ROOT / inside.replace(".", "/")).is_dir():
                found.setdefault(inside, set())
            else:
                found.setdefault(module, set()).add(alias.name)
    return found


def graph() -> dict[str, set[str]]:
    """Module -> modules it imports; of other packages the first word alone."""
    return {name_of(file): {module if ours({module}) else module.partition(".")[0] for module in imports(file)} for file in files()}


def chain(start: str, goal: set[str], edges: dict[str, set[str]]) -> list[str]:
    """The shortest way of imports from one module to any of a goal; empty where there is none."""
    ways, seen = [[start]], {start}
    for way in ways:
        for following in sorted(edges.get(way[-1], set())):
            if following in goal:
                return [*way, following]
            if following not in seen:
                seen.add(following)
                ways.append([*way, following])
    return []


def ours(modules: set[str]) -> set[str]:
    return {module for module in modules if module.partition(".")[0] in {*FOLDERS, "layerbench"}}


def test_the_reader_of_imports_sees_what_is_there() -> None:
    edges = graph()
    assert {"bench.declare.mistake", "bench.cli.commands", "bench.plan.budget"} <= edges["bench.cli.main"]  # the last two inside functions
    assert "bench.report.words" in edges["bench.report.figures"]
    assert "torch" in edges["bench.subject.make"]
    assert "torch" not in edges["bench.declare.layer"]  # only a type checker sees it there
    assert chain("bench.cell.cell", HEAVY, edges)[0] == "bench.cell.cell"


def room(module: str) -> str:
    """The folder of bench/ that a module is in, as check/side; its own name where it lies in bench/ itself."""
    parts = module.split(".")[1:]
    inside = parts if (ROOT / "bench" / "/".join(parts)).is_dir() else parts[:-1]
    return "/".join(inside) or (parts[-1] if parts else "__init__")


def test_a_folder_imports_only_from_where_it_may_and_uses_all_of_that() -> None:
    used: dict[str, set[str]] = {}
    for name, modules in graph().items():
        if name.partition(".")[0] == "bench":
            used.setdefault(room(name), set()).update(room(each) for each in ours(modules))
    assert {name: " ".join(sorted(rooms - {name})) for name, rooms in used.items()} == MAY_IMPORT


def test_the_table_runs_one_way() -> None:
    """A folder stands below all that import from it; in the table that is: it comes first."""
    order = list(MAY_IMPORT)
    up = {name: [each for each in rooms.split() if order.index(each) > order.index(name)] for name, rooms in MAY_IMPORT.items()}
    assert {name: rooms for name, rooms in up.items() if rooms and name != "__init__"} == {}


def test_the_picture_in_the_docs_is_this_table() -> None:
    rows = [[cell.strip(" `/") for cell in line.strip("|").split("|")] for line in DOC.read_text(encoding="utf-8").splitlines()]
    shown = {row[0]: " ".join(row[1].replace("`", "").split()) for row in rows if len(row) == 4 and row[0] in MAY_IMPORT}
    assert shown == {name: rooms or "-" for name, rooms in MAY_IMPORT.items()}
    assert {row[0] for row in rows if len(row) == 4 and row[2] == "yes"} == WITH_TORCH


@pytest.mark.parametrize("name", sorted(name for name in MAY_IMPORT if (ROOT / "bench" / name).is_dir()))
def test_every_folder_says_its_job_first(name: str) -> None:
    assert ast.get_docstring(ast.parse((ROOT / "bench" / name / "__init__.py").read_text(encoding="utf-8")))


def test_kernels_import_nothing_of_ours_but_kernels() -> None:
    kernels = {name: ours(used) for name, used in graph().items() if name.startswith("kernels.")}
    assert {
        name: found for name, used in kernels.items() if (found := {module for module in used if not module.startswith("kernels.")})
    } == {}


def test_layers_import_only_public_names_of_bench_laws_kernels_and_layers() -> None:
    tree = ast.parse((ROOT / "bench" / "__init__.py").read_text(encoding="utf-8"))
    public = next(ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "__all__")
    for file in files():
        if name_of(file).startswith("layers."):
            used = {
                module: names
                for module, names in imports(file).items()
                if ours({module}) and not module.startswith(("kernels.", "layers."))
            }
            if file.name.startswith("_"):  # what layers share: no suite, so that it may do without bench
                assert set(used) <= {"bench"}, f"{name_of(file)} imports {set(used)}"
                continue
            assert "bench" in used and set(used) <= {"bench", "bench.law"}, f"{name_of(file)} imports {set(used)}"
            assert used["bench"] <= set(public), f"{name_of(file)} imports {used['bench'] - set(public)}"


def test_bench_never_imports_layers_or_kernels() -> None:
    wrong = {name: found for name, used in graph().items() if name.startswith("bench") and (found := ours(used) - bench_modules())}
    assert wrong == {}


def bench_modules() -> set[str]:
    return {name for name in graph() if name.partition(".")[0] == "bench"}


def test_only_folders_that_measure_reach_torch() -> None:
    edges = graph()
    ways = {name: chain(name, HEAVY, edges) for name in sorted(bench_modules()) if room(name) not in WITH_TORCH}
    assert {name: " -> ".join(way) for name, way in ways.items() if way} == {}


def test_every_folder_with_torch_does_reach_it() -> None:
    edges = graph()
    reach = {room(name) for name in bench_modules() if chain(name, HEAVY, edges)}
    assert reach == WITH_TORCH


def test_no_import_cycles() -> None:
    edges = graph()
    ways = {name: chain(name, {name}, edges) for name in edges}
    assert {name: " -> ".join(way) for name, way in ways.items() if way} == {}


@pytest.mark.parametrize("file", files(), ids=name_of)
def test_no_module_is_over_250_lines(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 250


def test_nothing_is_called_utils() -> None:
    assert [str(file) for file in files() if file.stem in ("util", "utils", "helpers", "misc", "common")] == []
