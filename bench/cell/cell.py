"""One cell: every variant of a layer at one size, dtype and device.  Here is the order of its passes; what each does is in `passes`.

Once, as the cell is made:   make -> compile -> verify
For every step:              warm -> time -> energy (if asked) -> recheck -> memory (once) -> profile
For a regression check:      warm -> memory

A pass takes every variant that is still in.  A variant that fails is out, with the reason; the rest go on.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import torch

from ..data.check_record import Facts
from ..data.record import Accuracy, Compiled, Failed, Measured, Memory, Outcome, Point, Skipped, SweepGraphs, Work
from ..declare.layer import NOISE_FLOOR, Layer
from ..declare.mistake import Mistake
from ..equivalence.prove import Enter, Proof
from ..equivalence.verify import Truth
from ..machine import numa
from ..plan import steps
from ..subject import make, torch_settings
from ..subject.fault import in_words
from ..subject.make import Subject
from ..timing.accelerator import Accelerator
from ..timing.clock import Clock
from ..timing.measure import Limit
from . import passes


class Cell:
    """Holds what the passes find.  `subjects` are in, `out` says why the others are not; the rest is by variant.

    proofs  variant -> its proof at the layer's odd sizes and in use, or why it failed there.
    enter   is told (stage, variant) before each piece of work, so that a death of the process falls on whoever was in hand.
    sweeps  compiled variant -> the graphs that it takes over the whole sweep.
    cold    whether compiling begins with empty caches, so that its seconds say something.
    """

    def __init__(
        self,
        layer: Layer,
        point: Point,
        variants: tuple[str, ...],
        proofs: Mapping[str, Proof | Failed],
        enter: Enter,
        sweeps: Mapping[str, SweepGraphs | None] = MappingProxyType({}),
        cold: bool = True,
    ) -> None:
        self.layer, self.point, self.reference = layer, point, variants[0]
        self.names = (*variants, NOISE_FLOOR)
        self.enter, self.sweeps, self.cold = enter, sweeps, cold
        self.subjects: dict[str, Subject] = {}
        self.out: dict[str, Outcome] = {}
        self.truth: Truth  # of the numbers that the subjects hold
        self.differentiable = False
        self.accuracy: dict[str, Accuracy] = {}
        self.compiled: dict[str, Compiled] = {}
        self.warnings: dict[str, tuple[str, ...]] = {}
        self.memory: dict[str, Memory] = {}
        self.work: dict[str, Work] = {}
        for variant, proof in proofs.items():
            if isinstance(proof, Failed):
                self.drop(variant, proof)
        with make.mode(point.step):
            with self.attempt("make", self.reference):
                passes.make(self)
            if self.reference_is_in():
                passes.compile_all(self)
                passes.verify_all(self, {variant: proof for variant, proof in proofs.items() if not isinstance(proof, Failed)})

    def measure(
        self,
        step: str,
        clock: Clock,
        limit: Limit,
        traces: Path | None,
        interleaved: bool = True,
        graph: str = "auto",
        metered: Accelerator | None = None,
    ) -> dict[str, Outcome]:
        """Every variant's outcome at one step, in the order of the variants.  traces: a folder for the profiler's, None for none.

        graph: whether short steps are timed in a CUDA graph, as in `choice.finer`.
        metered: the device whose energy is wanted, None: it is not.
        """
        with make.mode(step):
            return self._measure(step, clock, limit, traces, interleaved, graph, metered)

    def _measure(
        self, step: str, clock: Clock, limit: Limit, traces: Path | None, interleaved: bool, graph: str, metered: Accelerator | None
    ) -> dict[str, Outcome]:
        if not self.reference_is_in():
            return self._in_order({})
        if reason := steps.impossible(step, self.differentiable, self.subjects[self.reference].learns):
            return self._in_order(dict.fromkeys(self.subjects, Skipped("time", reason)))
        with numa.bound(numa.near(self.point.device)):
            calls = passes.warm(self, step)
            timings = passes.time(self, step, calls, clock, limit, interleaved, graph)
            energy = {name: passes.energy(self, name, step, metered) for name in timings} if metered else {}
        outcomes: dict[str, Outcome] = {}
        for name, timing in timings.items():
            passes.recheck(self, name)
            passes.weigh(self, name)
            if profile := passes.profile(self, name, step, traces):
                known = self.memory[name], self.accuracy[name], profile, self.compiled.get(name)
                outcomes[name] = Measured(timing, *known, self.warnings.get(name, ()), self.work.get(step), energy.get(name))
        return self._in_order(outcomes if self.reference_is_in() else {})

    def facts(self, leaks: bool) -> dict[str, Facts | Outcome]:
        """Memory, and what torch.compile did, of every variant that is the same layer; of the others why not.  Nothing is timed.

        leaks: a variant that holds more after every call has failed.
        """
        with make.mode(self.point.step):
            for name in list(self.subjects):
                passes.weigh_itself(self, name, leaks)
        self.reference_is_in()
        known = {
            name: Facts(self.memory[name], self.compiled.get(name), self.differentiable, subject.learns, self._mark(name))
            for name, subject in self.subjects.items()
        }
        return {name: found for name, found in (known | self.out).items() if name != NOISE_FLOOR}

    def _mark(self, name: str) -> tuple[str, ...]:
        uses = self.accuracy[name].uses
        return uses.mark if uses else ()

    # --- who is in, who is out ---------------------------------------------------------------------------------------------------

    def source(self, variant: str) -> str:
        """The declared variant that it is made from."""
        return self.reference if variant == NOISE_FLOOR else variant

    @contextmanager
    def attempt(self, stage: str, variant: str) -> Iterator[None]:
        """Whatever a variant raises becomes its Failed record, and it takes no further part."""
        self.enter(stage, variant)
        try:
            with torch_settings.untouched():
                yield
                if self.point.device != "cpu":  # what it still has to compute may fail, too
                    torch.accelerator.synchronize(self.point.device)
        except Exception as error:  # noqa: BLE001  the code is the user's: any exception is a result
            self.drop(variant, Failed("declare" if isinstance(error, Mistake) else stage, in_words(error)))

    def drop(self, variant: str, outcome: Outcome) -> None:
        self.out.setdefault(variant, outcome)
        self.subjects.pop(variant, None)

    def reference_is_in(self) -> bool:
        """Without the reference nothing can be compared: then all the others are out too, and why is said."""
        if self.reference in self.out:
            for variant in self.names:
                self.drop(variant, Skipped("verify", f"the reference {self.reference!r} failed, so there is nothing to compare with"))
        return self.reference not in self.out

    def _in_order(self, outcomes: Mapping[str, Outcome]) -> dict[str, Outcome]:
        found = self.out | dict(outcomes)
        return {name: found[name] for name in self.names if name in found}
