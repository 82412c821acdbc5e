"""What torch.compile did and cost: seconds with empty caches, graphs, breaks and their reasons, recompilations, silent fall-backs."""

import contextlib
import os
import shutil
import sysconfig
import time
from pathlib import Path

import torch
from torch import nn

from ..data.record import Compiled, SweepGraphs
from ..declare.layer import Layer
from ..declare.mistake import Finding
from ..subject import dynamo, make
from ..subject.make import Subject


class CompiledNothing(Finding):
    """torch.compile captured no graph: the variant would be the eager module under another name."""


def missing_compiler(device: str = "cpu") -> str:
    """Why torch.compile cannot work on a device of this machine; "" where it can, as far as is known beforehand."""
    if device != "cpu":  # Triton brings its own, and asks for a C compiler in words of its own
        return ""
    wanted = os.environ.get("CXX", "")
    if not any(shutil.which(compiler) for compiler in (wanted, "g++", "clang++") if compiler):
        return "torch.compile needs a C++ compiler and none is on PATH; install g++ (as: apt-get install g++)"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "torch.compile needs Python's C headers; install them (as: apt-get install python3-dev)"
    return ""


def start_compiler(folder: str, device: str = "cpu") -> None:
    """Compile something once: the first compilation of a process starts the compiler, and no variant's cold figure should carry that.

    It uses the user's cache, where most of it may lie ready; from then on this process compiles into `folder`.  A process that is killed
    while it compiles leaves a torn file in its cache, which breaks that compilation for everybody from then on: the user's cache is
    kept safe from us, and if it is torn already, we go without it.
    """
    try:
        _compile_something(device)
    except Exception:  # noqa: BLE001  a torn cache may raise anything
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        dynamo.forget()
        with contextlib.suppress(Exception):  # it is not the cache: the compiled variants will fail, each with its reason
            _compile_something(device)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder


def _compile_something(device: str) -> None:
    module = nn.Linear(2, 2, device=device)
    torch.compile(module)(torch.ones(2, 2, device=device)).sum().backward()


def compile_cold(subject: Subject, differentiable: bool, cold: bool = True) -> Compiled:
    """Compile the subject's module and put it in place: one forward and one backward with empty caches, unless not `cold`.

    Raises CompiledNothing where torch.compile fell back to eager for all of it.
    """
    if dynamo.graphs():  # then it may be another's, whose code it shares, that it runs
        with contextlib.suppress(CompiledNothing):
            return _compile_cold(subject, differentiable, cold)
        dynamo.forget()
    return _compile_cold(subject, differentiable, cold)


def _compile_cold(subject: Subject, differentiable: bool, cold: bool) -> Compiled:
    from torch._inductor.utils import fresh_cache

    graphs, breaks = dynamo.graphs(), dynamo.breaks()
    with fresh_cache() if cold else contextlib.nullcontext():
        start = time.perf_counter()
        subject.compiled = torch.compile(subject.module)
        output = subject.forward()
        if differentiable:
            subject.backward(output)
        held = (*subject.inputs, *subject.module.parameters())
        if held and (device := held[0].device.type) != "cpu":
            torch.accelerator.synchronize(device)
        seconds = time.perf_counter() - start
    subject.clear_gradients()
    reasons = tuple(dynamo.in_short(reason) for reason, count in dynamo.breaks().items() if count > breaks.get(reason, 0))
    if dynamo.graphs() == graphs:
        why = f" ({'; '.join(reasons)})" if reasons else ""
        raise CompiledNothing(f"torch.compile compiled nothing and fell back to eager{why}; a ratio would compare eager with eager")
    return Compiled(seconds, dynamo.graphs() - graphs, reasons, 0, cold=cold)


def over_sweep(layer: Layer, variant: str, device: str) -> SweepGraphs | None:
    """Graphs that dynamo captures where one module meets every size of the first dimension, the others at their smallest.

    device is a kind, "cpu" or any other: its sizes of the sweep.  Traced on tensors without data and compiled by nobody (backend "eager"),
    so it takes no time to speak of; what Inductor would add to the guards is not seen.  None where the module's parameters depend on that
    dimension, or where tracing fails or captures nothing.
    """
    sweep = layer.sweep_on(device)
    dimension, *others = sweep
    smallest = {name: min(sweep[name]) for name in others}
    sizes = [{dimension: value} | smallest for value in dict.fromkeys(sweep[dimension])]
    dynamo.forget()
    try:
        with torch.device("meta"):
            modules = [make.build(layer, layer.variants[variant], size) for size in sizes]
        if len({tuple((name, tensor.shape) for name, tensor in module.state_dict().items()) for module in modules}) > 1:
            return None
        compiled = torch.compile(modules[0], backend="eager")
        for size in sizes:
            compiled(*make.draw(layer.draws, size, torch.float32, "meta", 0))
    except Exception:  # noqa: BLE001  what it raises here it raises again when it is compiled for the point, and there it is recorded
        return None
    graphs = dynamo.graphs()
    dynamo.forget()
    return SweepGraphs(dimension, tuple(size[dimension] for size in sizes), graphs) if graphs else None
