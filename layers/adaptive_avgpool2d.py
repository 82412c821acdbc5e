"""Adaptive average pooling, to out x out whatever the size of x:  y_ij = mean of x over the rows of window i and the columns of window j.

Window i of H rows is  i H // out  up to  ceil((i + 1) H / out): windows i and i + 1 share a row where out does not divide (i + 1) H;
with out above H, rows are in several windows.
(torch.nn.AdaptiveAvgPool2d)   At out 1 it is the mean over the plane before the last linear layer of a residual network (He et al., 2016,
arXiv:1512.03385); the default is that of ResNet-18.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, randn


class AdaptiveAvgPool2dFunction(torch.autograd.Function):
    """Along one axis y = P x, where row i of P has 1 / (size of window i) inside that window and 0 outside; column j of P is the pooling of
    the j-th unit vector.  With P for the rows and Q for the columns a plane becomes P x Q^T, so that  dL/dx = P^T g Q.  As one product:
    the planes of dL/dx, flattened, are those of g times the Kronecker product of P and Q.

    Saves the height and width of x and nothing else.  Half types are computed in float32.
    The product is dense, out^2 multiplications to each number of dL/dx: right for the small out that this layer is used with.
    At batch 1 making P and Q, some tens of microseconds, shows.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, out: tuple[int, int]) -> Tensor:
        ctx.plane = x.shape[2:]
        return F.adaptive_avg_pool2d(x, out)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        dtype = torch.promote_types(grad.dtype, torch.float32)
        units = (torch.eye(size, dtype=dtype, device=grad.device) for size in ctx.plane)
        rows, columns = (F.adaptive_avg_pool1d(unit, out) for unit, out in zip(units, grad.shape[2:], strict=True))  # P^T and Q^T
        planes = grad.to(dtype).flatten(2).flatten(0, 1) @ torch.kron(rows, columns).T
        return planes.to(grad.dtype).view(*grad.shape[:2], *ctx.plane), None


class FunctionAdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """nn.AdaptiveAvgPool2d with the hand-derived backward of AdaptiveAvgPool2dFunction."""

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() != 4:
            raise ValueError(f"FunctionAdaptiveAvgPool2d: input is {tuple(input.shape)}; give (batch, channels, height, width)")
        return AdaptiveAvgPool2dFunction.apply(input, self.output_size)


class TritonAdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """nn.AdaptiveAvgPool2d with the Triton kernels of kernels/avgpool2d.py."""

    def forward(self, input: Tensor) -> Tensor:
        from ..kernels.avgpool2d import adaptive_avg_pool2d  # here, so that this file can be read where Triton is not installed

        out = self.output_size if isinstance(self.output_size, tuple) else (self.output_size, self.output_size)
        sizes = tuple(size if wanted is None else wanted for size, wanted in zip(input.shape[-2:], out, strict=True))
        return adaptive_avg_pool2d(input, sizes)


adaptive_avgpool2d = Layer(
    "adaptive_avgpool2d",
    sweep={"batch": (1, 8, 64), "channels": (512,), "height": (7,), "width": (7,), "out": (1,)},
    inputs=(randn("batch", "channels", "height", "width"),),
    build=lambda module, size: module((size["out"], size["out"])),
    variants={
        "stock": Variant(nn.AdaptiveAvgPool2d),
        "function": Variant(FunctionAdaptiveAvgPool2d),
        "triton": Variant(TritonAdaptiveAvgPool2d, devices=GPU),
        "compile": Variant(nn.AdaptiveAvgPool2d, compile=True),
    },
    verify_at=(
        {"batch": 2, "channels": 3, "height": 7, "width": 5, "out": 3},  # windows that overlap
        {"batch": 2, "channels": 18, "height": 6, "width": 11, "out": 1},  # several blocks of windows
        {"batch": 1, "channels": 2, "height": 37, "width": 41, "out": 6},
        {"batch": 2, "channels": 2, "height": 3, "width": 2, "out": 5},  # more windows than rows and columns
    ),
    on_request=True,
    gpu_sweep={"batch": (1, 64, 256)},
)
