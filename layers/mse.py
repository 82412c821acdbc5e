"""Mean squared error:  L = mean over all n numbers of (x - t)^2.   (torch.nn.MSELoss)"""

from typing import Any

import torch
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn


class MSEFunction(torch.autograd.Function):
    """dL/dx = 2 (x - t) / n,  dL/dt = -dL/dx.

    Saves x and t, which the caller has anyway; the difference is one operation away.
    Half types are computed in float32, which costs a float32 copy of x; stock rounds each square to the half type.
    On a CPU forward goes over memory once each for difference, square and mean, where stock makes the first two in one pass.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, target: Tensor) -> Tensor:
        ctx.save_for_backward(x, target)
        return (x.to(torch.promote_types(x.dtype, torch.float32)) - target).square_().mean().to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, target = ctx.saved_tensors
        wants_x, wants_target = ctx.needs_input_grad
        wide = torch.promote_types(x.dtype, torch.float32)
        grad_x = (x.to(wide) - target).mul_(2 / max(1, x.numel()) * grad.to(wide)).to(x.dtype)
        return grad_x if wants_x else None, -grad_x if wants_target else None


class FunctionMSE(nn.MSELoss):
    """nn.MSELoss with the hand-derived backward of MSEFunction, for the mean.

    Raises ValueError for another reduction, two shapes or two dtypes.
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if self.reduction != "mean" or (input.shape, input.dtype) != (target.shape, target.dtype):
            given = (
                f"input is {tuple(input.shape)} {input.dtype}, target {tuple(target.shape)} {target.dtype}, reduction {self.reduction!r}"
            )
            raise ValueError(f"FunctionMSE: {given}; give two of one shape and dtype, and reduction='mean'")
        return MSEFunction.apply(input, target)


class TritonMSE(nn.MSELoss):
    """nn.MSELoss with the Triton kernels of kernels/mse.py."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        from ..kernels.mse import mse_loss  # here, so that this file can be read where Triton is not installed

        return mse_loss(input, target, self.reduction)


mse = Layer(
    "mse",
    sweep={"batch": (1, 32, 512), "width": (1024,)},
    inputs=(randn("batch", "width"), randn("batch", "width")),
    build=lambda module, size: module(),
    variants={
        "stock": Variant(nn.MSELoss),
        "function": Variant(FunctionMSE),
        "triton": Variant(TritonMSE, devices=GPU),
        "compile": Variant(nn.MSELoss, compile=True),
    },
    verify_at=(
        {"batch": 3, "width": 7},
        {"batch": 3, "width": 5_001},  # two shares of the sum, the last one part full
    ),
    on_request=True,
    gpu_sweep={"batch": (32, 512, 8192, 65_536)},
)
