"""Embedding:  y = W[index], a row of W for each index.   (torch.nn.Embedding)"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from ..bench import GPU, Layer, Variant, integers
from ._autograd import once_differentiable


class EmbeddingFunction(torch.autograd.Function):
    """Row r of dL/dW is the sum of g over the positions whose index is r; the row of padding_idx gets none.

    Deterministic on every device: a stable sort brings equal indices together, and one bag of F.embedding_bag then adds up each row's g
    in the order of the positions.  The price is the sort and a count of each row's uses; on a CPU, with few indices, it shows.
    dL/dW is dense, a whole W of mostly zeros, as stock's is without sparse=True.
    Saves the indices alone, as stock does; half types are summed in float32 by embedding_bag.
    """

    @staticmethod
    def forward(ctx: Any, index: Tensor, weight: Tensor, padding_idx: int | None) -> Tensor:
        ctx.save_for_backward(index)
        ctx.rows, ctx.padding_idx = len(weight), padding_idx
        return F.embedding(index, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        (index,) = ctx.saved_tensors
        grad = grad.reshape(-1, grad.shape[-1])
        if not index.numel():
            return None, grad.new_zeros(ctx.rows, grad.shape[1]), None
        index = index.flatten()
        uses = torch.bincount(index, minlength=ctx.rows)
        first = uses.cumsum(0).sub_(uses)
        order = index.argsort(stable=True)
        grad_weight = F.embedding_bag(order, grad, first, mode="sum")
        if ctx.padding_idx is not None:
            grad_weight[ctx.padding_idx] = 0
        return None, grad_weight, None


def _check(embedding: nn.Embedding) -> None:
    """Raises ValueError for what the variants leave out."""
    if embedding.max_norm is not None or embedding.scale_grad_by_freq or embedding.sparse:
        raise ValueError(f"{embedding}: this variant takes no max_norm, scale_grad_by_freq or sparse; use nn.Embedding for these")


class FunctionEmbedding(nn.Embedding):
    """nn.Embedding with the hand-derived backward of EmbeddingFunction; without max_norm, scale_grad_by_freq and sparse."""

    def forward(self, input: Tensor) -> Tensor:
        _check(self)
        return EmbeddingFunction.apply(input, self.weight, self.padding_idx)


class TritonEmbedding(nn.Embedding):
    """nn.Embedding with the Triton kernels of kernels/embedding.py; without max_norm, scale_grad_by_freq and sparse."""

    def forward(self, input: Tensor) -> Tensor:
        from ..kernels.embedding import embedding  # here, so that this file can be read where Triton is not installed

        _check(self)
        return embedding(input, self.weight, self.padding_idx)


embedding = Layer(
    "embedding",
    sweep={"batch": (1, 16, 64), "tokens": (128,), "vocabulary": (5000,), "width": (128,)},
    inputs=(integers("batch", "tokens", below="vocabulary"),),
    build=lambda module, size: module(size["vocabulary"], size["width"], padding_idx=0),
    variants={
        "stock": Variant(nn.Embedding),
        "function": Variant(FunctionEmbedding),
        "triton": Variant(TritonEmbedding, devices=GPU),
        "compile": Variant(nn.Embedding, compile=True),
    },
    verify_at=(
        {"batch": 3, "tokens": 5, "vocabulary": 13, "width": 7},  # some rows not drawn, some drawn more than once
        {"batch": 2, "tokens": 131, "vocabulary": 5, "width": 150},  # more uses of a row than a block holds, a row of several blocks
    ),
    on_request=True,
    gpu_sweep={"batch": (1, 8, 64), "tokens": (1024,), "vocabulary": (50_000,), "width": (1024,)},
)
