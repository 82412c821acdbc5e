"""2-D average pooling over windows side by side, and to a given size ("adaptive"):  y = mean over the window of x.

Method   Both are one: pooling of the first H rows to P averages rows i H // P up to ceil((i + 1) H / P), and windows side by side are
         those of the H that P windows fill.
         Forward sums tiles of (windows, positions in a window), so that one large window or many small ones fill a program alike.
         Backward goes by input position: dx = sum of g / size over the windows that it is in, one if P divides H, else mostly one or two
         along each axis.  A gather, so nothing is cleared first and nothing collides.
Bytes    Forward reads x and writes y; backward reads g and writes dx.  Nothing is kept between them.
Numbers  float32, bfloat16, float16; sums in float32.
Limits   No padding; stride = window.  Fewer than 2^31 - TILE windows, and planes where height times output height and width times output
         width are below 2^31.  A non-contiguous input is copied.  Differentiable once.  Deterministic.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
TILE = 1024  # numbers that one program of _forward_kernel holds


@triton.jit
def _forward_kernel(
    x_ptr,
    y_ptr,
    windows,
    height,
    width,
    used_height,
    used_width,
    out_height,
    out_width,
    most_rows,
    most_columns,
    BLOCK_WINDOWS: tl.constexpr,
    BLOCK_PLACES: tl.constexpr,
):
    """No window is larger than most_rows x most_columns.  Grid: one program per BLOCK_WINDOWS windows of all planes."""
    window = tl.program_id(0) * BLOCK_WINDOWS + tl.arange(0, BLOCK_WINDOWS)
    out_row = window // out_width % out_height
    out_column = window % out_width
    first_row = out_row * used_height // out_height
    first_column = out_column * used_width // out_width
    rows = tl.cdiv((out_row + 1) * used_height, out_height) - first_row
    columns = tl.cdiv((out_column + 1) * used_width, out_width) - first_column
    corner = (window // (out_height * out_width)).to(tl.int64) * height * width + first_row * width + first_column
    total = tl.zeros((BLOCK_WINDOWS, BLOCK_PLACES), dtype=tl.float32)
    for start in range(0, most_rows * most_columns, BLOCK_PLACES):
        place = start + tl.arange(0, BLOCK_PLACES)
        row = (place // most_columns)[None, :]
        column = (place % most_columns)[None, :]
        mask = (window < windows)[:, None] & (row < rows[:, None]) & (column < columns[:, None])
        total += tl.load(x_ptr + (corner[:, None] + row * width + column), mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(total, axis=1) / (rows * columns)
    tl.store(y_ptr + window, mean.to(y_ptr.dtype.element_ty), mask=window < windows)


@triton.jit
def _backward_kernel(
    grad_ptr,
    grad_x_ptr,
    height,
    width,
    used_height,
    used_width,
    out_height,
    out_width,
    OVER_ROWS: tl.constexpr,
    OVER_COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """No position is in more than OVER_ROWS x OVER_COLUMNS windows.  Grid: one program per BLOCK input positions of a plane."""
    blocks = tl.cdiv(height * width, BLOCK)
    plane = (tl.program_id(0) // blocks).to(tl.int64)
    position = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    row = position // width
    column = position % width
    used = (row < used_height) & (column < used_width)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for over_row in tl.static_range(OVER_ROWS):
        out_row = row * out_height // used_height + over_row
        first_row = out_row * used_height // out_height
        rows = tl.cdiv((out_row + 1) * used_height, out_height) - first_row
        for over_column in tl.static_range(OVER_COLUMNS):
            out_column = column * out_width // used_width + over_column
            first_column = out_column * used_width // out_width
            columns = tl.cdiv((out_column + 1) * used_width, out_width) - first_column
            mask = used & (out_row < out_height) & (first_row <= row) & (out_column < out_width) & (first_column <= column)
            window = plane * out_height * out_width + out_row * out_width + out_column
            total += tl.load(grad_ptr + window, mask=mask, other=0.0).to(tl.float32) / (rows * columns)
    offset = plane * height * width + position
    tl.store(grad_x_ptr + offset, total.to(grad_x_ptr.dtype.element_ty), mask=position < height * width)


def _longest(size: int, out: int) -> int:
    """Positions of the longest of `out` windows over `size`, or one more."""
    return size // out if size % out == 0 else triton.cdiv(size, out) + 1


def _overlap(size: int, out: int) -> int:
    """Windows that one position is in, at most: as many as it would have positions, were it a window and the windows positions."""
    return 1 if size % out == 0 else _longest(out, size)


OPS = (__package__ or __name__).replace(".", "_")  # by package, so that two copies of this file can live in one process


@torch.library.custom_op(f"{OPS}::avg_pool2d", mutates_args=())
def _avg_pool2d(x: Tensor, used_height: int, used_width: int, out_height: int, out_width: int) -> Tensor:
    """The means of the first used_height rows and used_width columns."""
    x = x.contiguous()
    y = _like_y(x, used_height, used_width, out_height, out_width)
    most = (_longest(used_height, out_height), _longest(used_width, out_width))
    places = min(TILE, triton.next_power_of_2(most[0] * most[1]))
    blocks = {"BLOCK_WINDOWS": TILE // places, "BLOCK_PLACES": places}
    if y.numel():
        with torch.cuda.device_of(x):
            grid = (triton.cdiv(y.numel(), blocks["BLOCK_WINDOWS"]),)
            sizes = (y.numel(), *x.shape[2:], used_height, used_width, out_height, out_width, *most)
            _forward_kernel[grid](x, y, *sizes, **blocks, num_warps=4)
    return y


@_avg_pool2d.register_fake
def _like_y(x: Tensor, used_height: int, used_width: int, out_height: int, out_width: int) -> Tensor:
    return x.new_empty(*x.shape[:2], out_height, out_width)


@torch.library.custom_op(f"{OPS}::avg_pool2d_backward", mutates_args=())
def _avg_pool2d_backward(grad: Tensor, used_height: int, used_width: int, height: int, width: int) -> Tensor:
    """dx (batch, channels, height, width)."""
    grad = grad.contiguous()
    grad_x = _like_x(grad, used_height, used_width, height, width)
    out_height, out_width = grad.shape[2:]
    block = min(1024, max(64, triton.next_power_of_2(height * width)))
    over = {"OVER_ROWS": _overlap(used_height, out_height), "OVER_COLUMNS": _overlap(used_width, out_width)}
    if grad_x.numel():
        with torch.cuda.device_of(grad):
            grid = (grad.shape[0] * grad.shape[1] * triton.cdiv(height * width, block),)
            sizes = (height, width, used_height, used_width, out_height, out_width)
            _backward_kernel[grid](grad, grad_x, *sizes, **over, BLOCK=block, num_warps=max(1, block // 256))
    return grad_x


@_avg_pool2d_backward.register_fake
def _like_x(grad: Tensor, used_height: int, used_width: int, height: int, width: int) -> Tensor:
    return grad.new_empty(*grad.shape[:2], height, width)


def _keep_sizes(ctx, inputs, output) -> None:
    x, *ctx.used = inputs[:3]
    ctx.plane = x.shape[2:]


def _backward(ctx, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
    return _avg_pool2d_backward(grad, *ctx.used, *ctx.plane), None, None, None, None


_avg_pool2d.register_autograd(_backward, setup_context=_keep_sizes)


def avg_pool2d(input: Tensor, kernel_size: int) -> Tensor:
    """torch.nn.functional.avg_pool2d(input, kernel_size):  (batch, channels, h, w) -> (..., h // size, w // size).

    Raises ValueError where shape, dtype or kernel_size is out of range, or input is not on a GPU (under TRITON_INTERPRET=1: anywhere).
    """
    _check("avg_pool2d", input)
    if not 1 <= kernel_size <= min(input.shape[2:]):
        raise ValueError(f"avg_pool2d: kernel_size is {kernel_size}; an input of {tuple(input.shape)} takes 1 to {min(input.shape[2:])}")
    out_height, out_width = (size // kernel_size for size in input.shape[2:])
    return _avg_pool2d(input, out_height * kernel_size, out_width * kernel_size, out_height, out_width)


def adaptive_avg_pool2d(input: Tensor, output_size: tuple[int, int]) -> Tensor:
    """torch.nn.functional.adaptive_avg_pool2d(input, output_size):  (batch, channels, h, w) -> (batch, channels, *output_size).

    Raises ValueError where shape, dtype or output_size is out of range, or input is not on a GPU (under TRITON_INTERPRET=1: anywhere).
    """
    _check("adaptive_avg_pool2d", input)
    if len(output_size) != 2 or min(output_size) < 1:
        raise ValueError(f"adaptive_avg_pool2d: output_size is {tuple(output_size)}; give two sizes of at least 1")
    return _avg_pool2d(input, *input.shape[2:], *output_size)


def _check(name: str, input: Tensor) -> None:
    if input.dim() != 4 or not input.shape[2] * input.shape[3]:
        raise ValueError(f"{name}: input is {tuple(input.shape)}; give (batch, channels, height, width), height and width at least 1")
    if input.dtype not in DTYPES:
        raise ValueError(f"{name}: input is {input.dtype}; give float32, bfloat16 or float16")
    if not input.is_cuda and isinstance(_forward_kernel, triton.JITFunction):
        raise ValueError(f"{name}: input is on {input.device}; move it to a GPU, or set TRITON_INTERPRET=1 before importing triton")
