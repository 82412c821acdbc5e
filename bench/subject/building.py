"""Modules of a point: the reference with weights drawn from a seed, and every variant with the same weights.

A layer may be a function, and a module may be lazy: here both become modules like any other.
"""

import functools
import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..declare.fields import shown
from ..declare.inputs import Size
from ..declare.layer import Init, Layer
from ..declare.mistake import Mistake
from ..declare.variant import Variant
from . import randomness, states
from .arguments import arrange, cast, draw

MADE_FOR = "_layerbench_made_for"  # the attribute of a reference: its dtype and device, which variants share though it may have no weights
INITS: dict[Init, Callable[[Tensor], object]] = {
    "default": lambda weight: weight,
    "normal": nn.init.normal_,
    "xavier": nn.init.xavier_normal_,  # Glorot & Bengio, AISTATS 2010
    "kaiming": nn.init.kaiming_normal_,  # He et al., 2015, arXiv:1502.01852
}


@torch.inference_mode(mode=False)  # a model is made, or loaded, before it is served
def reference(layer: Layer, size: Size, dtype: torch.dtype, device: str, seed: int, init: Init | None = None) -> nn.Module:
    """The reference variant's module with the weights that every variant of the point gets, rounded to dtype.

    They are those of an initialisation, the layer's unless told otherwise, with a tenth of noise added: a variant that ignores a weight
    of ones or a bias of zeros would otherwise pass for the same layer.
    """
    randomness.seed(seed)
    module = build(layer, next(iter(layer.variants.values())), size)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() > 1 and parameter.numel():
                INITS[init or layer.init](parameter)
        for parameter in module.parameters():
            scale = float(parameter.abs().square().mean().sqrt()) if parameter.numel() else 0.0
            parameter.add_(torch.randn_like(parameter), alpha=0.1 * (scale or 1.0))
    module = in_dtype(module, dtype, device)
    setattr(module, MADE_FOR, (dtype, torch.device(device)))
    return module


@torch.inference_mode(mode=False)
def variant_module(layer: Layer, variant: str, size: Size, weights: nn.Module) -> nn.Module:
    """A variant's module with the given weights, on their device and in their dtype.  Raises Mistake where the state_dicts differ.

    A module that is in eval() as it is made, or of which a part is, stays so; in eval() it is wherever the reference is.
    """
    declared = layer.variants[variant]
    module = build(layer, declared, size)
    states.prepare(module, variant, declared.state, next(iter(layer.variants)), weights)
    states.load(module, weights)
    module = in_dtype(module, *getattr(weights, MADE_FOR))
    return module if module.training == weights.training else module.train(weights.training)


def in_dtype(module: nn.Module, dtype: torch.dtype, device: object) -> nn.Module:
    """As `module.to`, but complex numbers stay complex."""
    moved = module.to(device)  # type: ignore[call-overload]
    if any(tensor.is_complex() for tensor in [*module.parameters(), *module.buffers()]):
        return moved._apply(lambda tensor: cast(tensor, dtype))
    return moved.to(dtype)


class Sizes(dict[str, int]):
    """What `build` is given: dimension -> its value."""

    def __missing__(self, dimension: object) -> int:
        raise Mistake(f"build asks for size[{dimension!r}], which is not in sweep; it has {', '.join(self)}")


def build(layer: Layer, variant: Variant, size: Size) -> nn.Module:
    """The variant's module as the layer builds it, to be called with the layer's tensors.  Raises Mistake where that is none."""
    module: object
    if layer.build:
        module = layer.build(variant.module, Sizes(size))
    else:
        module = variant.module() if _makes_modules(variant.module) else variant.module
    if not isinstance(module, nn.Module):
        if not callable(module) or inspect.isclass(module):
            raise Mistake(
                f"layer {layer.name!r}: build returned {type(module).__name__}, not an nn.Module; return module(...)"
                if layer.build
                else f"layer {layer.name!r}: {shown(variant.module)} made {type(module).__name__}, not an nn.Module; give a module's class"
            )
        module = FunctionLayer(module, layer, size)
    arrange(layer, module)
    if any(map(is_lazy, [*module.parameters(), *module.buffers()])):
        _materialize(module, layer, size)
    return module


def _makes_modules(given: object) -> bool:
    return inspect.isclass(given.func if isinstance(given, functools.partial) else given)


class FunctionLayer(nn.Module):
    """A function as a module: it is called with the inputs, then the layer's parameters, in the order in which they are declared."""

    def __init__(self, function: Callable[..., object], layer: Layer, size: Size) -> None:
        super().__init__()
        self.function, self.names = function, tuple(layer.parameters)
        at, seed = torch.get_default_device().type, int(torch.randint(2**31, (1,), device="cpu"))
        for name, numbers in zip(self.names, draw(tuple(layer.parameters.values()), size, torch.float32, at, seed), strict=True):
            self.register_parameter(name, nn.Parameter(numbers.detach()))

    def forward(self, *arguments: object, **kwargs: object) -> object:
        found = self.function(*arguments, *[getattr(self, name) for name in self.names], **kwargs)
        if isinstance(found, nn.Module):
            name = getattr(self.function, "__name__", "the function")
            raise Mistake(f"{name} returned a {type(found).__name__}; to have a function make modules, give build")
        return found


def _materialize(module: nn.Module, layer: Layer, size: Size) -> None:
    """Give a lazy module its shapes, by one call.  In eval(), where it keeps no statistics."""
    modes = {each: each.training for each in module.modules()}
    with torch.no_grad():
        module.eval()(*draw(layer.draws, size, torch.float32, "cpu", 0))
    for each, training in modes.items():
        each.training = training


def copied(module: nn.Module, like: nn.Module) -> nn.Module:
    """A module with another's weights, in the mode of each of its parts."""
    module.load_state_dict(like.state_dict())
    for mine, theirs in zip(module.modules(), like.modules(), strict=True):
        mine.training = theirs.training
    return module
