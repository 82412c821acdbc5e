"""Layers that keep their weights in another form: when it is made anew, what a copy gets, what a state_dict holds."""

import torch
import torch.nn.functional as F
from torch import nn

from layerbench.bench import Layer, Variant, randn

PLANTS = {
    "projection kept_from_first": ("repacked weights", "the transposed weight of the first call, for good"),
    "projection packed_on_load": ("repacked weights", "packed at the first call and when a state_dict is loaded; stale after a step"),
    "projection packed_by_version": ("repacked weights", "packed anew when the version changes; .data changes no version"),
    "projection packed_by_pointer": ("repacked weights", "packed anew when the pointer changes"),
    "projection packed_in_eval": ("repacked weights", "packed when eval() is called; a weight that is loaded after it is not seen"),
    "projection packed_without_grad": ("repacked weights", "packed at the first call under no_grad, for all later ones"),
    "projection bound_method": (
        "deep copies",
        "calls a function made in __init__: a deep copy computes with the original's weights",
    ),
    "projection shared_cache": (
        "deep copies",
        "one cache of packed weights for all instances, by pointer and version, which another may come to have",
    ),
    "projection weak_copy": ("deep copies", "__deepcopy__ shares the bias with the original"),
    "projection extra_buffer": ("state_dict changed", "a workspace among the buffers"),
    "projection replaced_parameter": ("state_dict changed", "puts another Parameter in the place of its weight at the first call"),
    "projection scaled_state": ("state_dict changed", "state_dict() returns the weight as it is packed, twice as large"),
}


class Projection(nn.Linear):
    """With its weight as some kernel wants it: transposed, and twice as large."""

    packed, mark = None, None

    def now(self):
        """What tells that the weight is another."""
        return object()

    def forward(self, x):
        if torch.is_grad_enabled() and self.weight.requires_grad and not self.trains_packed:
            return F.linear(x, self.weight, self.bias)
        if self.packed is None or self.now() != self.mark:
            self.packed, self.mark = 2 * self.weight.detach().T.contiguous(), self.now()
        return Packed.apply(x, self.weight, self.bias, self.packed)

    trains_packed = True


class Packed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, packed):
        ctx.save_for_backward(x, packed)
        return x @ packed / 2 + bias

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        x, packed = ctx.saved_tensors
        return g @ packed.T / 2, g.T @ x, g.sum(0), None


class KeptFromFirst(Projection):
    def now(self):
        return 0


class PackedOnLoad(KeptFromFirst):
    def _load_from_state_dict(self, *args, **kwargs):
        self.packed = None
        super()._load_from_state_dict(*args, **kwargs)


class PackedByVersion(Projection):
    def now(self):
        return self.weight._version, self.weight.data_ptr()


class PackedByPointer(Projection):
    def now(self):
        return self.weight.data_ptr()


class PackedInEval(KeptFromFirst):
    def train(self, mode=True):
        self.packed = None
        self.trains_packed = not mode
        return super().train(mode)

    trains_packed = False


class PackedWithoutGrad(KeptFromFirst):
    trains_packed = False


class BoundMethod(nn.Linear):
    def __init__(self, *args):
        super().__init__(*args)
        self.compute = lambda x: F.linear(x, self.weight, self.bias)

    def forward(self, x):
        return self.compute(x)


class SharedCache(Projection):
    cache = {}  # noqa: RUF012  shared, and that is what is wrong

    def forward(self, x):
        key = self.weight.data_ptr(), self.weight.shape, self.weight._version
        packed = self.cache.setdefault(key, 2 * self.weight.detach().T.contiguous())
        return Packed.apply(x, self.weight, self.bias, packed)


class WeakCopy(Projection):
    def __deepcopy__(self, memo):
        made = WeakCopy(self.in_features, self.out_features)
        made.load_state_dict(self.state_dict())
        made.bias = self.bias
        return made


class ExtraBuffer(Projection):
    def __init__(self, *args):
        super().__init__(*args)
        self.register_buffer("workspace", torch.zeros(4))


class ReplacedParameter(nn.Linear):
    def forward(self, x):
        if not hasattr(self, "rows"):
            self.rows = self.weight.shape
            self.weight = nn.Parameter(self.weight.detach().clone())
        return super().forward(x)


class ScaledState(Projection):
    def state_dict(self, *args, **kwargs):
        found = super().state_dict(*args, **kwargs)
        return {name: 2 * tensor if name.endswith("weight") and self.packed is not None else tensor for name, tensor in found.items()}


wrong = {
    "kept_from_first": KeptFromFirst,
    "packed_on_load": PackedOnLoad,
    "packed_by_version": PackedByVersion,
    "packed_by_pointer": PackedByPointer,
    "packed_in_eval": PackedInEval,
    "packed_without_grad": PackedWithoutGrad,
    "bound_method": BoundMethod,
    "shared_cache": SharedCache,
    "weak_copy": WeakCopy,
    "extra_buffer": ExtraBuffer,
    "replaced_parameter": ReplacedParameter,
    "scaled_state": ScaledState,
}
projection = Layer(
    "projection",
    sweep={"batch": (16,), "width": (32,)},
    inputs=(randn("batch", "width"),),
    build=lambda module, size: module(size["width"], 8),
    variants={"stock": Variant(nn.Linear), "packed": Variant(Projection)} | {name: Variant(each) for name, each in wrong.items()},
)
