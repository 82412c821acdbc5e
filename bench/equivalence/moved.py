"""How far the reference itself is from the truth, on the numbers as drawn and on numbers moved by a rounding.

An answer in a dtype of few digits is one of many: another order of a sum, or another place to round, gives another, and where a maximum or
a ReLU falls the other way, a gradient jumps.  How far such answers lie apart is sampled as in stochastic arithmetic: the same code runs
again on numbers moved at random in the last place.  (CESTAC: Vignes, Mathematics and Computers in Simulation 35, 1993; Monte Carlo
arithmetic: Parker, UCLA CSD-970002, 1997.  Those move the result of every operation; here only the numbers given are moved, which needs no
access to what a kernel computes inside, and moves all that comes after.)
"""

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..subject.make import Subject
from .tolerance import Off, own_distance

FEW = 4  # draws of moved numbers, when the first are asked for; then twice as many, and twice as many again, up to
MOST = 32
BARELY = 2.0**-40  # of a number, in float64: less than a step of any dtype that is judged
JUMP = 2.0**-20  # of the largest value: what so little changes by more lies on a kink
Answer = Mapping[str, Tensor]


class Moved:
    """The distances of the reference's own answers, by tensor: the first on the numbers as drawn, the others on moved ones.

    It is lazy, for most variants are within the limit of the first: `more` runs the reference again, on a copy.
    again: what it answers on numbers moved by a seed.  beside: what it answers in float64 on numbers that are `barely` moved.
    """

    def __init__(
        self, again: Callable[[int], Answer], seed: int, exact: Answer, own: Answer, beside: Callable[[int], Answer] | None = None
    ) -> None:
        self._again, self._seed, self._exact, self._beside = again, seed, exact, beside
        self._sides: list[Answer] = []
        self.draws = 0
        self.offs: dict[str, list[Off]] = {}
        self._take(own)

    def more(self) -> bool:
        """Draw the first few, or as many as there are already; False where there have been enough."""
        if self.draws >= MOST:
            return False
        for _ in range(self.draws or FEW):
            self.draws += 1
            self._take(self._again(1_000 * self._seed + self.draws))
        return True

    def nearest(self, name: str, found: Tensor) -> Tensor:
        """The exact tensor; but where the numbers lie on a kink, as where two are equal and the larger is wanted, what is nearest to
        `found` of all that lies between the values on its sides: there each of those is a gradient.
        """
        exact = self._exact[name]
        if self._beside is None or not (exact.is_floating_point() and found.is_floating_point()) or found.shape != exact.shape:
            return exact
        if not self._sides:
            self._sides = [self._exact, *(self._beside(1_000 * self._seed + draw) for draw in range(MOST))]
        sides = torch.stack([side[name] for side in self._sides])
        low, high = sides.amin(0), sides.amax(0)
        kink = high - low > JUMP * exact.abs().max()
        near = found.to(exact.device, exact.dtype).clamp(low, high)
        totals, total = sides[:, kink].sum(1), near[kink].sum()  # that of a maximum is the same on each side: its gradient is shared out
        beyond = (total - total.clamp(totals.min(), totals.max())).abs() - (totals.max() - totals.min())
        return torch.where(kink, near, exact) if beyond <= torch.finfo(found.dtype).eps * near[kink].abs().sum() else exact

    def _take(self, seen: Answer) -> None:
        for name, tensor in seen.items():
            if name in self._exact and tensor.shape == self._exact[name].shape:
                self.offs.setdefault(name, []).append(own_distance(tensor, self._exact[name]))


def moved(subject: Subject, seed: int) -> Subject:
    """A copy of a subject whose inputs and parameters are moved; buffers, which may hold a mask or a count, are as they were."""
    generator = torch.Generator(_drawn_on(subject)).manual_seed(seed)
    module = copy.deepcopy(subject.module)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(nudged(parameter, generator))
    inputs = tuple(nudged(tensor, generator).requires_grad_(tensor.requires_grad) for tensor in subject.inputs)
    return Subject(subject.variant, module, inputs, subject.cotangents)


def _drawn_on(subject: Subject) -> str:
    """The device of its numbers, unless that has no float64."""
    kinds = {tensor.device.type for tensor in (*subject.inputs, *subject.module.parameters())}
    return next(iter(kinds)) if len(kinds) == 1 and kinds != {"mps"} else "cpu"


def barely(tensor: Tensor, seed: int) -> Tensor:
    """In float64, each number but 0 by so little that only those change their order that were equal."""
    if not tensor.is_floating_point():
        return tensor
    generator = torch.Generator().manual_seed(seed)
    wide = tensor.detach().double()
    changed = wide + wide * BARELY * torch.randn(wide.shape, generator=generator, dtype=torch.float64).to(wide.device)
    return changed.requires_grad_(tensor.requires_grad)


def nudged(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Each number up, down or left as it is, with equal chance, by half an epsilon of itself, which rounds to a step of its dtype.

    Signs stay, zeros stay, and so do whole numbers.  Drawn where the generator is: ten million numbers of a GPU take a second on the CPU.
    """
    if tensor.is_complex():
        return torch.view_as_complex(nudged(torch.view_as_real(tensor.detach().resolve_conj()), generator))
    if not tensor.is_floating_point():
        return tensor.detach().clone()
    wide = tensor.detach().to(generator.device).double()
    steps = torch.randint(-1, 2, wide.shape, generator=generator, device=generator.device, dtype=torch.int8)
    changed = torch.where(wide.isfinite(), wide + wide * steps * (torch.finfo(tensor.dtype).eps / 2), wide)
    return changed.to(tensor.dtype).to(tensor.device)
