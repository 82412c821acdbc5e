"""The three kernels behind attention.py, which has their method, their ops and their contract: not for use on their own."""

import torch
import triton
import triton.language as tl


@triton.jit
def _rows(ptr, head, row, rows, column, width):
    """Rows of one head of a contiguous (heads, rows, width) tensor; 0 past the edges."""
    offset = row[:, None] * width + column[None, :]
    return tl.load(ptr + head * rows * width + offset, mask=(row[:, None] < rows) & (column[None, :] < width), other=0.0)


@triton.jit
def _store_rows(ptr, value, head, row, rows, column, width):
    offset = row[:, None] * width + column[None, :]
    tl.store(ptr + head * rows * width + offset, value.to(ptr.dtype.element_ty), mask=(row[:, None] < rows) & (column[None, :] < width))


@triton.jit
def _score(q, k, query, key, queries, keys, scale, CAUSAL: tl.constexpr):
    """Scores in powers of 2 of a tile of queries and keys, -inf where a query does not see a key or there is none."""
    seen = (query[:, None] < queries) & (key[None, :] < keys)
    if CAUSAL:
        seen &= key[None, :] <= query[:, None]
    return tl.where(seen, tl.dot(q, tl.trans(k), input_precision="ieee") * scale, float("-inf"))


@triton.jit
def forward_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    y_ptr,
    log_ptr,
    queries,
    keys,
    width,
    groups,
    scale,
    CAUSAL: tl.constexpr,
    BLOCK_QUERIES: tl.constexpr,
    BLOCK_KEYS: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr,
):
    """Grid: one program per BLOCK_QUERIES queries of a head."""
    blocks = tl.cdiv(queries, BLOCK_QUERIES)
    head = (tl.program_id(0) // blocks).to(tl.int64)
    first = tl.program_id(0) % blocks * BLOCK_QUERIES
    query, column = first + tl.arange(0, BLOCK_QUERIES), tl.arange(0, BLOCK_WIDTH)
    q = _rows(q_ptr, head, query, queries, column, width)
    highest = tl.full((BLOCK_QUERIES,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((BLOCK_QUERIES,), dtype=tl.float32)
    y = tl.zeros((BLOCK_QUERIES, BLOCK_WIDTH), dtype=tl.float32)
    end = min(first + BLOCK_QUERIES, keys) if CAUSAL else keys
    for start in range(0, end, BLOCK_KEYS):
        key = start + tl.arange(0, BLOCK_KEYS)
        k = _rows(k_ptr, head // groups, key, keys, column, width)
        v = _rows(v_ptr, head // groups, key, keys, column, width)
        score = _score(q, k, query, key, queries, keys, scale, CAUSAL)
        higher = tl.maximum(highest, tl.max(score, axis=1))
        shift = tl.where(higher == float("-inf"), 0.0, higher)  # rows past the last query: -inf - -inf would be NaN
        shrink = tl.exp2(highest - shift)
        power = tl.exp2(score - shift[:, None])
        total = total * shrink + tl.sum(power, axis=1)
        y = tl.dot(power.to(v.dtype), v, y * shrink[:, None], input_precision="ieee")
        highest = higher
    total = tl.where(query < queries, total, 1.0)
    _store_rows(y_ptr, y / total[:, None], head, query, queries, column, width)
    tl.store(log_ptr + head * queries + query, highest + tl.log2(total), mask=query < queries)


@triton.jit
def grad_queries_kernel(
    grad_ptr,
    q_ptr,
    k_ptr,
    v_ptr,
    y_ptr,
    log_ptr,
    delta_ptr,
    grad_q_ptr,
    queries,
    keys,
    width,
    groups,
    scale,
    CAUSAL: tl.constexpr,
    BLOCK_QUERIES: tl.constexpr,
    BLOCK_KEYS: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr,
):
    """dq, times log2(e), and delta.  Grid: one program per BLOCK_QUERIES queries of a head."""
    blocks = tl.cdiv(queries, BLOCK_QUERIES)
    head = (tl.program_id(0) // blocks).to(tl.int64)
    first = tl.program_id(0) % blocks * BLOCK_QUERIES
    query, column = first + tl.arange(0, BLOCK_QUERIES), tl.arange(0, BLOCK_WIDTH)
    q = _rows(q_ptr, head, query, queries, column, width)
    grad = _rows(grad_ptr, head, query, queries, column, width)
    y = _rows(y_ptr, head, query, queries, column, width)
    delta = tl.sum(grad.to(tl.float32) * y.to(tl.float32), axis=1)
    tl.store(delta_ptr + head * queries + query, delta, mask=query < queries)
    log = tl.load(log_ptr + head * queries + query, mask=query < queries, other=0.0)
    grad_q = tl.zeros((BLOCK_QUERIES, BLOCK_WIDTH), dtype=tl.float32)
    end = min(first + BLOCK_QUERIES, keys) if CAUSAL else keys
    for start in range(0, end, BLOCK_KEYS):
        key = start + tl.arange(0, BLOCK_KEYS)
        k = _rows(k_ptr, head // groups, key, keys, column, width)
        v = _rows(v_ptr, head // groups, key, keys, column, width)
        power = tl.exp2(_score(q, k, query, key, queries, keys, scale, CAUSAL) - log[:, None])
        grad_score = power * (tl.dot(grad, tl.trans(v), input_precision="ieee") - delta[:, None])
        grad_q = tl.dot(grad_score.to(k.dtype), k, grad_q, input_precision="ieee")
    _store_rows(grad_q_ptr, grad_q * (scale * 0.6931471805599453), head, query, queries, column, width)  # scale has log2(e) in it


@triton.jit
def grad_keys_kernel(
    grad_ptr,
    q_ptr,
    k_ptr,
    v_ptr,
    log_ptr,
    delta_ptr,
    grad_k_ptr,
    grad_v_ptr,
    queries,
    keys,
    width,
    groups,
    scale,
    CAUSAL: tl.constexpr,
    BLOCK_QUERIES: tl.constexpr,
    BLOCK_KEYS: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr,
):
    """dk and dv.  Grid: one program per BLOCK_KEYS keys of a k/v head."""
    blocks = tl.cdiv(keys, BLOCK_KEYS)
    kv_head = (tl.program_id(0) // blocks).to(tl.int64)
    first = tl.program_id(0) % blocks * BLOCK_KEYS
    key, column = first + tl.arange(0, BLOCK_KEYS), tl.arange(0, BLOCK_WIDTH)
    k = _rows(k_ptr, kv_head, key, keys, column, width)
    v = _rows(v_ptr, kv_head, key, keys, column, width)
    grad_k = tl.zeros((BLOCK_KEYS, BLOCK_WIDTH), dtype=tl.float32)
    grad_v = tl.zeros((BLOCK_KEYS, BLOCK_WIDTH), dtype=tl.float32)
    for group in range(groups):
        head = kv_head * groups + group
        for start in range(first // BLOCK_QUERIES * BLOCK_QUERIES if CAUSAL else 0, queries, BLOCK_QUERIES):
            query = start + tl.arange(0, BLOCK_QUERIES)
            q = _rows(q_ptr, head, query, queries, column, width)
            grad = _rows(grad_ptr, head, query, queries, column, width)
            log = tl.load(log_ptr + head * queries + query, mask=query < queries, other=0.0)
            delta = tl.load(delta_ptr + head * queries + query, mask=query < queries, other=0.0)
            power = tl.exp2(_score(q, k, query, key, queries, keys, scale, CAUSAL) - log[:, None])
            grad_v = tl.dot(tl.trans(power.to(grad.dtype)), grad, grad_v, input_precision="ieee")
            grad_score = power * (tl.dot(grad, tl.trans(v), input_precision="ieee") - delta[:, None])
            grad_k = tl.dot(tl.trans(grad_score.to(q.dtype)), q, grad_k, input_precision="ieee")
    _store_rows(grad_k_ptr, grad_k * (scale * 0.6931471805599453), kv_head, key, keys, column, width)  # scale has log2(e) in it
    _store_rows(grad_v_ptr, grad_v, kv_head, key, keys, column, width)


def tile(width: int, dtype: torch.dtype) -> dict[str, int]:
    """Block sizes and warps: a block of queries or of keys, its results included, stays in the registers of one program."""
    block = 64 if dtype != torch.float32 else 32 if width <= 64 else 16
    return {
        "BLOCK_QUERIES": block,
        "BLOCK_KEYS": block,
        "BLOCK_WIDTH": max(16, triton.next_power_of_2(width)),
        "num_warps": 8 if width > 64 or dtype == torch.float32 else 4,
        "num_stages": 2,
    }
