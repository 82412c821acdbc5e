"""What a layer author writes: a `Layer`, of `Variant`s and of inputs, and whether its parts fit together.

Values only: nothing is registered, built or imported here, and torch is not needed to declare.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NoReturn, get_args

from .fields import DIMENSION, NAME, check_flags, check_name, is_module, is_size, parameters, shown, takes
from .inputs import Draw, Size, draws_of, is_keyword, wrong_argument
from .mistake import Mistake
from .variant import ANY, Variant

if TYPE_CHECKING:
    from torch import nn

    from ..law import Law

Init = Literal["default", "normal", "xavier", "kaiming"]  # of a parameter of two or more dimensions; others keep their own

Random = Literal["seed", "moments"]  # of a random layer without a law of its own: what its variants have in common
HARNESS = __package__.rpartition(".")[0]
NOISE_FLOOR = "noise_floor"  # reserved: the second copy of the reference that every point measures


@dataclass(frozen=True)
class Layer:
    """Equivalent variants of one layer and the sizes at which they are compared.

    name       lower-case letters, digits and underscores; it is the first word of every id.
    sweep      dimension -> the values to visit; every combination is a point.  The first dimension is the charts' x axis.
    inputs     what the module is called with: draws, lists or dicts of them, plain values.
    build      build(variant.module, size) -> nn.Module, or a function that is the layer.  Left out: a class is made without arguments, and
               any other function is the layer itself.
    variants   name -> Variant.  The first is the reference: weights are copied from it, ratios are taken against it.
    verify_at  more sizes at which variants must agree, each overriding some of the sweep's smallest values;
               choose some that are no multiple of any block.  None given: the first dimension at 3, then each at odd sizes.
    absent     variant -> a sentence that says why the layer does not have it; the report shows it.
    law        of a random layer, what must hold of every draw, as law.dropout(0.1): its values are not compared with the reference's.
               Or "seed": after one seed all variants draw the same numbers.  Or "moments": they draw others, of the same moments.
    init       the weights that are timed: "default", the module's own, or "normal", "xavier", "kaiming".  Equivalence is proved with each.
    calls      of a layer that changes its own state, how many calls are made before outputs and state are compared; 1 of others.
    on_request leave the layer out of a run that names no layers: --all and -k measure it.  For suites too long to run whole every time.
    gpu_sweep  dimension -> the values to visit on a GPU instead of the sweep's; a dimension that is left out keeps the sweep's.
    batch_invariant  reject a variant of which the bits of a row depend on the rows beside it.  The reference may: it is what it is.
    kwargs     keyword -> what the module is called with by that name.
    parameters  of variants that are functions: name -> how it is drawn.  Functions get them behind the inputs.

    Raises Mistake where the parts do not fit together.
    """

    name: str
    sweep: Mapping[str, tuple[int, ...]]
    inputs: tuple[object, ...]
    build: "Callable[[Callable[..., nn.Module], Size], nn.Module] | None" = None
    variants: Mapping[str, Variant] = field(default_factory=dict)
    verify_at: tuple[Size, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
    law: "Law | Random | None" = None
    init: Init = "default"
    calls: int = 1
    on_request: bool = False
    gpu_sweep: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    batch_invariant: bool = False
    kwargs: Mapping[str, object] = field(default_factory=dict)
    parameters: Mapping[str, Draw] = field(default_factory=dict)

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

    @property
    def draws(self) -> tuple[Draw, ...]:
        """The tensors of its inputs and keyword arguments, in order."""
        return tuple(draw for _, draw in self.named_draws)

    @property
    def named_draws(self) -> tuple[tuple[str, Draw], ...]:
        """The same, each with the name by which it is declared, as inputs[0] or kwargs['mask']."""
        return (*draws_of(self.inputs, "inputs"), *draws_of(self.kwargs, "kwargs"))

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
        if not isinstance(self.kwargs, Mapping) or not all(map(is_keyword, self.kwargs)):
            self._refuse("kwargs", self.kwargs, 'write a dict from keyword to how it is drawn, as {"mask": mask("batch", "tokens")}')
        if not isinstance(self.parameters, Mapping):
            self._refuse("parameters", self.parameters, 'write a dict from name to how it is drawn, as {"weight": randn("out", "in")}')
        named = {f"inputs[{index}]": each for index, each in enumerate(self.inputs)}
        named |= {f"kwargs[{key!r}]": each for key, each in self.kwargs.items()}
        named |= {f"parameters[{key!r}]": each for key, each in self.parameters.items()}
        for name, each in named.items():
            if wrong := wrong_argument(name, each, self.sweep):
                raise Mistake(f"layer {self.name!r}: {wrong}")
            for _, draw in draws_of(each):
                self._check_draw(name, draw)
        for name, each in self.parameters.items():
            if not is_keyword(name) or not isinstance(each, Draw) or not each.requires_grad or each.kind in ("integers", "lengths", "mask"):
                self._refuse(f"parameters[{name!r}]", each, 'write a name and what it is drawn as, {"weight": randn("width")}')

    def _check_draw(self, name: str, draw: Draw) -> None:
        for dimension in draw.words():
            self._check_dimension("input", dimension)
        if any(isinstance(draw.below, str) and size.get(draw.below) == 0 for size in self.verify_at):
            raise Mistake(f"layer {self.name!r}: verify_at has {draw.below}=0, and {name} is drawn below it; write at least 1")

    def _check_build(self) -> None:
        example = "write a function of the variant's module and the size, as  lambda module, size: module(...)"
        if self.build is None:
            return
        if not callable(self.build) or is_module(self.build):
            self._refuse("build", self.build, example)
        if not takes(self.build, "module", "size"):
            raise Mistake(f"layer {self.name!r}: build takes {parameters(self.build)}; {example}")

    def _check_law(self) -> None:
        if self.law is None or (isinstance(self.law, str) and self.law in get_args(Random)):
            return
        if not callable(self.law):
            self._refuse("law", self.law, 'write "seed", "moments" or a law, as law.dropout(0.1)')
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
