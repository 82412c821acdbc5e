"""A layer file from words of the command line: `run torch.nn:SiLU --against mine:Fast --input 8x512` needs none.  The file stays, to go on.

Nothing is imported here; the worker does, as for any suite.
"""

import ast
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..declare.mistake import Mistake

INPUT = re.compile(r"(\d+(?:x\d+)*)(?::(\d+))?")
EXAMPLE = "layerbench run 'torch.nn:RMSNorm(512)' --against 'mine:Fast(512)' --input 8x512"
TEXT = '''"""{title}: written by  layerbench run --against;  go on from here, as docs/layers-api.md says."""

{partial}{imports}
from layerbench.bench import {names}

{name} = Layer(
    "{name}",
    sweep={{"batch": ({batch},)}},
    inputs=({inputs}),
    variants={{
{variants}
    }},
)
'''


class Named(NamedTuple):
    """A class or a function as it was typed.  maker: the expression that a Variant takes."""

    module: str
    name: str
    maker: str


def write(reference: str, others: Sequence[str], inputs: Sequence[str], folder: Path, suite: str = "") -> str:
    """The layer file of a reference and the variants against it, as a suite.  Raises Mistake for words that cannot be read."""
    if suite:
        raise Mistake(f"--suite {suite}: --against makes a suite of its own; remove one of them")
    if not reference:
        raise Mistake(f"--against: name the reference, too, as  {EXAMPLE}")
    if not inputs:
        raise Mistake(f"--against: say what it is called with, as  --input 8x512;  {EXAMPLE}")
    if not others:
        raise Mistake(f"--input {inputs[0]}: it goes with --against, as  {EXAMPLE}")
    named = [_named(word) for word in (reference, *others)]
    names: list[str] = []
    for each in named:
        known = [other for other in names if re.fullmatch(rf"{each.name}(_\d+)?", other)]
        names.append(f"{each.name}_{len(known) + 1}" if known else each.name)
    shapes = [_shape(word) for word in inputs]
    batch = shapes[0][0][0]
    text = TEXT.format(
        title=" against ".join(names),
        partial="from functools import partial\n\n" if any("partial(" in each.maker for each in named) else "",
        names=", ".join(["Layer", "Variant", *sorted({"integers" if below else "randn" for _, below in shapes})]),
        imports="\n".join(f"import {module}" for module in dict.fromkeys(each.module for each in named)),
        name=names[0],
        batch=batch,
        inputs="".join(f"{_draw(shape, below, batch)}, " for shape, below in shapes).rstrip(),
        variants="\n".join(f'        "{name}": Variant({each.maker}),' for name, each in zip(names, named, strict=True)),
    )
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{'_against_'.join(names)}.py"
    file.write_text(text, encoding="utf-8")
    print(f"layerbench: {file} is the layer file, to go on from", file=sys.stderr)
    return str(file)


def _named(word: str) -> Named:
    """`torch.nn:RMSNorm(512)`: the module as Python imports it, and a name in it, with arguments where it takes some."""
    module, _, said = word.partition(":")
    module = module.removesuffix(".py").replace("/", ".")
    try:
        found = ast.parse(said, mode="eval").body
    except SyntaxError:
        found = None
    called = found.func if isinstance(found, ast.Call) else found
    if not all(part.isidentifier() for part in module.split(".")) or not isinstance(called, ast.Name | ast.Attribute):
        raise Mistake(
            f"{word}: write a module and a class or a function in it, as torch.nn:SiLU, mine:fast_silu or 'torch.nn:RMSNorm(512)'"
        )
    full = f"{module}.{ast.unparse(called)}"
    last = called.id if isinstance(called, ast.Name) else called.attr
    name = re.sub(r"[^a-z0-9]+", "_", last.lower()).strip("_0123456789") or "variant"
    if isinstance(found, ast.Call) and (found.args or found.keywords):
        arguments = [*map(ast.unparse, found.args), *(f"{each.arg}={ast.unparse(each.value)}" for each in found.keywords)]
        return Named(module, name, f"partial({full}, {', '.join(arguments)})")
    return Named(module, name, full)


def _shape(word: str) -> tuple[list[int], str]:
    found = INPUT.fullmatch(word)
    if not found or "0" in found[1].split("x") or found[2] == "0":
        raise Mistake(f"--input {word}: write a shape, as 8x512, or 8x128:50257 for whole numbers below 50257")
    return [int(size) for size in found[1].split("x")], found[2] or ""


def _draw(shape: list[int], below: str, batch: int) -> str:
    dims = ", ".join('"batch"' if place == 0 and size == batch else str(size) for place, size in enumerate(shape))
    return f"integers({dims}, below={below})" if below else f"randn({dims})"
