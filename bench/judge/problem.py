"""A problem: a reference that is trusted, and the inputs that it is called with.  Read from the files that people have.

A KernelBench file has a class `Model`, `get_inputs()` and `get_init_inputs()`; whole numbers at its top are its dimensions.
"""

import ast
import base64
import pickle
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from ..declare.mistake import Mistake

SMALLEST = 64  # whole numbers from here on are made smaller, where a problem is too large for a machine
SCALES = (64, 16, 4, 1)  # what they are divided by
CALL_SECONDS = 1.0  # that a call may be expected to take
INIT_SEED = 42


@dataclass(frozen=True)
class Problem:
    """names: what a candidate's class or function may be called.  sizes: the whole numbers at the top, as they are used."""

    name: str
    file: Path
    build: Callable[[], nn.Module]
    draw: Callable[[int], Sequence[object]]
    arguments: Sequence[object]
    names: tuple[str, ...]
    sizes: Mapping[str, int]

    def module(self) -> nn.Module:
        """The reference, with the same weights every time."""
        torch.manual_seed(INIT_SEED)
        return self.build()

    def inputs(self, seed: int) -> list[object]:
        torch.manual_seed(seed)
        return [each.detach() if isinstance(each, Tensor) else each for each in self.draw(seed)]

    def packed(self) -> str:
        return base64.b64encode(pickle.dumps(list(self.arguments))).decode()


def read(file: Path, sizes: Mapping[str, int], scale: int = 1) -> Problem:
    """sizes: in place of what the file says.  scale: whole numbers of 64 and more are divided by it.  Raises Mistake."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise Mistake(f"{file}: {error.strerror}; give a problem's file") from error
    tree = _parsed(file, text)
    found = {name: int(str(number.value)) for name, number in _numbers(tree)}
    if unknown := sorted(set(sizes) - set(found)):
        raise Mistake(f"--set {unknown[0]}: {file.name} has no such whole number at its top; it has {', '.join(found) or 'none'}")
    used = {name: sizes.get(name, _scaled(value, scale)) for name, value in found.items()}
    for name, number in _numbers(tree):
        number.value = used[name]
    module = _executed(file, tree)
    missing = [name for name in ("Model", "get_inputs", "get_init_inputs") if not hasattr(module, name)]
    if missing:
        raise Mistake(f"{file.name} has no {missing[0]}; a problem has a class Model, get_inputs() and get_init_inputs()")
    arguments = list(module.get_init_inputs())
    draw = lambda seed: module.get_inputs()  # noqa: E731
    return Problem(file.stem, file, lambda: module.Model(*arguments), draw, arguments, ("ModelNew", "Model"), used)


def fitting(file: Path, sizes: Mapping[str, int]) -> tuple[Problem, str]:
    """The problem as it is, or with smaller numbers where a call would take too long here; and that in a sentence.  Raises Mistake.

    It is tried from small to large: a large one may take minutes, or all memory.
    """
    fitted: tuple[int, Problem] | None = None
    seconds, reason = 0.0, Mistake("")
    for scale in SCALES:
        if fitted and seconds * (fitted[0] / scale) ** 3 > CALL_SECONDS:
            break
        try:
            problem = read(file, sizes, scale)
            seconds = _seconds(problem)
        except Mistake:
            raise
        except Exception as error:  # noqa: BLE001  the problem is the user's: it may not take sizes as small
            reason = Mistake(f"{file.name}: the reference fails: {type(error).__name__}: {error}")
            continue
        fitted = scale, problem
    if not fitted:
        raise reason
    scale, problem = fitted
    small = f"{file.name} is too large for this machine: whole numbers of {SMALLEST} and more were divided by {scale}; --set NAME=VALUE sets one"
    return problem, small if scale > 1 else ""


def _seconds(problem: Problem) -> float:
    """Of the faster of two calls of the reference, since a first one also loads code.  Raises what it raises."""
    module, inputs, taken = problem.module(), problem.inputs(0), []
    with torch.no_grad():
        for _ in range(2):
            start = time.perf_counter()
            module(*inputs)
            taken.append(time.perf_counter() - start)
    return min(taken)


def _parsed(file: Path, text: str) -> ast.Module:
    try:
        return ast.parse(text, str(file))
    except SyntaxError as error:
        raise Mistake(f"{file.name}, line {error.lineno}: {error.msg}") from error


def _numbers(tree: ast.Module) -> Iterator[tuple[str, ast.Constant]]:
    """Names that are given a whole number at the top of the file, alone or several at once."""
    for statement in tree.body:
        for target in statement.targets if isinstance(statement, ast.Assign) else ():
            pairs: list[tuple[ast.expr, ast.expr]] = [(target, statement.value)]
            if isinstance(target, ast.Tuple) and isinstance(statement.value, ast.Tuple):
                pairs = list(zip(target.elts, statement.value.elts, strict=False))
            for name, value in pairs:
                if isinstance(name, ast.Name) and isinstance(value, ast.Constant) and type(value.value) is int:
                    yield name.id, value


def _scaled(value: int, scale: int) -> int:
    return max(1, value // scale) if value >= SMALLEST else value


def _executed(file: Path, tree: ast.Module) -> ModuleType:
    """Raises Mistake with the place of what the file itself raises."""
    name = f"_layerbench_problem_{file.stem}"
    module = ModuleType(name)
    module.__file__ = str(file)
    sys.modules[name] = module
    try:
        exec(compile(tree, str(file), "exec"), module.__dict__)  # noqa: S102  the problem is the user's, and trusted
    except Exception as error:
        raise Mistake(f"{file.name} cannot be read: {type(error).__name__}: {error}") from error
    return module
