"""Import a suite by its path and collect the `Layer` values in it, as pytest collects tests.  Nothing is built or run here.

The suite gets a private module name, so a user's folder may be called `layers` or `bench` and two copies of one suite can live
in one process.  Inside it `..bench` is the running harness; siblings and neighbours (`.common`, `..kernels`) import relatively,
and the folder of the suite is put on sys.path, so plain imports find what lies beside a file, as they do for a script.
"""

import ast
import contextlib
import hashlib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from ..data.record import LayerFacts, VariantFacts
from ..declare.layer import Layer
from ..declare.mistake import Mistake

HARNESS = __package__.rpartition(".")[0]
SHARED = {"law": "law", "declare": "declare.layer", "mistake": "declare.mistake"}  # what a suite may import from ..bench -> its module
DEFAULT = "layerbench.layers"  # the suite that is installed with the harness


@dataclass(frozen=True)
class Declared:
    layer: Layer
    facts: LayerFacts
    file: Path


def mount(suite: str, broken: dict[Path, str] | None = None) -> list[Declared]:
    """The layers of a suite: a folder, one file, or the installed default.

    Raises Mistake where a file does not import, or where there is no layer at all.  With `broken` given, a file that does not import is
    put there with its reason, and what there is is mounted.
    """
    path = locate(suite)
    files = [path] if path.is_file() else sorted(file for file in path.glob("*.py") if not file.name.startswith("_"))
    package = _package(path if path.is_dir() else path.parent)
    found: dict[str, Declared] = {}
    unnamed: list[tuple[Path, str, str]] = []
    for file in files:
        try:
            module = _load(package, file)
            unnamed += [(file, *each) for each in _unnamed(module, file)]
        except Mistake as mistake:
            if broken is None:
                raise
            broken[file] = str(mistake)
            continue
        for layer in _layers(module, file):
            declared = Declared(layer, _facts(layer, file), file)
            if (other := found.get(layer.name)) and other.layer is not layer:
                raise Mistake(f"{_shown(file)}: layer {layer.name!r} is also in {other.facts.file}; give one of them another name")
            if not other or declared.facts.line > other.facts.line == 1:  # a file that only imports the layer does not declare it
                found[layer.name] = declared
    for file, name, where in unnamed:
        if name not in found:
            said = f"{where} layer {name!r}, which has no name at module level; write  {name} = Layer(...)"
            if broken is None:
                raise Mistake(said)
            broken[file] = said
    if not found and broken is None:
        raise Mistake(f'{_shown(path)}: no Layer found; write at module level for example  softmax = Layer("softmax", ...)')
    return list(found.values())


def locate(suite: str) -> Path:
    """The folder or file of a suite.  Raises Mistake where there is none."""
    if suite == DEFAULT:
        return Path(next(iter(importlib.import_module(DEFAULT).__path__))).resolve()  # a clone may be reached by a symbolic link
    path = Path(suite)
    if not path.exists():
        raise Mistake(f"--suite {suite}: there is no such file or folder; give a folder of layer files, or one file")
    if path.is_file() and path.suffix != ".py":
        raise Mistake(f"--suite {suite}: not a Python file; give a folder of layer files, or one file that ends in .py")
    return path.resolve()


def _package(folder: Path) -> str:
    """A private package for the folder, beneath a private root for its parent."""
    root = "_layerbench_" + hashlib.sha256(str(folder).encode()).hexdigest()[:8]
    if root not in sys.modules:
        sys.modules[root] = _module(root, folder.parent)
        package = sys.modules[f"{root}.suite"] = _module(f"{root}.suite", folder)
        sys.modules[root].suite = package  # type: ignore[attr-defined]  # as an import would set it
        theirs = folder.parent / "bench"
        if not theirs.exists() or is_harness(theirs):
            sys.modules[f"{root}.bench"] = importlib.import_module(HARNESS)
            for name, module in SHARED.items():  # else a suite that imports one gets a copy of it, whose Mistake is another class
                sys.modules[f"{root}.bench.{name}"] = importlib.import_module(f"{HARNESS}.{module}")
        _forget_neighbours(folder)
        sys.path.insert(0, str(folder))
    return f"{root}.suite"


def is_harness(folder: Path) -> bool:
    """Whether a folder bench/ is a copy of ours, of any age, and not somebody's own."""
    return (folder / "declare.py").exists() or (folder / "declare" / "layer.py").exists()


