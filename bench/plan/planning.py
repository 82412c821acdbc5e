"""Layers x sizes x dtypes x devices x steps -> the ordered points to measure.  Works on facts alone: no torch, nothing is built."""

import difflib
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..data.record import Device, LayerFacts, Point
from ..declare.mistake import Mistake
from ..text import invocation
from .steps import OPTIMIZERS, STEPS, written

DTYPES = ("float32", "bfloat16", "float16")
DEFAULT_STEPS = ("forward", "backward")
DEFAULT_DTYPES = {"cpu": ("float32",), "gpu": ("float32", "bfloat16")}
DEFAULT_OPTIMIZERS = ("sgd",)


@dataclass(frozen=True)
class Selection:
    """What the user asked for; empty means the default."""

    expression: str = ""
    devices: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    sizes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    everything: bool = False  # layers on request too; an expression chooses among all of them anyway
    optimizers: tuple[str, ...] = ()  # of the step update


@dataclass(frozen=True)
class Task:
    """One point and the variants to measure there, the reference first."""

    point: Point
    variants: tuple[str, ...]


def plan(layers: Sequence[LayerFacts], devices: Sequence[Device], selection: Selection) -> list[Task]:
    """The tasks of a run.  Points that share a cell (all but the step) follow one another.  Raises Mistake on an unknown word."""
    chosen = _devices(devices, selection.devices)
    dtypes = _known("dtype", selection.dtypes, DTYPES)
    steps = _steps(selection)
    check_sizes(layers, selection.sizes)
    layers = wanted(layers, selection)
    tasks = []
    for layer, dtype, device in itertools.product(layers, dtypes or DTYPES, chosen):
        if not dtypes and dtype not in default_dtypes(device):
            continue
        if dtype not in device.dtypes:
            raise Mistake(f"--dtype {dtype}: {device.kind} does not compute in it; it has {', '.join(device.dtypes)}")
        for size, step in itertools.product(sizes(layer, device.kind, selection.sizes), steps):
            names = tuple(variant.name for variant in layer.variants)
            tasks.append(Task(Point(layer.name, size, dtype, device.kind, step), names))
    return select(tasks, selection.expression)


def wanted(layers: Sequence[LayerFacts], selection: Selection) -> Sequence[LayerFacts]:
    """All layers but those on request, unless it was requested, or the suite has no others."""
    usual = [layer for layer in layers if not layer.on_request]
    return layers if selection.everything or selection.expression or not usual else usual


def default_dtypes(device: Device) -> tuple[str, ...]:
    """Those that are measured where no dtype was asked for: float32; on an accelerator that computes in it, bfloat16 too."""
    return tuple(dtype for dtype in DEFAULT_DTYPES["cpu" if device.kind == "cpu" else "gpu"] if dtype in device.dtypes)


def sizes(layer: LayerFacts, device: str, override: Mapping[str, tuple[int, ...]]) -> list[dict[str, int]]:
    """Every combination of the values that the sweep has for a kind of device, "cpu" or any other, as far as none override them.

    The first dimension changes fastest, so that a chart fills from left to right.
    """
    declared = layer.sweep if device == "cpu" else layer.sweep | layer.gpu_sweep
    sweep = {dimension: dict.fromkeys(override.get(dimension, values)) for dimension, values in declared.items()}
    dimensions = list(sweep)
    combinations = itertools.product(*(sweep[dimension] for dimension in reversed(dimensions)))
    return [dict(zip(dimensions, reversed(values), strict=True)) for values in combinations]


def select(tasks: Sequence[Task], expression: str, with_reference: bool = True) -> list[Task]:
    """The tasks and variants that a -k expression names.

    The reference comes along, since ratios are taken against it, unless the caller takes none.
    """
    if not expression.strip():
        return list(tasks)
    matches = _parse(expression)
    ids = {f"{task.point.id}-{variant}" for task in tasks for variant in task.variants}
    for word in dict.fromkeys(_words(expression)):
        if not any(_matches(word, id_) for id_ in ids):
            raise Mistake(f"-k: {_not_selected(word) or f'nothing is called {word!r}{_suggestion(word, tasks)}'}")
    selected = []
    for task in tasks:
        hit = [variant for variant in task.variants if matches(f"{task.point.id}-{variant}")]
        if hit:
            selected.append(Task(task.point, tuple(v for v in task.variants if v in hit or (with_reference and v == task.variants[0]))))
    if not selected:
        raise Mistake(f"-k {expression!r} matches no point; `{invocation.command()} run --dry-run` lists them")
    return selected


