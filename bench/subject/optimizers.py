"""The optimizers of the step `update`, over a layer's parameters.  As layers of their own, one against the other, they are in layers/."""

from collections.abc import Callable

import torch
from torch import nn
from torch.optim import Optimizer

EPS = 1e-6  # torch's 1e-8 is 0 in float16, and 0 / 0 would fill the weights with NaN

KINDS: dict[str, Callable[..., Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.0, momentum=0.9, weight_decay=1e-4),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.0, eps=EPS),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.0, eps=EPS),
    "rmsprop": lambda parameters: torch.optim.RMSprop(parameters, lr=0.0, eps=EPS),
}


def of(name: str, module: nn.Module) -> Optimizer:
    """torch's own choice of loop, foreach or fused, for the parameters that want a gradient; there must be one.

    The learning rate is 0: the arithmetic is the same, and the weights of the millionth call are those of the first.
    """
    return KINDS[name]([parameter for parameter in module.parameters() if parameter.requires_grad])
