"""The passes over the variants of a cell: make, compile, verify, warm, time, energy, recheck, memory, profile.  Their order is the cell's.

What is timed has only been made and verified, all variants by the same calls in the same number: a pass that leaves but an empty dictionary
on a tensor makes torch visit it at every call.  Compiling, counting work, energy, memory and profiling are done to doubles, thrown away.
Each pass is entered by name, so that a fault falls on the variant and stage it belongs to.
"""

import random
import zlib
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from msgspec import structs

from ..data.profiled import Profile
from ..data.record import Energy, Failed, Skipped, Timing
from ..declare.layer import NOISE_FLOOR
from ..equivalence import interpreter, replay, slack, verify, weakness
from ..equivalence.prove import Proof
from ..equivalence.verify import Truth
from ..machine import environment
from ..machine.contention import Meanwhile
from ..profiling import compiling, leak, memory, work
from ..profiling import profile as profiler
from ..subject import dynamo, states
from ..subject import make as subjects
from ..subject.fault import in_words
from ..subject.make import Subject
from ..timing import choice
from ..timing.accelerator import Accelerator
from ..timing.clock import Call, Clock
from ..timing.measure import Limit, measure, measure_in_turn
from ..timing.sustained import sustained
from .turns import Turns

if TYPE_CHECKING:
    from .cell import Cell

NO_KERNEL = "no Triton kernel was launched at this size: what was timed is other code"
SEEDS = (1, 0)  # verified at both; the subjects that are timed hold the last one's numbers


# --- once per cell -----------------------------------------------------------------------------------------------------------------


def make(cell: "Cell") -> None:
    """The reference's numbers, a subject per variant in an order by chance, and the work that a step must do at least."""
    cell.truth = _truth(cell, SEEDS[-1])
    cell.differentiable = any(cotangent is not None for cotangent in cell.truth.cotangents)
    for variant in random.Random(cell.point.cell).sample(cell.names, len(cell.names)):  # no variant is always the first in memory
        if variant not in cell.out:
            with cell.attempt("make", variant):
                cell.subjects[variant] = _double(cell, variant)
    if cell.reference in cell.subjects:
        cell.enter("make", cell.reference)  # what dies from here on is not the last variant's fault
        cell.work = work.count(_double(cell, cell.reference), cell.differentiable)


def compile_all(cell: "Cell") -> None:
    """The variants declared with compile=True: cold, on a double, which the subject then shares its graphs with."""
    dynamo.forget()
    for variant, subject in list(cell.subjects.items()):
        if not cell.layer.variants[cell.source(variant)].compile:
            continue
        if cell.point.device == "cpu" and (missing := compiling.missing_compiler()):
            cell.drop(variant, Skipped("compile", missing))
            continue
        with cell.attempt("compile", variant):
            compiled = compiling.compile_cold(_double(cell, variant), cell.differentiable, cell.cold)
            subject.compiled = torch.compile(subject.module)
            cell.compiled[variant] = structs.replace(compiled, sweep=cell.sweeps.get(variant))


def verify_all(cell: "Cell", proofs: Mapping[str, Proof]) -> None:
    """Every variant against the truths of all seeds.  proofs: what is known of it from other sizes."""
    known = {variant: proofs.get(cell.source(variant), Proof([])) for variant in cell.subjects}
    errors = {variant: [proof.errors] for variant, proof in known.items()}
    for seed in SEEDS:
        truth = cell.truth
        with cell.attempt("verify", cell.reference):
            truth = cell.truth if seed == SEEDS[-1] else _truth(cell, seed)
        if not cell.reference_is_in():
            return
        for variant, subject in list(cell.subjects.items()):
            claims = interpreter.claims(cell.source(variant), cell.point.device)
            with cell.attempt("verify", variant), interpreter.counted() if claims else nullcontext() as launches:
                errors[variant].append(verify.judge(_as_drawn(cell, subject, truth), truth))
            if launches and not launches.count:
                cell.warnings[variant] = (NO_KERNEL,)
    warnings = weakness.weaknesses(cell.truth)
    for variant in cell.subjects:
        uses = None if variant == NOISE_FLOOR else known[variant].uses
        cell.accuracy[variant] = structs.replace(slack.worst(errors[variant], warnings), uses=uses)


# --- for every step ----------------------------------------------------------------------------------------------------------------


def warm(cell: "Cell", step: str) -> dict[str, Call]:
    """The calls of a step, each called twice; without those that raised."""
    calls = {name: subjects.call(cell.subjects[name], step) for name in cell.names if name in cell.subjects}
    for name, call in calls.items():
        with cell.attempt("warm", name):
            call.once()
            call.once()
    return {name: call for name, call in calls.items() if name in cell.subjects}


