"""What the text of one Python file says: its imports, what it loads, and a digest of what it means.  Where the file lies is not known here.

Formatting, comments (in Triton kernels too) and docstrings mean nothing, unless a file reads its own docstrings or source.
"""

import ast
import hashlib
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeGuard

DATA = (  # suffixes of files that a layer may compile or load
    *(".cu", ".cuh", ".hip", ".cpp", ".cc", ".c", ".h", ".hpp", ".pyx", ".ptx", ".so"),
    *(".json", ".yaml", ".yml", ".toml", ".npy", ".npz", ".pt", ".pth", ".safetensors"),
)
IMPORTING = ("__import__", "importlib.import_module")  # calls that can be followed where the name stands in the text
UNFOLLOWED = (  # calls that run code which nothing in the text names
    *(*IMPORTING, "exec", "eval", "runpy.run_path", "runpy.run_module"),
    *("importlib.util.spec_from_file_location", "importlib.machinery.SourceFileLoader"),
)
READS_ITSELF = (b"__doc__", b"getdoc", b"getsource", b"getcomments")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

LEAVES = (ast.Name, ast.Constant, ast.expr_context, ast.operator)  # more than half of all nodes
ASSIGNMENTS = (ast.Assign, ast.AnnAssign, ast.AugAssign)


@dataclass(frozen=True)
class Import:
    level: int  # leading dots
    module: str
    names: tuple[str, ...]  # what is taken from it; () for `import module`
    late: bool  # inside a function


@dataclass(frozen=True)
class Source:
    digest: str
    imports: tuple[Import, ...] = ()
    unfollowed: str = ""  # why there may be imports that are not listed
    exported: tuple[str, ...] = ()  # __all__, for `import *`
    patterns: frozenset[str] = frozenset()  # of names of data files


@lru_cache(maxsize=4096)  # most files are the same on both sides of a check
def read(text: bytes) -> Source:
    """What a file says.  One that Python cannot parse has no imports, and every byte of it counts."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about somebody's backslashes
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last three: null bytes, and nesting without measure
        return Source(hashlib.sha256(text).hexdigest())
    nodes: dict[type[ast.AST], list[tuple[Any, bool]]] = defaultdict(list)
    for node, late in _walk(tree):
        nodes[type(node)].append((node, late))
    imports = nodes[ast.Import] + nodes[ast.ImportFrom]
    names = dict(pair for node, _ in imports for pair in _names(node))
    suspects = nodes[ast.Call] + nodes[ast.Attribute] + nodes[ast.ImportFrom]
    return Source(
        digest=hashlib.sha256(_meaning(tree, text)).hexdigest(),
        imports=tuple(each for node, late in imports + nodes[ast.Call] for each in _imports(node, names, late)),
        unfollowed=next((why for node, _ in suspects if (why := _unfollowed(node, names))), ""),
        exported=tuple(name for kind in ASSIGNMENTS for node, _ in nodes[kind] if _assigns_all(node) for name in _strings(node)),
        patterns=frozenset(pattern for node, _ in nodes[ast.Constant] if (pattern := _pattern(node.value))),
    )


def _walk(tree: ast.Module) -> Iterator[tuple[ast.AST, bool]]:
    """Every node that runs at all, and whether it runs only when a function is called.  Docstrings are taken out of the tree on the way."""
    todo: list[tuple[ast.AST, bool]] = [(tree, False)]
    while todo:
        node, late = todo.pop()
        if isinstance(node, DOCUMENTED) and _is_text(node.body[:1]):
            del node.body[0]
        yield node, late
        if isinstance(node, LEAVES):
            continue
        inside = late or isinstance(node, FUNCTIONS)
        children = node.orelse if _for_type_checkers(node) else ast.iter_child_nodes(node)
        todo += [(child, inside) for child in children]


def _meaning(tree: ast.Module, text: bytes) -> bytes:
    """The tree without its docstrings as text: names, structure and values, but no positions."""
    if any(word in text for word in READS_ITSELF):
        return text
    try:
        return ast.dump(tree).encode()
    except RecursionError:  # a sum of a thousand terms
        return text


def _is_text(body: list[ast.stmt]) -> bool:
    return bool(body) and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) and isinstance(body[0].value.value, str)


def _for_type_checkers(node: ast.AST) -> TypeGuard[ast.If]:
    """Whether this is `if TYPE_CHECKING:`, however it was imported."""
    test = node.test if isinstance(node, ast.If) else None
    return (test.id if isinstance(test, ast.Name) else test.attr if isinstance(test, ast.Attribute) else "") == "TYPE_CHECKING"


def _names(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
    """What names of the file stand for: `run` for runpy.run_path, after `from runpy import run_path as run`."""
    for alias in node.names:
        if isinstance(node, ast.Import):
            yield (alias.asname, alias.name) if alias.asname else (alias.name, alias.name)
        elif not node.level:
            yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _dotted(node: ast.AST, names: dict[str, str]) -> str:
    """importlib.import_module for the expression of that name, however the file abbreviates it; "" for what is no dotted name."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    before = _dotted(node.value, names) if isinstance(node, ast.Attribute) else ""
    return f"{before}.{node.attr}" if isinstance(node, ast.Attribute) and before else ""


def _imports(node: ast.AST, names: dict[str, str], late: bool) -> Iterator[Import]:
    if isinstance(node, ast.ImportFrom):
        yield Import(node.level, node.module or "", tuple(alias.name for alias in node.names), late)
    elif isinstance(node, ast.Import):
        yield from (Import(0, alias.name, (), late) for alias in node.names)
    elif isinstance(node, ast.Call) and (module := _literal(node, names)):
        yield Import(0, module, (), late)


def _literal(call: ast.Call, names: dict[str, str]) -> str:
    """The module of  importlib.import_module("module")  and its like; "" for other calls."""
    if _dotted(call.func, names) not in IMPORTING or len(call.args) != 1 or call.keywords or not isinstance(call.args[0], ast.Constant):
        return ""
    module = str(call.args[0].value)
    return module if all(part.isidentifier() for part in module.split(".")) else ""


def _unfollowed(node: ast.AST, names: dict[str, str]) -> str:
    """Where and how the file runs code that nothing in it names."""
    if isinstance(node, ast.Call) and (call := _dotted(node.func, names)) in UNFOLLOWED and not _literal(node, names):
        return f"line {node.lineno}, calls {call}"
    if isinstance(node, ast.Attribute) and node.attr == "path" and _dotted(node, names) == "sys.path":
        return f"line {node.lineno}, uses sys.path"
    if isinstance(node, ast.ImportFrom) and node.module == "sys" and any(alias.name == "path" for alias in node.names):
        return f"line {node.lineno}, uses sys.path"
    return ""


def _assigns_all(node: ast.Assign | ast.AnnAssign | ast.AugAssign) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets)


def _strings(node: ast.AST) -> Iterator[str]:
    yield from (each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str))


def _pattern(value: object) -> str:
    """What the name of a data file ends as, if this constant is one or, as in f"{name}.cu", the end of one; else ""."""
    name = value.rpartition("/")[2] if isinstance(value, str) else ""
    return f"*{name}" if name.endswith(DATA) else ""
