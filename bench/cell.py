"""One cell: every variant of a layer at one size, dtype and device, made, compiled and verified once; then each step measured.

What is timed has only been made and verified, all variants by the same calls in the same number: a pass that leaves but an empty dictionary
on a tensor makes torch visit it at every call.  Compiling, counting work, weighing and profiling are done to doubles, thrown away.
Each pass is entered by name, so that a fault falls on the variant and stage it belongs to.  A variant that fails is out; the rest go on.
"""

import random
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType

import torch
from msgspec import structs

from . import compiling, leak, make, state, steps, verify, work
from .check.record import Facts
from .clock import Call, Clock
from .contention import Meanwhile
from .declare import NOISE_FLOOR, Layer
from .fault import in_words
from .make import Subject
from .measure import Limit, measure, measure_in_turn
from .memory import weigh
from .mistake import Mistake
from .profile import profile
from .prove import Enter
from .record import Accuracy, Compiled, Failed, Measured, Memory, Outcome, Point, Profile, Skipped, SweepGraphs, TensorError, Timing, Work
from .turns import Turns
from .verify import Truth

SEEDS = (1, 0)  # verified at both; the subjects that are timed hold the last one's numbers


class Cell:
    """Holds the modules and inputs of all variants and what is known of each: `subjects` are in, `out` says why the others are not."""

    def __init__(
        self,
        layer: Layer,
        point: Point,
        variants: tuple[str, ...],
        proofs: Mapping[str, list[TensorError] | Failed],
        enter: Enter,
        sweeps: Mapping[str, SweepGraphs | None] = MappingProxyType({}),
        cold: bool = True,
    ) -> None:
        self.layer, self.point, self.reference = layer, point, variants[0]
        self.subjects: dict[str, Subject] = {}
        self.out: dict[str, Outcome] = {}
        self._accuracy: dict[str, Accuracy] = {}
        self._compiled: dict[str, Compiled] = {}
        self._memory: dict[str, Memory] = {}
        self._work: dict[str, Work] = {}
        self._sweeps, self._cold = sweeps, cold
        self._enter = enter
        self._names = (*variants, NOISE_FLOOR)
        self._truth: Truth  # of the last seed
        for variant, proof in proofs.items():
            if isinstance(proof, Failed):
                self._drop(variant, proof)
        with self._attempt("make", self.reference):
            self._make()
        if self._reference_is_in():
            self._compile()
            self._verify({variant: proof for variant, proof in proofs.items() if not isinstance(proof, Failed)})

    # --- make, compile, verify: once -------------------------------------------------------------------------------------------

    def _source(self, variant: str) -> str:
        return self.reference if variant == NOISE_FLOOR else variant

    def _make(self) -> None:
        self._truth = self._truth_of(SEEDS[-1])
        self.differentiable = any(cotangent is not None for cotangent in self._truth.cotangents)
        self._whole = "training" if self.differentiable else "forward"
        for variant in random.Random(self.point.cell).sample(self._names, len(self._names)):  # no variant is always the first in memory
            if variant not in self.out:
                with self._attempt("make", variant):
                    self.subjects[variant] = self._double(variant)
        if self.reference in self.subjects:
            self._enter("make", self.reference)  # what dies from here on is not the last variant's fault
            self._work = work.count(self._double(self.reference), self.differentiable)

    def _double(self, variant: str) -> Subject:
        """A fresh subject of a variant, on the numbers of the last seed.  After the variant was compiled it runs those graphs."""
        module = make.variant_module(self.layer, self._source(variant), self.point.size, self._truth.weights)
        double = make.subject(variant, module, self._truth.inputs, self._truth.cotangents)
        double.compiled = torch.compile(module) if variant in self._compiled else None
        return double

    def _truth_of(self, seed: int) -> Truth:
        return verify.truth(self.layer, self.point.size, getattr(torch, self.point.dtype), self.point.device, seed)

    def _compile(self) -> None:
        compiling.forget()
        for variant, subject in list(self.subjects.items()):
            if not self.layer.variants[self._source(variant)].compile:
                continue
            if self.point.device == "cpu" and (missing := compiling.missing_compiler()):
                self._drop(variant, Skipped("compile", missing))
                continue
            with self._attempt("compile", variant):
                compiled = compiling.compile_cold(self._double(variant), self.differentiable, self._cold)
                subject.compiled = torch.compile(subject.module)
                self._compiled[variant] = structs.replace(compiled, sweep=self._sweeps.get(variant))

    def _verify(self, proofs: Mapping[str, list[TensorError]]) -> None:
        errors = {variant: [proofs.get(self._source(variant), [])] for variant in self.subjects}
        for seed in SEEDS:
            truth = self._truth
            with self._attempt("verify", self.reference):
                truth = self._truth if seed == SEEDS[-1] else self._truth_of(seed)
            if not self._reference_is_in():
                return
            for variant, subject in list(self.subjects.items()):
                with self._attempt("verify", variant):
                    errors[variant].append(verify.judge(self._as_drawn(subject, truth), truth))
        warnings = verify.weaknesses(self._truth)
        self._accuracy = {variant: verify.worst(errors[variant], warnings) for variant in self.subjects}

    def _as_drawn(self, subject: Subject, truth: Truth) -> Subject:
        """The subject with the weights and inputs of a truth; for the last seed these are the very buffers that are timed."""
        subject.module.load_state_dict(truth.weights.state_dict())
        if truth is self._truth:
            return subject
        drawn = make.subject(subject.variant, subject.module, truth.inputs, truth.cotangents)
        drawn.compiled = subject.compiled
        return drawn

    # --- measure: for every step -----------------------------------------------------------------------------------------------

    def measure(self, step: str, clock: Clock, limit: Limit, traces: Path | None, interleaved: bool = True) -> dict[str, Outcome]:
        """Every variant's outcome at one step, in the order of the variants."""
        if not self._reference_is_in():
            return self._in_order({})
        if reason := steps.impossible(step, self.differentiable, self.subjects[self.reference].learns):
            return self._in_order(dict.fromkeys(self.subjects, Skipped("time", reason)))
        calls = {name: make.call(self.subjects[name], step) for name in self._names if name in self.subjects}
        for name, call in calls.items():
            with self._attempt("warm", name):
                call.once()
                call.once()
        calls = {name: call for name, call in calls.items() if name in self.subjects}
        if not self._reference_is_in():
            return self._in_order({})
        timings = self._time(step, calls, clock, limit, interleaved)
        outcomes: dict[str, Outcome] = {}
        for name, timing in timings.items():
            if profiled := self._examine(name, step, traces):
                known = self._memory[name], self._accuracy[name], profiled, self._compiled.get(name)
                outcomes[name] = Measured(timing, *known, (), self._work.get(step))
        return self._in_order(outcomes if self._reference_is_in() else {})

    def _time(self, step: str, calls: Mapping[str, Call], clock: Clock, limit: Limit, interleaved: bool) -> dict[str, Timing]:
        """The timed pass.  A variant that raises under way is out and the others begin again; one that spoilt its times is out too."""
        while self._reference_is_in():
            left = {name: call for name, call in calls.items() if name in self.subjects}
            turns, meanwhile = Turns(self._enter), Meanwhile()
            try:
                seed = zlib.crc32(f"{self.point.cell} {step}".encode())  # one order of blocks at all points would favour one variant
                interleave = partial(measure, reference=self.reference, seed=seed) if interleaved else measure_in_turn
                timings = interleave(left, clock=clock, limit=limit, enter=turns)
            except Exception as error:  # noqa: BLE001  the code is the user's: any exception is a result
                timings, whose = {}, turns.variant or self.reference  # before the first turn nobody's: it would go on for ever
                self._drop(whose, Failed("time", in_words(error)))
            turns.settle()
            for name, failed in turns.spoilt().items():
                self._drop(name, failed)
            if not timings:
                continue
            others = meanwhile.others()
            return {name: structs.replace(timing, others=others) for name, timing in timings.items()}
        return {}

    def _examine(self, name: str, step: str, traces: Path | None) -> Profile | None:
        """After timing: still right on the buffers that were timed?  Then memory, once, and the profile, of a double.  None: it failed."""
        if name in self.subjects:
            with self._attempt("recheck", name):
                verify.judge(self._as_drawn(self.subjects[name], self._truth), self._truth)
        if name not in self.subjects:
            return None
        with self._attempt("profile" if name in self._memory else "memory", name):
            double = self._double(name)
            make.call(double, self._whole).once()
            if name not in self._memory:
                self._weigh(name, double)
        if name in self.subjects:
            with self._attempt("profile", name):
                return profile(make.call(double, step), self.point.device, None if name == NOISE_FLOOR else traces)
        return None

    def _weigh(self, name: str, subject: Subject, leaks: bool = True) -> None:
        self._memory[name] = weigh(subject, self.point.device)
        if leaks and name != NOISE_FLOOR:
            leak.check(subject, self.point.device)

    # --- facts: what is the same at every measurement ----------------------------------------------------------------------------

    def facts(self, leaks: bool) -> dict[str, Facts | Outcome]:
        """Memory, and what torch.compile did, of every variant that is the same layer; of the others why not.  Nothing is timed.

        leaks: a variant that holds more after every call has failed.
        """
        for name, subject in list(self.subjects.items()):
            with self._attempt("warm", name):
                make.call(subject, self._whole).once()
            if name in self.subjects:
                with self._attempt("memory", name):
                    self._weigh(name, subject, leaks)
        self._reference_is_in()
        known = {
            name: Facts(self._memory[name], self._compiled.get(name), self.differentiable, subject.learns)
            for name, subject in self.subjects.items()
        }
        return {name: found for name, found in (known | self.out).items() if name != NOISE_FLOOR}

    # --- faults ----------------------------------------------------------------------------------------------------------------

    @contextmanager
    def _attempt(self, stage: str, variant: str) -> Iterator[None]:
        """Whatever a variant raises becomes its Failed record, and it takes no further part."""
        self._enter(stage, variant)
        try:
            with state.untouched():
                yield
        except Exception as error:  # noqa: BLE001  the code is the user's: any exception is a result
            self._drop(variant, Failed("declare" if isinstance(error, Mistake) else stage, in_words(error)))

    def _drop(self, variant: str, outcome: Outcome) -> None:
        self.out.setdefault(variant, outcome)
        self.subjects.pop(variant, None)

    def _reference_is_in(self) -> bool:
        """Without the reference nothing can be compared: then all the others are out too, and why is said."""
        if self.reference in self.out:
            for variant in self._names:
                self._drop(variant, Skipped("verify", f"the reference {self.reference!r} failed, so there is nothing to compare with"))
        return self.reference not in self.out

    def _in_order(self, outcomes: Mapping[str, Outcome]) -> dict[str, Outcome]:
        found = self.out | dict(outcomes)
        return {name: found[name] for name in self._names if name in found}