def _devices(present: Sequence[Device], wanted: Sequence[str]) -> list[Device]:
    kinds = {device.kind: device for device in present}
    accelerators = [kind for kind in kinds if kind != "cpu"]
    chosen = []
    for word in wanted or tuple(kinds):
        if word == "gpu" and not accelerators:
            raise Mistake(
                f"--device gpu: torch finds no GPU on this machine, only cpu; "
                f"type  {invocation.command()} run --device cpu  (or nox -s bench-cpu)"
            )
        kind = accelerators[0] if word == "gpu" else word
        if kind not in kinds:
            raise Mistake(f"--device {word}: not on this machine; it has {', '.join(kinds)}")
        if kinds[kind] not in chosen:
            chosen.append(kinds[kind])
    return chosen


def _steps(selection: Selection) -> tuple[str, ...]:
    steps = _known("step", selection.steps, STEPS, written(("update",), OPTIMIZERS)) or DEFAULT_STEPS
    optimizers = _known("optimizer", selection.optimizers, OPTIMIZERS)
    if optimizers and "update" not in steps:
        raise Mistake(f"--optimizer {optimizers[0]}: only the step update has an optimizer; add  --step update")
    return written(steps, optimizers or DEFAULT_OPTIMIZERS)


def _known(what: str, wanted: Sequence[str], known: Sequence[str], also: Sequence[str] = ()) -> tuple[str, ...]:
    """The words, each once.  also: further ones that are understood, and not advertised."""
    for word in wanted:
        if word not in (*known, *also):
            raise Mistake(f"--{what} {word}: unknown; choose from {', '.join(known)}")
    return tuple(dict.fromkeys(wanted))


def check_sizes(layers: Sequence[LayerFacts], override: Mapping[str, tuple[int, ...]]) -> None:
    """Raises Mistake for a dimension that none of the layers has, or a size that is none."""
    known = list(dict.fromkeys(dimension for layer in layers for dimension in layer.sweep))
    for dimension, values in override.items():
        if dimension not in known:
            raise Mistake(
                f"--set {dimension}=...: no layer of the suite has that dimension{_near(dimension, known)}; they have {', '.join(known)}"
            )
        if not values or min(values) < 1:
            raise Mistake(f"--set {dimension}=...: sizes are whole numbers from 1 up, as {dimension}=1,8,64")


def _not_selected(word: str) -> str:
    option = "dtype" if word in DTYPES else "step" if word in STEPS else "optimizer" if word in OPTIMIZERS else ""
    add = f"--step update --optimizer {word}" if option == "optimizer" else f"--{option} {word}"
    return f"no point has the {option} {word}; add  {add}" if option else ""


def _suggestion(word: str, tasks: Sequence[Task]) -> str:
    layers = list(dict.fromkeys(task.point.layer for task in tasks))
    variants = list(dict.fromkeys(variant for task in tasks for variant in task.variants))
    near = _near(word, [*layers, *variants, *STEPS])
    return f"{near}; layers: {', '.join(layers)}; variants: {', '.join(variants)}"


def _near(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


# -k EXPR, as in pytest: words joined by and, or, not and parentheses; a word is found anywhere in an id,
# but batch8 is not found in batch80, nor float16 in bfloat16; ^rmsnorm is found at the beginning of an id alone.


def _matches(word: str, id_: str) -> bool:
    before = r"^" if word.startswith("^") else r"(?<![a-z])" if word in DTYPES else ""
    after = r"(?!\d)" if word[-1].isdigit() else ""
    return re.search(before + re.escape(word.removeprefix("^")) + after, id_) is not None


def _tokens(expression: str) -> list[str]:
    return re.findall(r"[()]|[^\s()]+", expression)


def _words(expression: str) -> list[str]:
    return [token for token in _tokens(expression) if token not in ("and", "or", "not", "(", ")")]


def _parse(expression: str) -> Callable[[str], bool]:
    """Recursive descent over  or <- and <- not <- word | ( or ).  Raises Mistake where it does not read."""
    tokens = _tokens(expression)

    def operand() -> Callable[[str], bool]:
        token = tokens.pop(0) if tokens else "the end"
        if token == "not":
            inner = operand()
            return lambda id_: not inner(id_)
        if token == "(":
            inside = joined("or")
            if not tokens or tokens.pop(0) != ")":
                raise Mistake(f"-k {expression!r}: a parenthesis is not closed")
            return inside
        if token in (")", "and", "or", "the end"):
            raise Mistake(f"-k {expression!r}: a word is missing before {token}; write for example  -k 'rmsnorm and not compile'")
        return lambda id_: _matches(token, id_)

    def joined(word: str) -> Callable[[str], bool]:
        part = operand if word == "and" else lambda: joined("and")
        parts = [part()]
        while tokens and tokens[0] == word:
            tokens.pop(0)
            parts.append(part())
        combine = all if word == "and" else any
        return lambda id_: combine(p(id_) for p in parts)

    whole = joined("or")
    if tokens:
        raise Mistake(f"-k {expression!r}: an `and` or `or` is missing before {tokens[0]!r}")
    return whole