def time(
    cell: "Cell", step: str, calls: Mapping[str, Call], clock: Clock, limit: Limit, interleaved: bool, graph: str
) -> dict[str, Timing]:
    """The timed pass.  A variant that raises under way is out and the others begin again; one that spoilt its times is out too."""
    while cell.reference_is_in():
        left = {name: call for name, call in calls.items() if name in cell.subjects}
        turns, meanwhile = Turns(cell.enter), Meanwhile()
        try:
            seed = zlib.crc32(f"{cell.point.cell} {step}".encode())  # one order of blocks at all points would favour one variant
            interleave = partial(measure, reference=cell.reference, seed=seed) if interleaved else measure_in_turn
            chosen, uncaptured = choice.finer(clock, left, graph, turns)
            timings = interleave(left, clock=chosen, limit=limit, enter=turns)
        except Exception as error:  # noqa: BLE001  the code is the user's: any exception is a result
            timings, whose = {}, turns.variant or cell.reference  # before the first turn nobody's: it would go on for ever
            cell.drop(whose, Failed("time", in_words(error)))
        turns.settle()
        for name, failed in turns.spoilt().items():
            cell.drop(name, failed)
        if not timings:
            continue
        others = meanwhile.others()
        return {name: structs.replace(_noted(timing, uncaptured), others=others) for name, timing in timings.items()}
    return {}


def _noted(timing: Timing, uncaptured: str) -> Timing:
    return structs.replace(timing, device=structs.replace(timing.device, uncaptured=uncaptured)) if timing.device else timing


def energy(cell: "Cell", name: str, step: str, device: Accelerator) -> Energy | str | None:
    """A double in a loop under load.  None: the variant is out."""
    if name in cell.subjects:
        with cell.attempt("energy", name):
            return sustained(subjects.call(_used(cell, name), step), device)
    return None


def recheck(cell: "Cell", name: str) -> None:
    """Is it still right, on the buffers that were timed, and on other numbers in them?"""
    if name in cell.subjects:
        with cell.attempt("recheck", name):
            verify.judge(_as_drawn(cell, cell.subjects[name], cell.truth), cell.truth)
            _replays(cell, name)


def weigh(cell: "Cell", name: str) -> None:
    """Memory and leaks of a double; once per cell, since they are the same at every step."""
    if name in cell.subjects and name not in cell.memory:
        with cell.attempt("memory", name):
            _weigh(cell, name, _used(cell, name), leaks=True)


def weigh_itself(cell: "Cell", name: str, leaks: bool) -> None:
    """The same of the subject, where nothing is timed."""
    with cell.attempt("warm", name):
        subjects.call(cell.subjects[name], _whole(cell)).once()
    if name in cell.subjects:
        with cell.attempt("verify", name):
            _replays(cell, name)
    if name in cell.subjects:
        with cell.attempt("memory", name):
            _weigh(cell, name, cell.subjects[name], leaks)


def profile(cell: "Cell", name: str, step: str, traces: Path | None) -> Profile | None:
    """One pass of torch.profiler over a double.  None: the variant is out."""
    if name in cell.subjects:
        with cell.attempt("profile", name):
            call, device = subjects.call(_used(cell, name), step), cell.point.device
            look = environment.driver(device).look
            return profiler.profile(call, device, None if name == NOISE_FLOOR else traces, lambda: look().mhz)
    return None


# --- what they share ---------------------------------------------------------------------------------------------------------------


def _truth(cell: "Cell", seed: int) -> Truth:
    return verify.truth(cell.layer, cell.point.size, getattr(torch, cell.point.dtype), cell.point.device, seed)


def _whole(cell: "Cell") -> str:
    """The step that does everything that the layer can."""
    return "training" if cell.differentiable else "forward"


def _double(cell: "Cell", variant: str) -> Subject:
    """A fresh subject of a variant, on the numbers of the last seed.  After the variant was compiled it runs those graphs."""
    module = subjects.variant_module(cell.layer, cell.source(variant), cell.point.size, cell.truth.weights)
    double = subjects.subject(variant, module, cell.truth.inputs, cell.truth.cotangents)
    double.compiled = torch.compile(module) if variant in cell.compiled else None
    return double


def _used(cell: "Cell", variant: str) -> Subject:
    """A double that was called once."""
    double = _double(cell, variant)
    subjects.call(double, _whole(cell)).once()
    return double


def _as_drawn(cell: "Cell", subject: Subject, truth: Truth) -> Subject:
    """The subject with the weights and inputs of a truth; for the last seed these are the very buffers that are timed."""
    states.load(subject.module, truth.weights)
    if truth is cell.truth:
        return subject
    drawn = subjects.subject(subject.variant, subject.module, truth.inputs, truth.cotangents)
    drawn.compiled = subject.compiled
    return drawn


def _replays(cell: "Cell", name: str) -> None:
    replay.check(cell.subjects[name], _double(cell, name), cell.truth)


def _weigh(cell: "Cell", name: str, subject: Subject, leaks: bool) -> None:
    cell.memory[name] = memory.weigh(subject, cell.point.device)
    if leaks and name != NOISE_FLOOR:
        leak.check(subject, cell.point.device)
