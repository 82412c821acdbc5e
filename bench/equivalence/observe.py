"""One forward and one backward of a subject, and all that they leave behind.  Nothing is judged here but shapes that cannot be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..subject import randomness
from ..subject.make import Subject, tensors
from .tolerance import Mismatch


@dataclass(frozen=True)
class Values:
    """All that one forward and one backward leave behind."""

    outputs: dict[str, Tensor]
    gradients: dict[str, Tensor]
    state: dict[str, Tensor]
    kinds: dict[str, str] = field(default_factory=dict)  # of the outputs: the names of their classes

    def all(self) -> dict[str, Tensor]:
        return self.outputs | self.gradients | self.state


def observe(subject: Subject, seed: int | None, calls: int = 1) -> Values:
    """Run forward, `calls` times, and one backward, and copy what came out.  Parameters and buffers are put back afterwards.

    seed: of the random numbers; None goes on where the last call ended.
    """
    before = subject.state()
    subject.clear_gradients()
    if seed is not None:
        randomness.seed(seed + 2_000_003)  # not the inputs' stream: a mask drawn from that would hang together with them
    for _ in range(calls):
        output = subject.forward()
    kinds = {name: "Tensor" if type(tensor) is nn.Parameter else type(tensor).__name__ for name, tensor in tensors(output).items()}
    outputs = {name: tensor.detach().clone() for name, tensor in tensors(output).items()}
    if any(g is not None for g in subject.cotangents):
        check_shapes(outputs, subject.cotangents)
        if not any(tensor.requires_grad for tensor in tensors(output).values()):
            raise Mismatch("output: no gradient flows through it; return tensors that depend on the inputs by differentiable operations")
        subject.backward(output)
    gradients = {f"{name} grad": tensor for name, tensor in subject.gradients().items()}
    after = {f"{name} after": tensor for name, tensor in subject.changes(before).items()}
    subject.clear_gradients()
    with torch.no_grad():
        for name, tensor in subject.module.state_dict().items():
            tensor.copy_(before[name])
    return Values(outputs, gradients, after, kinds)


def versions(subject: Subject) -> list[int]:
    """How often each input was written to, as autograd counts."""
    return [0 if tensor.is_inference() else tensor._version for tensor in subject.inputs]


def check_shapes(outputs: Mapping[str, Tensor], cotangents: Sequence[Tensor | None]) -> None:
    """Raises Mismatch where a gradient that is held ready fits no output."""
    if len(outputs) != len(cotangents):
        raise Mismatch(f"output: {len(outputs)} tensors where the reference returns {len(cotangents)}")
    for (name, tensor), cotangent in zip(outputs.items(), cotangents, strict=True):
        if cotangent is not None and tensor.shape != cotangent.shape:
            raise Mismatch(f"{name}: its shape is {tuple(tensor.shape)}, the reference's {tuple(cotangent.shape)}")
