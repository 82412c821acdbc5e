"""What a layer author writes: `Layer`, `Variant` and the inputs `randn`, `positive` and `integers`.

Values only: nothing is registered, built or imported here, and torch is not needed to declare.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NoReturn, get_args

from .fields import DIMENSION, NAME, check_flags, check_name, is_module, is_size, parameters, shown, takes
from .mistake import Mistake

if TYPE_CHECKING:
    from torch import nn

    from ..law import Law

Devices = Literal["any", "cpu", "gpu"]
ANY: Devices = "any"
CPU: Devices = "cpu"
GPU: Devices = "gpu"  # on a machine without one, Triton variants are proved under Triton's interpreter

Init = Literal["default", "normal", "xavier", "kaiming"]  # of a parameter of two or more dimensions; others keep their own

Kind = Literal["normal", "positive", "integers"]
Size = Mapping[str, int]
HARNESS = __package__.rpartition(".")[0]
NOISE_FLOOR = "noise_floor"  # reserved: the second copy of the reference that every point measures


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

    def words(self) -> tuple[str, ...]:
        """The sweep dimensions this input mentions."""
        return tuple(word for word in (*self.dims, self.below) if isinstance(word, str))

    def wrong(self) -> str:
        """What is wrong with it and what to write, as the end of a sentence; "" where nothing is."""
        if not isinstance(self.dims, tuple | list) or not all(isinstance(dim, str) or is_size(dim) for dim in self.dims):
            return f'has dims {shown(self.dims)}; write names from the sweep or positive whole numbers, as randn("batch", 28)'
        if self.kind not in get_args(Kind):
            return f"has kind {shown(self.kind)}; choose from {', '.join(get_args(Kind))}"
        if self.kind != "integers":
            return f"is {self.kind} and has below={shown(self.below)}; only integers have it: remove it" if self.below is not None else ""
        if not isinstance(self.below, str) and not is_size(self.below):
            return f'has below={shown(self.below)}; write a positive whole number or a name from the sweep, as integers("batch", below=10)'
        return ""


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

    def wrong(self) -> str:
        """What is wrong with it and what to write, as the end of a sentence; "" where nothing is."""
        if is_module(self.module):
            if (inner := getattr(self.module, "_orig_mod", None)) is not None:  # as torch.compile keeps it
                return f"is compiled already; give the class, as Variant({type(inner).__name__}, compile=True)"
            name = type(self.module).__name__
            return f"is {shown(self.module)}; give the class, as Variant({name}), or a function that makes one"
        if not callable(self.module):
            return f"has module {shown(self.module)}; give a class, as Variant(nn.Linear), or a function that returns a module"
        if not isinstance(self.compile, bool):
            return f"has compile={shown(self.compile)}; write True or False"
        if self.devices not in get_args(Devices):
            return f"has devices={shown(self.devices)}; write ANY, CPU or GPU"
        return ""


@dataclass(frozen=True)
class Layer:
    """Equivalent variants of one layer and the sizes at which they are compared.

    name       lower-case letters, digits and underscores; it is the first word of every id.
    sweep      dimension -> the values to visit; every combination is a point.  The first dimension is the charts' x axis.
    inputs     the tensors that the module is called with.
    build      build(variant.module, size) -> nn.Module, with size a mapping from dimension to its value.
    variants   name -> Variant.  The first is the reference: weights are copied from it, ratios are taken against it.
    verify_at  more sizes at which variants must agree, each overriding some of the sweep's smallest values;
               choose some that are no multiple of any block.  None given: the first dimension at 3, then each at odd sizes.
    absent     variant -> a sentence that says why the layer does not have it; the report shows it.
    law        of a random layer, what must hold of every draw, as law.dropout(0.1): its values are not compared with the reference's.
    init       the weights that are timed: "default", the module's own, or "normal", "xavier", "kaiming".  Equivalence is proved with each.
    calls      of a layer that changes its own state, how many calls are made before outputs and state are compared; 1 of others.
    on_request leave the layer out of a run that names no layers: --all and -k measure it.  For suites too long to run whole every time.
    gpu_sweep  dimension -> the values to visit on a GPU instead of the sweep's; a dimension that is left out keeps the sweep's.
    batch_invariant  reject a variant of which the bits of a row depend on the rows beside it.  The reference may: it is what it is.

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
    gpu_sweep: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    batch_invariant: bool = False

    def __post_init__(self) -> None:
        check_name("layer", self.name, NAME)
        self._check_sweeps()
        self._check_verify_at()
        self._check_inputs()
        self._check_build()
        self._check_law()
        self._check_variants()
        self._check_absent()
        if self.init not in get_args(Init):
            self._refuse("init", self.init, f"choose from {', '.join(get_args(Init))}")
        if not is_size(self.calls):
            self._refuse("calls", self.calls, "write how many calls are made before state is compared, as 4")
        check_flags(self.name, self.sweep, on_request=self.on_request, batch_invariant=self.batch_invariant)

    def sweep_on(self, device: str) -> dict[str, tuple[int, ...]]:
        """Dimension -> the values that are visited on a kind of device, as "cuda": the sweep's on "cpu"."""
        return dict(self.sweep) if device == "cpu" else {**self.sweep, **self.gpu_sweep}

    def _refuse(self, field: str, value: object, fix: str) -> NoReturn:
        raise Mistake(f"layer {self.name!r}: {field} is {shown(value)}; {fix}")

    def _check_sweeps(self) -> None:
        if isinstance(self.sweep, Mapping) and not self.sweep:
            raise Mistake(f'layer {self.name!r}: the sweep is empty; write for example sweep={{"batch": (1, 8, 64)}}')
        for name, sweep in (("sweep", self.sweep), ("gpu_sweep", self.gpu_sweep)):
            if not isinstance(sweep, Mapping):
                self._refuse(name, sweep, 'write a dict from dimension to sizes, as {"batch": (1, 8, 64)}')
            for dimension, values in sweep.items():
                if name == "gpu_sweep":
                    self._check_dimension(name, dimension)
                check_name("sweep dimension", dimension, DIMENSION)
                if not isinstance(values, tuple | list) or not values or not all(is_size(value) for value in values):
                    self._refuse(f"{name}[{dimension!r}]", values, "write a tuple of positive whole numbers, as (1, 8, 64)")
                if len(set(values)) < len(values):
                    self._refuse(f"{name}[{dimension!r}]", values, "write every size once")

    def _check_verify_at(self) -> None:
        if not isinstance(self.verify_at, tuple | list) or not all(isinstance(size, Mapping) for size in self.verify_at):
            self._refuse("verify_at", self.verify_at, f"write a tuple of dicts, as ({{{next(iter(self.sweep))!r}: 3}},)")
        for size in self.verify_at:
            for dimension, value in size.items():
                self._check_dimension("verify_at", dimension)
                if not is_size(value) and not (type(value) is int and value == 0):
                    raise Mistake(f"layer {self.name!r}: verify_at has {dimension}={shown(value)}; write a whole number")

    def _check_inputs(self) -> None:
        if not isinstance(self.inputs, tuple | list):
            self._refuse("inputs", self.inputs, 'write a tuple, as (randn("batch", "width"),)')
        for index, draw in enumerate(self.inputs):
            if not isinstance(draw, Draw):
                self._refuse(f"inputs[{index}]", draw, 'say how it is drawn, as randn("batch", "width")')
            if wrong := draw.wrong():
                raise Mistake(f"layer {self.name!r}: inputs[{index}] {wrong}")
            for dimension in draw.words():
                self._check_dimension("input", dimension)
            if any(isinstance(draw.below, str) and size.get(draw.below) == 0 for size in self.verify_at):
                raise Mistake(f"layer {self.name!r}: verify_at has {draw.below}=0, and inputs[{index}] is drawn below it; write at least 1")

    def _check_build(self) -> None:
        example = "write a function of the variant's module and the size, as  lambda module, size: module(...)"
        if not callable(self.build) or is_module(self.build):
            self._refuse("build", self.build, example)
        if not takes(self.build, "module", "size"):
            raise Mistake(f"layer {self.name!r}: build takes {parameters(self.build)}; {example}")

    def _check_law(self) -> None:
        if self.law is None:
            return
        if not callable(self.law):
            self._refuse("law", self.law, "write for example law=law.dropout(0.1)")
        if getattr(self.law, "__module__", "") == f"{HARNESS}.law" and "<locals>" not in self.law.__qualname__:
            self._refuse("law", self.law, f"call it, as law=law.{self.law.__name__}(0.1)")
        if not takes(self.law, "seen", "again"):
            example = "write a function of two observations, as  lambda seen, again: {...}"
            raise Mistake(f"layer {self.name!r}: law takes {parameters(self.law)}; {example}")

    def _check_variants(self) -> None:
        if not isinstance(self.variants, Mapping):
            self._refuse("variants", self.variants, 'write a dict from name to Variant, as {"stock": Variant(nn.Linear)}')
        if not self.variants:
            raise Mistake(f'layer {self.name!r}: no variants; write for example variants={{"stock": Variant(nn.Linear)}}')
        for name, variant in self.variants.items():
            check_name("variant", name, NAME)
            if name == NOISE_FLOOR:
                raise Mistake(f"layer {self.name!r}: the variant name {NOISE_FLOOR!r} is taken; choose another")
            if not isinstance(variant, Variant):
                raise Mistake(f"layer {self.name!r}: variant {name!r} is {shown(variant)}; write Variant(YourModule)")
            if wrong := variant.wrong():
                raise Mistake(f"layer {self.name!r}: variant {name!r} {wrong}")
        reference, first = next(iter(self.variants.items()))
        if first.devices != ANY:
            raise Mistake(
                f"layer {self.name!r}: the first variant {reference!r} is the reference and must run on every device; remove devices="
            )

    def _check_absent(self) -> None:
        example = 'write a dict from variant to the reason, as {"triton": "the library\'s own kernel is called"}'
        if not isinstance(self.absent, Mapping):
            self._refuse("absent", self.absent, example)
        for name, why in self.absent.items():
            check_name("absent variant", name, NAME)
            if not isinstance(why, str) or not why.strip():
                self._refuse(f"absent[{name!r}]", why, "write a sentence that says why the layer does not have it")
            if name in self.variants:
                raise Mistake(f"layer {self.name!r}: {name!r} is both in variants and in absent; remove one")

    def _check_dimension(self, what: str, dimension: str) -> None:
        if dimension not in self.sweep:
            raise Mistake(f"{what} dimension {shown(dimension)} is not in sweep; it has {', '.join(self.sweep)}")