def _forget_neighbours(folder: Path) -> None:
    """Plain imports go by name alone: `import common` must not find the common.py of another suite that was mounted before."""
    others = {module.__path__[0] for name, module in sys.modules.items() if re.fullmatch(r"_layerbench_\w+\.suite", name)}
    for name, module in list(sys.modules.items()):
        file = Path(getattr(module, "__file__", None) or ".")
        if "." not in name and str(file.parent) in others and file.parent != folder and (folder / file.name).exists():
            del sys.modules[name]


def _module(name: str, folder: Path) -> ModuleType:
    module = ModuleType(name)
    module.__path__ = [str(folder)]
    return module


def _load(package: str, file: Path) -> ModuleType:
    name = f"{package}.{file.stem.replace('.', '_')}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec and spec.loader
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        with contextlib.chdir("."):  # back where we stood, wherever the file goes: paths are shown from here
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a script that ends itself must not end us
        del sys.modules[name]
        raise Mistake(_why(error, file)) from error
    return module


def _why(error: BaseException, file: Path) -> str:
    if isinstance(error, Mistake):
        return f"{_shown(file)}: {error}"
    if isinstance(error, SyntaxError):
        where = f", line {error.lineno}" if error.lineno else ""
        return f"{_shown(Path(error.filename or file))}{where}: {error.msg}; fix it and run again"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    where = f", line {lines[-1]}" if lines else ""
    return f"{_shown(file)}{where}: the file does not import: {type(error).__name__}: {error}; fix it, or name another --suite"


def _layers(module: ModuleType, file: Path) -> Iterator[Layer]:
    """Those with a name at module level."""
    for name, value in list(vars(module).items()):
        if isinstance(value, Layer):
            yield value
        elif type(value).__name__ == "Layer" and type(value).__module__.endswith(("bench.declare", "bench.declare.layer")):
            raise Mistake(
                f"{_shown(file)}: {name} was made by another copy of layerbench; import it as  from layerbench.bench import Layer"
            )


def _unnamed(module: ModuleType, file: Path) -> Iterator[tuple[str, str]]:
    """A layer's name, and where it is, of all that nothing but a list, a dict or the like holds, or that were made and let go.

    Another file may have a name for it; then it is found there.
    """
    for name, value in list(vars(module).items()):
        if not name.startswith("__"):  # as __builtins__
            yield from ((layer.name, f"{_shown(file)}: {name} holds") for layer in _held(value))
    for statement in ast.parse(file.read_bytes()).body:
        call = getattr(statement, "value", None)
        if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] == "Layer" and (name := _literal_name(call)):
            yield name, f"{_shown(file)}, line {statement.lineno}: nothing keeps"


def _held(value: object, depth: int = 3) -> Iterator[Layer]:
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple | set | frozenset) else ()
    for each in list(values) if depth else ():
        if isinstance(each, Layer):
            yield each
        yield from _held(each, depth - 1)


def _literal_name(call: ast.Call) -> str:
    literals = [*call.args[:1], *(keyword.value for keyword in call.keywords if keyword.arg == "name")]
    return next((each.value for each in literals if isinstance(each, ast.Constant) and isinstance(each.value, str)), "")


def _facts(layer: Layer, file: Path) -> LayerFacts:
    tree = ast.parse(file.read_bytes())  # in the encoding that its first lines name
    about = (ast.get_docstring(tree) or "").partition("\n")[0]
    return LayerFacts(
        name=layer.name,
        about=about,
        file=_shown(file),
        line=_line(tree, layer.name),
        sweep={dimension: tuple(values) for dimension, values in layer.sweep.items()},
        variants=tuple(VariantFacts(name, variant.compile, variant.devices) for name, variant in layer.variants.items()),
        absent=dict(layer.absent),
        on_request=layer.on_request,
        gpu_sweep={dimension: tuple(values) for dimension, values in layer.gpu_sweep.items()},
    )


def _line(tree: ast.Module, name: str) -> int:
    """Where the layer is declared: the call that has its name as a literal argument, else the top of the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _literal_name(node) == name:
            return node.lineno
    return 1


def _shown(path: Path) -> str:
    """Relative to where the user stands, where that is shorter to read."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
