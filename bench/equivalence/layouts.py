"""The same numbers with other strides: inputs and incoming gradients as they come from a transpose, a slice, an expand.

Code that reads a tensor's memory as if it were contiguous is wrong here, and right everywhere else.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from .kinds import Way
from .use import Found, NotHere, Use, step

Lay = Callable[[Tensor], Tensor]
FILL = 3.0  # what lies in memory between the numbers of a slice


def transposed(tensor: Tensor) -> Tensor:
    """The last two dimensions lie in memory in the other order."""
    return tensor.mT.contiguous().mT if tensor.dim() > 1 else tensor


def sliced(tensor: Tensor) -> Tensor:
    """Part of a wider tensor, as a chunk of it: rows lie apart, and the first number is not the first of its memory."""
    if not tensor.dim():
        return _around(tensor, (3,))[1]
    return _around(tensor, (*tensor.shape[:-1], tensor.shape[-1] + 3))[..., 1:-2]


def every_second(tensor: Tensor) -> Tensor:
    """Every second number of a wider tensor: no two lie side by side."""
    return _around(tensor, (*tensor.shape[:-1], 2 * tensor.shape[-1]))[..., ::2] if tensor.dim() else tensor


def _around(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.full(shape, FILL if tensor.is_floating_point() else 0, dtype=tensor.dtype, device=tensor.device)


def expanded(tensor: Tensor) -> Tensor:
    """One row for all, with stride 0."""
    return tensor[:1].expand(tensor.shape) if tensor.dim() > 1 else tensor


def expanded_number(tensor: Tensor) -> Tensor:
    """One number for all, with stride 0 everywhere, as the gradient of a sum."""
    return tensor.flatten()[:1].squeeze(0).expand(tensor.shape) if tensor.numel() else tensor


def expanded_within(tensor: Tensor) -> Tensor:
    """One number for all of a row, with stride 0, as the gradient of a mean over the last dimension."""
    return tensor[..., :1].expand(tensor.shape) if tensor.dim() > 1 else tensor


def channels_last(tensor: Tensor) -> Tensor:
    """The second of four dimensions lies innermost."""
    return tensor.to(memory_format=torch.channels_last, copy=True) if tensor.dim() == 4 else tensor


def laid(tensor: Tensor, lay: Lay) -> Tensor:
    """Its numbers in the layout; those of a stride of 0 are fewer."""
    with torch.no_grad():
        made = lay(tensor.detach())
        return made.copy_(tensor) if lay in (sliced, every_second) else made


def gradients_laid(lay: Lay, use: Use) -> Found:
    use.needs_gradients()
    subject = use.subject()
    plain = subject.cotangents
    subject.cotangents = tuple(None if each is None else laid(each, lay) for each in plain)
    _check_that_it_differs(subject.cotangents, plain)
    return step(subject)


def inputs_laid(lay: Lay, use: Use) -> Found:
    subject = use.subject()
    plain = subject.inputs
    subject.inputs = tuple(laid(each, lay).requires_grad_(each.requires_grad) for each in plain)
    _check_that_it_differs(subject.inputs, plain)
    return step(subject)


def _check_that_it_differs(made: Sequence[Tensor | None], plain: Sequence[Tensor | None]) -> None:
    both = [(each, was) for each, was in zip(made, plain, strict=True) if each is not None and was is not None]
    if all(each.stride() == was.stride() and not each.storage_offset() for each, was in both):
        raise NotHere("there is no other layout of that shape")


WAYS = (
    Way("transposed gradients", partial(gradients_laid, transposed)),
    Way("expanded gradients", partial(gradients_laid, expanded_number)),
    Way("sliced gradients", partial(gradients_laid, sliced)),
    Way("transposed inputs", partial(inputs_laid, transposed)),
    Way("sliced inputs", partial(inputs_laid, sliced)),
    Way("expanded inputs", partial(inputs_laid, expanded)),
    Way("every second number of inputs", partial(inputs_laid, every_second)),
    Way("gradients expanded over rows", partial(gradients_laid, expanded)),
    Way("gradients expanded within rows", partial(gradients_laid, expanded_within)),
    Way("every second number of gradients", partial(gradients_laid, every_second)),
    Way("channels-last inputs", partial(inputs_laid, channels_last)),
    Way("channels-last gradients", partial(gradients_laid, channels_last)),
)
