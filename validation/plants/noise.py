"""Random layers: dropout of another rate or scale, masks that repeat, masks that are not those of backward."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from layerbench.bench import Layer, Variant, randn
from layerbench.bench.law import dropout

PLANTS = {
    "dropout unscaled": ("dropout", "what is kept is not divided by 0.8"),
    "dropout rate": ("dropout", "drops 0.22, not 0.2"),
    "dropout rate_swapped": ("dropout", "keeps 0.2 and drops 0.8"),
    "dropout same_mask": ("dropout", "one mask for all calls"),
    "dropout mask_of_a_row": ("dropout", "one mask for all rows"),
    "dropout mask_of_backward": ("dropout", "backward draws another mask"),
    "dropout backward_unscaled": ("dropout", "backward is not divided by 0.8"),
    "dropout last_kept": ("dropout", "never drops the last column"),
    "dropout seeded": ("dropout", "seeds torch's generator, so that the mask is the same after every reset"),
    "dropout private_seed": ("dropout", "a generator of its own, with a fixed seed for every call"),
    "dropout active_in_eval": ("train and eval", "drops in eval(), too"),
    "dropout large_dropped": ("dropout", "the largest fifth is dropped"),
    "dropout whole_blocks": ("dropout", "drops neighbours in pairs"),
    "noisy variance": ("random numbers", "adds uniform numbers of the same width, not normal ones of the same variance"),
    "noisy shared": ("random numbers", "one random number for each row"),
    "noisy shifted": ("random numbers", "the mean is 0.05, not 0"),
}
P = 0.2


class Dropout(nn.Module):
    def __init__(self):
        super().__init__()
        self.kept = {}

    def mask(self, x):
        return (torch.rand_like(x) >= P).to(x.dtype) / (1 - P)

    def forward(self, x):
        return x * self.mask(x) if self.training else x


class Unscaled(Dropout):
    def mask(self, x):
        return (torch.rand_like(x) >= P).to(x.dtype)


class Rate(Dropout):
    def mask(self, x):
        return (torch.rand_like(x) >= 0.22).to(x.dtype) / (1 - P)


class RateSwapped(Dropout):
    def mask(self, x):
        return (torch.rand_like(x) < P).to(x.dtype) / P


class SameMask(Dropout):
    def mask(self, x):
        return self.kept.setdefault((x.shape, x.dtype), super().mask(x))


class MaskOfARow(Dropout):
    def mask(self, x):
        return super().mask(x[:1])


class Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, mask, again):
        ctx.save_for_backward(mask)
        ctx.again = again
        return x * mask

    @staticmethod
    def backward(ctx, g):
        return g * ctx.again(ctx.saved_tensors[0]), None, None


class Own(Dropout):
    def again(self, mask):
        return mask

    def forward(self, x):
        return Function.apply(x, self.mask(x), self.again) if self.training else x


class MaskOfBackward(Own):
    def again(self, mask):
        return self.mask(mask)


class BackwardUnscaled(Own):
    def again(self, mask):
        return mask * (1 - P)


class LastKept(Dropout):
    def mask(self, x):
        mask = super().mask(x)
        mask[:, -1] = 1 / (1 - P)
        return mask


class Seeded(Dropout):
    calls = 0

    def mask(self, x):
        self.calls += 1
        torch.manual_seed(self.calls)
        return super().mask(x)


class PrivateSeed(Dropout):
    def mask(self, x):
        drawn = torch.rand(x.shape, generator=torch.Generator().manual_seed(1234)).to(x)
        return (drawn >= P).to(x.dtype) / (1 - P)


class ActiveInEval(Dropout):
    def forward(self, x):
        return x * self.mask(x)


class LargeDropped(Dropout):
    def mask(self, x):
        return (x.detach() < x.detach().flatten().quantile(1 - P)).to(x.dtype) / (1 - P)


class WholeBlocks(Dropout):
    def mask(self, x):
        return super().mask(x[:, ::2]).repeat_interleave(2, 1)[:, : x.shape[1]]


wrong = {
    "unscaled": Unscaled,
    "rate": Rate,
    "rate_swapped": RateSwapped,
    "same_mask": SameMask,
    "mask_of_a_row": MaskOfARow,
    "mask_of_backward": MaskOfBackward,
    "backward_unscaled": BackwardUnscaled,
    "last_kept": LastKept,
    "seeded": Seeded,
    "private_seed": PrivateSeed,
    "active_in_eval": ActiveInEval,
    "large_dropped": LargeDropped,
    "whole_blocks": WholeBlocks,
}
layer = Layer(
    "dropout",
    sweep={"batch": (64,), "width": (256,)},
    inputs=(randn("batch", "width"),),
    variants={"stock": Variant(partial(nn.Dropout, P)), "by_hand": Variant(Dropout), "own": Variant(Own)}
    | {name: Variant(made) for name, made in wrong.items()},
    law=dropout(P),
)


class Noisy(nn.Module):
    """y = silu(x) + e / 4, e normal."""

    def forward(self, x):
        return F.silu(x) + self.drawn(x) / 4

    def drawn(self, x):
        return torch.randn_like(x)


class ByBoxMuller(Noisy):
    def drawn(self, x):
        u, v = torch.rand_like(x), torch.rand_like(x)
        return (-2 * (1 - u).log()).sqrt() * (2 * torch.pi * v).cos()


class Uniform(Noisy):
    def drawn(self, x):
        return 2 * torch.rand_like(x) - 1


class Shared(Noisy):
    def drawn(self, x):
        return torch.randn_like(x[:, :1]).expand_as(x)


class Shifted(Noisy):
    def drawn(self, x):
        return torch.randn_like(x) + 0.2


noisy = Layer(
    "noisy",
    sweep={"batch": (64,), "width": (256,)},
    inputs=(randn("batch", "width"),),
    variants={
        "stock": Variant(Noisy),
        "own": Variant(ByBoxMuller),
        "variance": Variant(Uniform),
        "shared": Variant(Shared),
        "shifted": Variant(Shifted),
    },
    law="moments",
)
