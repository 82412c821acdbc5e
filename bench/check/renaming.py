"""Layers that have another name than at the base, found by their source.  Nothing is imported.

A layer's source is here its declaration and all that it uses of its own file, as Python reads it: without comments, docstrings and its
name.  Layers of one family differ by a few words, so whether two of nearly one source compute the same is asked afterwards.
"""

import ast
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

NEARLY = 0.8  # share of equal words from which a new layer may be a missing one renamed; tests/test_check_renaming.py shows why
NAMELESS = "renamed"

Words = tuple[str, ...]


@dataclass(frozen=True)
class Renamed:
    """A layer of the head that stands for one of the base."""

    new: str
    old: str
    likeness: float  # of their sources, 0 to 1

    def __str__(self) -> str:
        return f"paired {self.new} with {self.old} of the base (renamed, {int(100 * self.likeness)} % the same code)"


def pairs(head: Mapping[str, Words], base: Mapping[str, Words]) -> list[Renamed]:
    """The most alike first, each layer in one pair at most.  A layer that both sides have was not renamed."""
    likely = [Renamed(new, old, _likeness(head[new], base[old])) for new in head.keys() - base for old in base.keys() - head]
    found: list[Renamed] = []
    for each in sorted(likely, key=lambda each: (-each.likeness, each.new, each.old)):
        if each.likeness >= NEARLY and not any(each.new == other.new or each.old == other.old for other in found):
            found.append(each)
    return found


def _likeness(a: Words, b: Words) -> float:
    matcher = difflib.SequenceMatcher(None, a, b, autojunk=False)
    return matcher.ratio() if matcher.quick_ratio() >= NEARLY else 0.0


def declared(files: Iterable[Path]) -> dict[str, Words]:
    """Layer -> the words of its source, of all that are declared by a literal name; nothing of a file that Python cannot parse."""
    found = {}
    for file in files:
        try:
            tree = ast.parse(file.read_bytes())
        except (OSError, SyntaxError, ValueError, RecursionError):
            continue
        bound = {name: statement for statement in tree.body for name in _binds(statement)}
        for statement in tree.body:
            for name in _layers(statement):
                found[name] = _words(_reached(statement, bound), name)
    return found


def _layers(statement: ast.stmt) -> Iterator[str]:
    """The names of the layers that are declared in a statement."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "Layer":
            values = [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "name")]
            yield from (each.value for each in values if isinstance(each, ast.Constant) and isinstance(each.value, str))


def _binds(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement of a module gives a meaning to."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).partition(".")[0]


def _reached(statement: ast.stmt, bound: Mapping[str, ast.stmt]) -> list[ast.stmt]:
    """The statement and those of its module that it uses, in the order of the file."""
    found = [statement]
    for each in found:  # it grows
        names = (node.id for node in ast.walk(each) if isinstance(node, ast.Name))
        found += dict.fromkeys(bound[name] for name in names if name in bound and bound[name] not in found)
    return sorted(found, key=lambda each: each.lineno)


def _words(statements: Iterable[ast.stmt], name: str) -> Words:
    text = "\n".join(ast.unparse(_Bare(name).visit(ast.parse(ast.unparse(each)))) for each in statements)
    return tuple(re.findall(r"\w+|[^\w\s]", text))


class _Bare(ast.NodeTransformer):
    """Takes out docstrings, and puts one word for the layer's name and the variable that is called like it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return ast.Pass() if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(NAMELESS, node.ctx) if node.id == self._name else node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant(NAMELESS) if node.value == self._name else node
