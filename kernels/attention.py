"""Scaled dot-product attention:  y = softmax(q k^T scale) v,  with tiles of scores that never leave the registers.

Method   Forward walks along the keys and keeps per query the maximum so far and the sum of exponentials relative to it; both and y shrink
         when the maximum rises (Dao et al., 2022, arXiv:2205.14135).  Powers are of 2, with log2(e) in the scale.
         Backward makes the scores again from one l = log2 sum 2^s per query (Dao, 2023, arXiv:2307.08691):  with p = 2^(s - l) and
         delta = sum(g y),  dv = p^T g,  ds = p (g v^T - delta),  dq = ds k scale,  dk = ds^T q scale.  One kernel owns queries and
         walks along the keys for dq, and leaves delta behind; one owns keys and walks along the queries of every head it serves for
         dk and dv.  Each makes p itself, which is two products more than one kernel with atomics would need: deterministic.
Bytes    Forward reads q, writes y and l, and reads k and v once per block of queries, mostly from L2.  Backward reads q, k, v, y, g and l
         and writes dq, dk, dv and delta; each kernel reads the other side once per block of its own.  Nothing is tokens x tokens.
Numbers  float32, bfloat16, float16.  Scores, maxima and sums in float32; p and ds are rounded to the inputs' type where they enter a
         product.  float32 is multiplied in IEEE float32, as in matmul.py.
Limits   Heads at most 128 wide, of fewer than 2^31 numbers each; no mask but the causal one, no dropout.  Non-contiguous inputs are
         copied.  Differentiable once.
"""

import math

import torch
import triton
from torch import Tensor

from .attention_tiles import forward_kernel, grad_keys_kernel, grad_queries_kernel, tile

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
WIDEST_HEAD = 128


def _launch(q: Tensor, k: Tensor, causal: bool, scale: float) -> dict[str, object]:
    """What the three kernels are told alike."""
    sizes = {"queries": q.shape[2], "keys": k.shape[2], "width": q.shape[3], "groups": q.shape[1] // k.shape[1]}
    return {**sizes, "scale": scale * math.log2(math.e), "CAUSAL": causal, **tile(q.shape[3], q.dtype)}


OPS = (__package__ or __name__).replace(".", "_")  # by package, so that two copies of this file can live in one process


@torch.library.custom_op(f"{OPS}::attention", mutates_args=())
def _attention(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    """(batch, heads, tokens, width) -> y, and float32 l per query (batch, heads, tokens).  Without keys y is 0."""
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    y, log = torch.zeros_like(q), q.new_zeros(q.shape[:3], dtype=torch.float32)
    if q.numel() and k.numel():
        launch = _launch(q, k, causal, scale)
        with torch.cuda.device_of(q):
            grid = (q.shape[0] * q.shape[1] * triton.cdiv(q.shape[2], launch["BLOCK_QUERIES"]),)
            forward_kernel[grid](q, k, v, y, log, **launch)
    return y, log


@_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape[:3], dtype=torch.float32)


@torch.library.custom_op(f"{OPS}::attention_backward", mutates_args=())
def _attention_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, y: Tensor, log: Tensor, causal: bool, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """dq, dk, dv."""
    grad, q, k, v, y = (tensor.contiguous() for tensor in (grad, q, k, v, y))
    grad_q, grad_k, grad_v = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    delta = torch.empty_like(log)
    if q.numel() and k.numel():
        launch = _launch(q, k, causal, scale)
        with torch.cuda.device_of(q):
            grid = (q.shape[0] * q.shape[1] * triton.cdiv(q.shape[2], launch["BLOCK_QUERIES"]),)
            grad_queries_kernel[grid](grad, q, k, v, y, log, delta, grad_q, **launch)
            grid = (k.shape[0] * k.shape[1] * triton.cdiv(k.shape[2], launch["BLOCK_KEYS"]),)
            grad_keys_kernel[grid](grad, q, k, v, log, delta, grad_k, grad_v, **launch)
    return grad_q, grad_k, grad_v


@_attention_backward.register_fake
def _(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, y: Tensor, log: Tensor, causal: bool, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _keep_operands(ctx, inputs, output) -> None:
    q, k, v, ctx.causal, ctx.scale = inputs
    ctx.save_for_backward(q, k, v, *output)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx, grad: Tensor, _: None) -> tuple[Tensor | None, ...]:
    return *_attention_backward(grad, *ctx.saved_tensors, ctx.causal, ctx.scale), None, None


_attention.register_autograd(_backward, setup_context=_keep_operands)


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False
) -> Tensor:
    """torch.nn.functional.scaled_dot_product_attention without mask and dropout:  softmax(query key^T scale) value.

    query is (batch, heads, tokens, width); key and value are alike, with tokens of their own and, if enable_gqa, with heads that divide
    query's.  Causal: token i of query sees the keys up to i.  scale None is 1 / sqrt(width).  Without any key the result is 0, as in torch.
    Raises ValueError where shapes, dtypes or devices do not fit, or the tensors are not on a GPU (under TRITON_INTERPRET=1: anywhere).
    """
    _check(query, key, value, enable_gqa)
    y, _ = _attention(query, key, value, is_causal, 1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    return y


def _check(query: Tensor, key: Tensor, value: Tensor, enable_gqa: bool) -> None:
    name, tensors = "scaled_dot_product_attention", (query, key, value)
    shapes = " ".join(str(tuple(tensor.shape)) for tensor in tensors)
    if any(tensor.dim() != 4 for tensor in tensors):
        raise ValueError(f"{name}: shapes are {shapes}; give (batch, heads, tokens, width) three times")
    if key.shape != value.shape or (query.shape[0], query.shape[3]) != (key.shape[0], key.shape[3]):
        raise ValueError(f"{name}: shapes are {shapes}; key must be as value, and all three of one batch and width")
    heads, kv_heads = query.shape[1], key.shape[1]
    if heads != kv_heads and not (enable_gqa and kv_heads and heads % kv_heads == 0):
        raise ValueError(f"{name}: {heads} heads with {kv_heads} key heads; give as many, or with enable_gqa=True a divisor of {heads}")
    if not 0 < query.shape[3] <= WIDEST_HEAD:
        raise ValueError(f"{name}: heads are {query.shape[3]} wide; this kernel takes 1 to {WIDEST_HEAD}")
    if query.dtype not in DTYPES or any(tensor.dtype != query.dtype for tensor in tensors):
        raise ValueError(f"{name}: dtypes are {[tensor.dtype for tensor in tensors]}; give one of float32, bfloat16, float16 to all")
    if any(tensor.device != query.device for tensor in tensors):
        raise ValueError(f"{name}: devices are {[str(tensor.device) for tensor in tensors]}; move all to one")
    if not query.is_cuda and isinstance(forward_kernel, triton.JITFunction):
        raise ValueError(f"{name}: tensors are on {query.device}; move them to a GPU, or set TRITON_INTERPRET=1 before importing triton")
