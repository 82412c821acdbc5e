"""What a module returned, as tensors by name: nested, complex and sparse ones too, in a form that can be compared and differentiated."""

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..declare.mistake import Mistake


def tensors(output: object, name: str = "output") -> dict[str, Tensor]:
    """The tensors of a module's output by name: output, or output[0], output['h'] where it is nested.  What is none is left out.

    Raises Mistake for a NestedTensor.
    """
    if isinstance(output, Tensor):
        return {name: comparable(output, name)}
    if isinstance(output, Mapping):
        parts: list[tuple[str, object]] = [(f"{name}[{key!r}]", value) for key, value in output.items()]
    elif isinstance(output, Sequence) and not isinstance(output, str):
        parts = [(f"{name}[{index}]", value) for index, value in enumerate(output)]
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        parts = [(f"{name}.{field.name}", getattr(output, field.name)) for field in dataclasses.fields(output)]
    else:
        return {}
    return {label: tensor for part, value in parts for label, tensor in tensors(value, part).items()}


def comparable(tensor: Tensor, name: str) -> Tensor:
    """Dense and real: a complex tensor has a last dimension of two, its real and imaginary part.  Others are returned as they are."""
    if tensor.is_nested:
        raise Mistake(f"{name}: a NestedTensor cannot be compared; return the padded tensor, or a list of tensors")
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()  # type: ignore[no-untyped-call, unused-ignore]
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
