"""What the hand-derived backwards of layers/ share."""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import torch
from torch import Tensor


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """For a backward that autograd cannot see through: to differentiate its results is refused, never silently wrong.

    torch's decorator of this name returns constants where the incoming gradient is one, as after y.sum(); and its refusal depends on no
    input, so that torch.autograd.grad goes past it.  But as soon as a number was saved, dL/dx may depend on every input.  So here the
    results depend on the incoming gradient and, if a number was saved, on the saved tensors and on all leaves before them.
    """

    @wraps(backward)
    def wrapper(ctx: Any, *grads: Tensor | None) -> Any:
        if not torch.is_grad_enabled():
            return backward(ctx, *grads)
        with torch.no_grad():
            results = backward(ctx, *grads)
        sources = [*grads]
        if any(each is not None and each.is_floating_point() for each in ctx.saved_tensors):  # not an index
            sources += [*ctx.saved_tensors, *_leaves(ctx)]
        sources = [each for each in sources if each is not None and each.requires_grad]
        refusing = _Refusal.apply((results,) if isinstance(results, Tensor) else results, *sources)
        return refusing[0] if isinstance(results, Tensor) else refusing

    return wrapper


class _Refusal(torch.autograd.Function):
    """Gradients, unchanged, that depend on the sources in a way nobody has derived."""

    @staticmethod
    def forward(ctx: Any, gradients: tuple[Tensor | None, ...], *sources: Tensor) -> tuple[Tensor | None, ...]:
        return tuple(None if each is None else each.detach() for each in gradients)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> None:
        raise RuntimeError("a hand-derived backward is once_differentiable: take the stock variant for second derivatives")


def _leaves(node: Any) -> Iterator[Tensor]:
    """The tensors at the ends of the graph before a node."""
    seen, waiting = {node}, [node]
    while waiting:
        node = waiting.pop()
        if hasattr(node, "variable"):
            yield node.variable
        before = {each for each, _ in node.next_functions if each is not None} - seen
        seen |= before
        waiting += before
