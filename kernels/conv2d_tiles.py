"""The three kernels behind conv2d.py, which has their method, their ops and their contract: not for use on their own."""

import triton
import triton.language as tl


@triton.jit
def _gather(
    x_ptr,
    position,
    tap,
    mask,
    channels,
    height,
    width,
    out_height,
    out_width,
    STRIDE: tl.constexpr,
    PAD: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
):
    """x at (output positions, taps), 0 in the padding."""
    image = (position // (out_height * out_width)).to(tl.int64)
    row = position // out_width % out_height * STRIDE - PAD
    column = position % out_width * STRIDE - PAD
    tap_row = tap // KW % KH
    tap_column = tap % KW
    if PAD > 0:
        mask &= (row[:, None] >= -tap_row[None, :]) & (row[:, None] < (height - tap_row)[None, :])
        mask &= (column[:, None] >= -tap_column[None, :]) & (column[:, None] < (width - tap_column)[None, :])
    corner = image * channels * height * width + row * width + column
    step = tap // (KH * KW) * (height * width) + tap_row * width + tap_column
    return tl.load(x_ptr + (corner[:, None] + step[None, :]), mask=mask, other=0.0)


@triton.jit
def conv2d_kernel(
    x_ptr,
    weight_ptr,
    bias_ptr,
    y_ptr,
    positions,
    channels,
    height,
    width,
    out_channels,
    out_height,
    out_width,
    STRIDE: tl.constexpr,
    PAD: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    BLOCK_POSITIONS: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_TAPS: tl.constexpr,
):
    """Grid: (blocks of positions, blocks of output channels)."""
    position = tl.program_id(0) * BLOCK_POSITIONS + tl.arange(0, BLOCK_POSITIONS)
    out = tl.program_id(1) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    taps = channels * KH * KW
    total = tl.zeros((BLOCK_POSITIONS, BLOCK_OUT), dtype=tl.float32)
    for start in range(0, taps, BLOCK_TAPS):
        tap = start + tl.arange(0, BLOCK_TAPS)
        mask = (position < positions)[:, None] & (tap < taps)[None, :]
        x = _gather(x_ptr, position, tap, mask, channels, height, width, out_height, out_width, STRIDE, PAD, KH, KW)
        # out * taps + tap is the same, and takes up to 33 registers more on sm_90
        offset = (out[None, :] * channels + (tap // (KH * KW))[:, None]) * (KH * KW) + (tap % (KH * KW))[:, None]
        weight = tl.load(weight_ptr + offset, mask=(tap < taps)[:, None] & (out < out_channels)[None, :], other=0.0)
        total = tl.dot(x, weight, total, input_precision="ieee")
    if HAS_BIAS:
        total += tl.load(bias_ptr + out, mask=out < out_channels, other=0.0).to(tl.float32)[None, :]
    plane_size = out_height * out_width
    plane = (position // plane_size).to(tl.int64)[:, None] * out_channels + out[None, :]
    offset = plane * plane_size + (position % plane_size)[:, None]
    mask = (position < positions)[:, None] & (out < out_channels)[None, :]
    tl.store(y_ptr + offset, total.to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def conv_transpose2d_kernel(
    x_ptr,
    weight_ptr,
    bias_ptr,
    y_ptr,
    positions,
    channels,
    height,
    width,
    out_channels,
    out_height,
    out_width,
    STRIDE: tl.constexpr,
    PAD: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    BLOCK_POSITIONS: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_TAPS: tl.constexpr,
):
    """Grid: (blocks of the positions in a phase, blocks of output channels, phases)."""
    phase = tl.program_id(2)
    position = tl.program_id(0) * BLOCK_POSITIONS + tl.arange(0, BLOCK_POSITIONS)
    out = tl.program_id(1) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    phase_columns = tl.cdiv(out_width, STRIDE)
    phase_size = tl.cdiv(out_height, STRIDE) * phase_columns
    image = (position // phase_size).to(tl.int64)
    out_row = position % phase_size // phase_columns * STRIDE + phase // STRIDE
    out_column = position % phase_columns * STRIDE + phase % STRIDE
    row, column = (out_row + PAD) // STRIDE, (out_column + PAD) // STRIDE  # of x, under the first tap
    corner = image * channels * height * width + row * width + column
    steps_h: tl.constexpr = (KH + STRIDE - 1) // STRIDE  # each step is STRIDE taps on, and one row of x back
    steps_w: tl.constexpr = (KW + STRIDE - 1) // STRIDE
    steps = channels * steps_h * steps_w
    total = tl.zeros((BLOCK_POSITIONS, BLOCK_OUT), dtype=tl.float32)
    for start in range(0, steps, BLOCK_TAPS):
        step = start + tl.arange(0, BLOCK_TAPS)
        channel, step_row, step_column = step // (steps_h * steps_w), step // steps_w % steps_h, step % steps_w
        tap_row = (phase // STRIDE + PAD) % STRIDE + step_row * STRIDE
        tap_column = (phase % STRIDE + PAD) % STRIDE + step_column * STRIDE
        is_tap = (step < steps) & (tap_row < KH) & (tap_column < KW)
        mask = (position < positions)[:, None] & is_tap[None, :]
        mask &= (row[:, None] >= step_row[None, :]) & (row[:, None] < (height + step_row)[None, :])
        mask &= (column[:, None] >= step_column[None, :]) & (column[:, None] < (width + step_column)[None, :])
        away = channel * (height * width) - step_row * width - step_column
        x = tl.load(x_ptr + (corner[:, None] + away[None, :]), mask=mask, other=0.0)
        weight_offset = (channel[:, None] * out_channels + out[None, :]) * (KH * KW) + (tap_row * KW + tap_column)[:, None]
        weight = tl.load(weight_ptr + weight_offset, mask=is_tap[:, None] & (out < out_channels)[None, :], other=0.0)
        total = tl.dot(x, weight, total, input_precision="ieee")
    if HAS_BIAS:
        total += tl.load(bias_ptr + out, mask=out < out_channels, other=0.0).to(tl.float32)[None, :]
    plane = image[:, None] * out_channels + out[None, :]
    offset = plane * (out_height * out_width) + (out_row * out_width + out_column)[:, None]
    mask = ((position < positions) & (out_row < out_height) & (out_column < out_width))[:, None] & (out < out_channels)[None, :]
    tl.store(y_ptr + offset, total.to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def grad_weight_kernel(
    grad_ptr,
    x_ptr,
    partial_ptr,
    positions_per_share,
    positions,
    channels,
    height,
    width,
    out_channels,
    out_height,
    out_width,
    STRIDE: tl.constexpr,
    PAD: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    BLOCK_POSITIONS: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_TAPS: tl.constexpr,
):
    """partial[share, o, tap] of dW; the tap after the last is db.  Grid: (blocks of taps, blocks of output channels, shares)."""
    taps = channels * KH * KW
    tap = tl.program_id(0) * BLOCK_TAPS + tl.arange(0, BLOCK_TAPS)
    out = tl.program_id(1) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    share = tl.program_id(2)
    plane_size = out_height * out_width
    total = tl.zeros((BLOCK_OUT, BLOCK_TAPS), dtype=tl.float32)
    first = share * positions_per_share
    end = min(first + positions_per_share, positions)
    for start in range(first, end, BLOCK_POSITIONS):
        position = start + tl.arange(0, BLOCK_POSITIONS)
        plane = (position // plane_size).to(tl.int64)[None, :] * out_channels + out[:, None]
        mask = (out < out_channels)[:, None] & (position < end)[None, :]
        grad = tl.load(grad_ptr + (plane * plane_size + (position % plane_size)[None, :]), mask=mask, other=0.0)
        mask = (position < end)[:, None] & (tap < taps)[None, :]
        x = _gather(x_ptr, position, tap, mask, channels, height, width, out_height, out_width, STRIDE, PAD, KH, KW)
        x = tl.where(tap[None, :] == taps, 1.0, x).to(grad.dtype)
        total = tl.dot(grad, x, total, input_precision="ieee")
    offset = (share.to(tl.int64) * out_channels + out[:, None]) * (taps + 1) + tap[None, :]
    tl.store(partial_ptr + offset, total, mask=(out < out_channels)[:, None] & (tap <= taps)[None, :])
