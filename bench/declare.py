"""What a layer author writes: `Layer`, `Variant` and the inputs `randn`, `positive` and `integers`.

Values only: nothing is registered, built or imported here, and torch is not needed to declare.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from .mistake import Mistake

if TYPE_CHECKING:
    from torch import nn

    from .law import Law

Devices = Literal["any", "cpu", "gpu"]
ANY: Devices = "any"
CPU: Devices = "cpu"
GPU: Devices = "gpu"  # on a machine without one, Triton variants are proved under Triton's interpreter

Init = Literal["default", "normal", "xavier", "kaiming"]  # of a parameter of two or more dimensions; others keep their own

Kind = Literal["normal", "positive", "integers"]
Size = Mapping[str, int]
NOISE_FLOOR = "noise_floor"  # reserved: the second copy of the reference that every point measures

LONGEST = 60  # characters of a value that is shown

_NAME = re.compile(r"[a-z](?:[a-z0-9_]*[a-z0-9])?")
_DIMENSION = re.compile(r"[a-z](?:[a-z0-9_]*[a-z])?")  # no digit last: `k3` with the value 5 would read `k35` in an id


@dataclass(frozen=True)
class Draw:
    """One input tensor.  Its dimensions are names from the sweep, or fixed numbers.

    kind "normal" is a standard normal in the dtype of the point, and takes part in backward;
    kind "positive" is evenly spread from 0.1 to 2, for logarithms, roots and divisors, and takes part in backward too;
    kind "integers" is int64 in [0, below), with `below` a number or a name from the sweep.
    """

    dims: tuple[str | int, ...]
    kind: Kind
    below: str | int | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise Mistake(f"an input has kind={_brief(self.kind)}; write randn(...), positive(...) or integers(..., below=...)")
        if not isinstance(self.dims, tuple | list) or not all(isinstance(dim, str) or _is_size(dim) for dim in self.dims):
            raise Mistake(f"an input has the dimensions {_brief(self.dims)}; write names of the sweep or whole numbers above 0")
        if self.kind == "integers" and not (isinstance(self.below, str) or _is_size(self.below)):
            raise Mistake(f"an input of integers has below={_brief(self.below)}; write a whole number above 0 or a name of the sweep")
        if self.kind != "integers" and self.below is not None:
            raise Mistake(f"an input of kind {self.kind!r} has below={_brief(self.below)}; only integers(...) has a limit")

    def words(self) -> tuple[str, ...]:
        """The sweep dimensions this input mentions."""
        return tuple(word for word in (*self.dims, self.below) if isinstance(word, str))


def randn(*dims: str | int) -> Draw:
    """An input of standard normal numbers: `randn("batch", "width")`, `randn("batch", 1, 28, 28)`."""
    return Draw(dims, "normal")


def positive(*dims: str | int) -> Draw:
    """An input of positive numbers, evenly spread from 0.1 to 2: `positive("batch", "width")`."""
    return Draw(dims, "positive")


def integers(*dims: str | int, below: str | int) -> Draw:
    """An input of whole numbers in [0, below), as indices or class labels: `integers("batch", below="classes")`."""
    return Draw(dims, "integers", below)


@dataclass(frozen=True)
class Variant:
    """One way of writing the layer.

    module   what `Layer.build` calls: an nn.Module class, or any function that returns a module.
    compile  wrap the built module in torch.compile.
    devices  ANY, CPU or GPU.
    """

    module: "Callable[..., nn.Module]"
    compile: bool = False
    devices: Devices = ANY

    def __post_init__(self) -> None:
        if _is_module(self.module):
            name = type(self.module).__name__
            raise Mistake(f"Variant is given an instance of {name}; give the class, as Variant({name}): build makes the instances")
        if not callable(self.module):
            raise Mistake(f"Variant is given {_brief(self.module)}; give an nn.Module class, or a function that returns a module")
        if not isinstance(self.compile, bool):
            raise Mistake(f"Variant has compile={_brief(self.compile)}; write compile=True or compile=False")
        if self.devices not in get_args(Devices):
            raise Mistake(f"Variant has devices={_brief(self.devices)}; write ANY, CPU or GPU")


@dataclass(frozen=True)
class Layer:
    """Equivalent variants of one layer and the sizes at which they are compared.

    name       lower-case letters, digits and underscores; it is the first word of every id.
    sweep      dimension -> the values to visit; every combination is a point.  The first dimension is the charts' x axis.
    inputs     the tensors that the module is called with.
    build      build(variant.module, size) -> nn.Module, with size a mapping from dimension to its value.
    variants   name -> Variant.  The first is the reference: weights are copied from it, ratios are taken against it.
    verify_at  more sizes at which variants must agree, each overriding some of the sweep's smallest values;
               choose some that are no multiple of any block.  None given: the first dimension at 3.
    absent     variant -> a sentence that says why the layer does not have it; the report shows it.
    law        of a random layer, what must hold of every draw, as law.dropout(0.1): its values are not compared with the reference's.
    init       the weights that are timed: "default", the module's own; "normal", standard normal; "xavier" or "kaiming", normal with that
               standard deviation.  Equivalence is proved with each of them.
    calls      of a layer that changes its own state, how many calls are made before outputs and state are compared; 1 of others.
    on_request leave the layer out of a run that names no layers: --all and -k measure it.  For suites too long to run whole every time.

    Raises Mistake where the parts do not fit together.
    """

    name: str
    sweep: Mapping[str, tuple[int, ...]]
    inputs: tuple[Draw, ...]
    build: "Callable[[Callable[..., nn.Module], Size], nn.Module]"
    variants: Mapping[str, Variant]
    verify_at: tuple[Size, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
    law: "Law | None" = None
    init: Init = "default"
    calls: int = 1
    on_request: bool = False

    def __post_init__(self) -> None:
        _check_name("layer", self.name, _NAME)
        self._check_build()
        if self.init not in get_args(Init):
            raise Mistake(f"layer {self.name!r}: init is {_brief(self.init)}; choose from {', '.join(get_args(Init))}")
        if self.law is not None and not callable(self.law):
            raise Mistake(f"layer {self.name!r}: law is {_brief(self.law)}; write a law, as law.dropout(0.1), or leave it away")
        if not isinstance(self.on_request, bool):
            raise Mistake(f"layer {self.name!r}: on_request is {_brief(self.on_request)}; write True or False")
        if not _is_size(self.calls):
            raise Mistake(
                f"layer {self.name!r}: calls is {_brief(self.calls)}; write how many calls are made before state is compared, as 4"
            )
        self._check_sweep()
        self._check_inputs()
        self._check_variants()

    def _check_build(self) -> None:
        """Raises Mistake where build cannot be called with a variant's module and a size."""
        if not callable(self.build) or _is_module(self.build):
            raise Mistake(f"layer {self.name!r}: build is {_brief(self.build)}; write build=lambda module, size: module()")
        try:
            inspect.signature(self.build).bind(None, {})
        except TypeError:
            given = inspect.signature(self.build)
            raise Mistake(
                f"layer {self.name!r}: build takes {given}, and is called with a variant's module and a size; "
                "write build=lambda module, size: module()"
            ) from None
        except ValueError:  # some functions in C do not tell
            return

    def _check_sweep(self) -> None:
        if not isinstance(self.sweep, Mapping) or not self.sweep:
            raise Mistake(f'layer {self.name!r}: the sweep is {_given(self.sweep)}; write for example sweep={{"batch": (1, 8, 64)}}')
        for dimension, values in self.sweep.items():
            _check_name("sweep dimension", dimension, _DIMENSION)
            if not isinstance(values, tuple | list) or not values or not all(_is_size(value) for value in values):
                raise Mistake(
                    f"layer {self.name!r}: sweep[{dimension!r}] is {_brief(values)}; write a tuple of positive whole numbers, as (1, 8, 64)"
                )
        if not isinstance(self.verify_at, tuple | list) or not all(isinstance(size, Mapping) for size in self.verify_at):
            raise Mistake(f'layer {self.name!r}: verify_at is {_brief(self.verify_at)}; write a tuple of sizes, as ({{"batch": 3}},)')
        for size in self.verify_at:
            for dimension, value in size.items():
                self._check_dimension("verify_at", dimension)
                if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                    raise Mistake(f"layer {self.name!r}: verify_at has {dimension}={_brief(value)}; write a whole number")

    def _check_inputs(self) -> None:
        if not isinstance(self.inputs, tuple | list):
            raise Mistake(f'layer {self.name!r}: inputs is {_brief(self.inputs)}; write a tuple, as (randn("batch", "width"),)')
        for index, draw in enumerate(self.inputs):
            if not isinstance(draw, Draw):
                raise Mistake(f'layer {self.name!r}: inputs[{index}] is {_brief(draw)}; write how it is drawn, as randn("batch", "width")')
        for draw in self.inputs:
            for dimension in draw.words():
                self._check_dimension("input", dimension)

    def _check_variants(self) -> None:
        if not isinstance(self.variants, Mapping) or not self.variants:
            raise Mistake(
                f'layer {self.name!r}: variants is {_given(self.variants)}; write for example variants={{"stock": Variant(nn.Linear)}}'
            )
        for name, variant in self.variants.items():
            _check_name("variant", name, _NAME)
            if name == NOISE_FLOOR:
                raise Mistake(f"layer {self.name!r}: the variant name {NOISE_FLOOR!r} is taken; choose another")
            if not isinstance(variant, Variant):
                raise Mistake(f"layer {self.name!r}: variant {name!r} is {_brief(variant)}; write Variant(YourModule)")
        if not isinstance(self.absent, Mapping) or not all(isinstance(why, str) for why in self.absent.values()):
            raise Mistake(f'layer {self.name!r}: absent is {_brief(self.absent)}; write for example absent={{"triton": "needs no kernel"}}')
        if name_again := set(self.absent) & set(self.variants):
            raise Mistake(f"layer {self.name!r}: {sorted(name_again)[0]!r} is both in variants and in absent; remove one")
        reference, first = next(iter(self.variants.items()))
        if first.devices != ANY:
            raise Mistake(
                f"layer {self.name!r}: the first variant {reference!r} is the reference and must run on every device; remove devices="
            )

    def _check_dimension(self, what: str, dimension: str) -> None:
        if dimension not in self.sweep:
            raise Mistake(f"layer {self.name!r}: {what} dimension {dimension!r} is not in sweep; it has {', '.join(self.sweep)}")


def _check_name(what: str, name: object, form: re.Pattern[str]) -> None:
    if not isinstance(name, str) or not form.fullmatch(name):
        last = "a letter" if form is _DIMENSION else "a letter or a digit"
        raise Mistake(f"{what} name {name!r}: write lower-case letters, digits and underscores, a letter first and {last} last")


def _is_module(value: object) -> bool:
    """Whether it is an nn.Module.  torch is not imported for that: whoever made one has done so."""
    return any(kind.__module__.startswith("torch.nn") and kind.__name__ == "Module" for kind in type(value).__mro__)


def _given(value: object) -> str:
    return "empty" if value == {} else _brief(value)


def _brief(value: object) -> str:
    """A value in a sentence: its first line, or only what it is where that is long, as of a tensor."""
    shown = repr(value)
    if len(shown) <= LONGEST and "\n" not in shown:
        return shown
    return f"a {type(value).__name__}"


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
