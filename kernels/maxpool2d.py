"""2-D max pooling over windows side by side, with the ReLU that usually goes with it:  y = max(max over the window of x, 0).

Method   Forward keeps, in 8 bits, which position of each window won, or none where the ReLU cut it off; that is all that backward needs.
         Backward goes by input position: dx = g of its window if it won there, else 0.  A gather, so nothing is cleared first
         and nothing collides.
Bytes    Forward reads x and writes y and one byte per window; backward reads g and the bytes and writes dx.
Numbers  float32, bfloat16, float16.  Among equals the first wins, NaN wins over all and passes the ReLU, as in torch.
Limits   Stride = window, square, 2 to 15 wide; no padding.  Planes of fewer than 2^31 - 1024 positions.  A non-contiguous input is copied.
         Differentiable once.  Deterministic.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MOST = 15  # 15 x 15 positions and "none" fit in 8 bits


@triton.jit
def _forward_kernel(x_ptr, y_ptr, winner_ptr, height, width, WINDOW: tl.constexpr, RELU: tl.constexpr, BLOCK: tl.constexpr):
    """Grid: one program per BLOCK windows of a plane."""
    out_width = width // WINDOW
    windows = height // WINDOW * out_width
    blocks = tl.cdiv(windows, BLOCK)
    plane = (tl.program_id(0) // blocks).to(tl.int64)
    window = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    mask = window < windows
    corner = plane * height * width + window // out_width * WINDOW * width + window % out_width * WINDOW
    best = tl.load(x_ptr + corner, mask=mask, other=0.0)
    winner = tl.zeros((BLOCK,), dtype=tl.int32)
    for place in tl.static_range(1, WINDOW * WINDOW):
        x = tl.load(x_ptr + corner + place // WINDOW * width + place % WINDOW, mask=mask, other=0.0)
        wins = ((x > best) & (best == best)) | (x != x)
        best = tl.where(wins, x, best)
        winner = tl.where(wins, place, winner)
    if RELU:
        winner = tl.where(best <= 0, WINDOW * WINDOW, winner)
        best = tl.where(best <= 0, 0.0, best)
    tl.store(y_ptr + plane * windows + window, best.to(y_ptr.dtype.element_ty), mask=mask)
    tl.store(winner_ptr + plane * windows + window, winner.to(tl.uint8), mask=mask)


@triton.jit
def _backward_kernel(grad_ptr, winner_ptr, grad_x_ptr, height, width, WINDOW: tl.constexpr, BLOCK: tl.constexpr):
    """Grid: one program per BLOCK input positions of a plane."""
    blocks = tl.cdiv(height * width, BLOCK)
    plane = (tl.program_id(0) // blocks).to(tl.int64)
    out_height = height // WINDOW
    out_width = width // WINDOW
    position = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    row = position // width
    column = position % width
    in_window = (row // WINDOW < out_height) & (column // WINDOW < out_width)  # the last rows and columns may be in none
    window = plane * out_height * out_width + row // WINDOW * out_width + column // WINDOW
    winner = tl.load(winner_ptr + window, mask=in_window, other=255)
    grad = tl.load(grad_ptr + window, mask=in_window, other=0.0)
    grad_x = tl.where(winner == row % WINDOW * WINDOW + column % WINDOW, grad, 0.0)
    tl.store(grad_x_ptr + plane * height * width + position, grad_x.to(grad_x_ptr.dtype.element_ty), mask=position < height * width)


def _block(positions: int) -> int:
    return min(1024, max(128, triton.next_power_of_2(positions)))


OPS = (__package__ or __name__).replace(".", "_")  # by package, so that two copies of this file can live in one process


@torch.library.custom_op(f"{OPS}::max_pool2d", mutates_args=())
def _max_pool2d(x: Tensor, window: int, relu: bool) -> tuple[Tensor, Tensor]:
    """y and the winner of each window, row by row from 0; window * window is none."""
    x = x.contiguous()
    y, winner = _like_y(x, window, relu)
    height, width = x.shape[2:]
    block = _block(y.shape[2] * y.shape[3])
    if y.numel():
        with torch.cuda.device_of(x):
            grid = (x.shape[0] * x.shape[1] * triton.cdiv(y.shape[2] * y.shape[3], block),)
            _forward_kernel[grid](x, y, winner, height, width, WINDOW=window, RELU=relu, BLOCK=block, num_warps=4)
    return y, winner


@_max_pool2d.register_fake
def _like_y(x: Tensor, window: int, relu: bool) -> tuple[Tensor, Tensor]:
    shape = (*x.shape[:2], x.shape[2] // window, x.shape[3] // window)
    return x.new_empty(shape), x.new_empty(shape, dtype=torch.uint8)


@torch.library.custom_op(f"{OPS}::max_pool2d_backward", mutates_args=())
def _max_pool2d_backward(grad: Tensor, winner: Tensor, window: int, height: int, width: int) -> Tensor:
    """dx (batch, channels, height, width)."""
    grad = grad.contiguous()
    grad_x = _like_x(grad, winner, window, height, width)
    block = _block(height * width)
    if grad_x.numel():
        with torch.cuda.device_of(grad):
            grid = (grad.shape[0] * grad.shape[1] * triton.cdiv(height * width, block),)
            _backward_kernel[grid](grad, winner, grad_x, height, width, WINDOW=window, BLOCK=block, num_warps=4)
    return grad_x


@_max_pool2d_backward.register_fake
def _like_x(grad: Tensor, winner: Tensor, window: int, height: int, width: int) -> Tensor:
    return grad.new_empty(*grad.shape[:2], height, width)


def _keep_winner(ctx, inputs, output) -> None:
    x, ctx.window, _ = inputs
    ctx.plane = x.shape[2:]
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx, grad: Tensor, _: None) -> tuple[Tensor, None, None]:
    return _max_pool2d_backward(grad, *ctx.saved_tensors, ctx.window, *ctx.plane), None, None


_max_pool2d.register_autograd(_backward, setup_context=_keep_winner)


def max_pool2d(input: Tensor, kernel_size: int, relu: bool = False) -> Tensor:
    """torch.nn.functional.max_pool2d(input, kernel_size), then relu if asked:  (batch, channels, h, w) -> (..., h // size, w // size).

    Raises ValueError where shape, dtype or kernel_size is out of range, or input is not on a GPU (under TRITON_INTERPRET=1: anywhere).
    """
    if input.dim() != 4:
        raise ValueError(f"max_pool2d: input is {tuple(input.shape)}; give (batch, channels, height, width)")
    if not 2 <= kernel_size <= min(MOST, *input.shape[2:]):
        raise ValueError(
            f"max_pool2d: kernel_size is {kernel_size}; an input of {tuple(input.shape)} takes 2 to {min(MOST, *input.shape[2:])}"
        )
    if input.dtype not in DTYPES:
        raise ValueError(f"max_pool2d: input is {input.dtype}; give float32, bfloat16 or float16")
    if not input.is_cuda and isinstance(_forward_kernel, triton.JITFunction):
        raise ValueError(f"max_pool2d: input is on {input.device}; move it to a GPU, or set TRITON_INTERPRET=1 before importing triton")
    y, _ = _max_pool2d(input, kernel_size, relu)
    return y
