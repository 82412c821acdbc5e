"""Feed-forward layer of a Transformer:  y = GELU(x W1^T + b1) W2^T + b2.   (Vaswani et al., 2017, arXiv:1706.03762; GELU: arXiv:1606.08415)

GELU(z) = z P(z)  with  P(z) = (1 + erf(z / sqrt 2)) / 2.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn
from ._autograd import once_differentiable


class MLP(nn.Module):
    """Stock.  (..., width) -> (..., width) through `hidden` numbers."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))


class MLPFunction(torch.autograd.Function):
    """With  z = x W1^T + b1,  h = GELU(z)  and the normal density p:

    dL/dW2 = g^T h,  dL/db2 = sum of g,  d = (g W2) (P(z) + z p(z)),  dL/dx = d W1,  dL/dW1 = d^T x,  dL/db1 = sum of d.
    Saves z; x only if W1 wants a gradient, W1 only if x wants one, and W2 only if anything before it does.  h, which stock saves too, is  z
    P(z),  and P is needed anyway: one hidden tensor instead of two.  Backward's peak is above stock's all the same: stock frees its tensors
    one by one as it walks back, a Function all at its end.  Half types: GELU and its slope in float32, as stock does.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
        z = F.linear(x, weight1, bias1)
        wants_x, wants_weight1, wants_bias1, *_ = ctx.needs_input_grad
        weight2_needed = wants_x or wants_weight1 or wants_bias1
        ctx.save_for_backward(x if wants_weight1 else None, weight1 if wants_x else None, weight2 if weight2_needed else None, z)
        return F.linear(F.gelu(z), weight2, bias2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight1, weight2, z = ctx.saved_tensors
        wants_x, wants_weight1, wants_bias1, wants_weight2, wants_bias2 = ctx.needs_input_grad
        rows, z = grad.reshape(-1, grad.shape[-1]), z.reshape(-1, z.shape[-1])  # every leading dimension is a batch
        grad_bias2 = rows.sum(0) if wants_bias2 else None
        value, slope = gelu_and_slope(z.to(torch.promote_types(z.dtype, torch.float32)))
        grad_weight2 = rows.T @ value.to(z.dtype) if wants_weight2 else None
        del value  # before the other products, which need memory for their results
        if not (wants_x or wants_weight1 or wants_bias1):
            return None, None, None, grad_weight2, grad_bias2
        d = slope.mul_(rows @ weight2).to(z.dtype)
        return (
            (d @ weight1).view(*grad.shape[:-1], weight1.shape[1]) if wants_x else None,
            d.T @ x.reshape(-1, x.shape[-1]) if wants_weight1 else None,
            d.sum(0) if wants_bias1 else None,
            grad_weight2,
            grad_bias2,
        )


def gelu_and_slope(z: Tensor) -> tuple[Tensor, Tensor]:
    """GELU(z) = z P(z) and its slope P(z) + z p(z)."""
    probability = z.mul(math.sqrt(0.5)).erf_().add_(1).mul_(0.5)
    value = z * probability
    power = z.square().mul_(-0.5 / math.log(2)).exp2_()  # exp(-z^2 / 2); on a CPU exp2 is the faster of the two
    return value, probability.addcmul_(z, power, value=1 / math.sqrt(2 * math.pi))


class FunctionMLP(MLP):
    """MLP with the hand-derived backward of MLPFunction."""

    def forward(self, x: Tensor) -> Tensor:
        return MLPFunction.apply(x, self.up.weight, self.up.bias, self.down.weight, self.down.bias)


class TritonMLP(MLP):
    """MLP with the Triton kernels of kernels/linear_gelu.py and kernels/matmul.py.  Saves z and h, as stock does."""

    def forward(self, x: Tensor) -> Tensor:
        from ..kernels.linear_gelu import linear_gelu  # here, so that this file can be read where Triton is not installed
        from ..kernels.matmul import linear

        return linear(linear_gelu(x, self.up.weight, self.up.bias), self.down.weight, self.down.bias)


mlp = Layer(
    "mlp",
    sweep={"batch": (1, 16, 128), "width": (192,), "hidden": (768,)},
    inputs=(randn("batch", "width"),),
    build=lambda module, size: module(size["width"], size["hidden"]),
    variants={
        "stock": Variant(MLP),
        "function": Variant(FunctionMLP),
        "triton": Variant(TritonMLP, devices=GPU),
        "compile": Variant(MLP, compile=True),
    },
    verify_at=(
        {"batch": 3, "width": 7, "hidden": 11},
        {"batch": 67, "width": 37, "hidden": 130},
    ),
    on_request=True,
    gpu_sweep={"batch": (1, 256, 8192), "width": (1024,), "hidden": (4096,)},
)
