"""The program that Nsight Compute profiles: one step of each variant of a point, behind a marker kernel.

Nothing is timed here.  One process for all variants, since to start one under ncu takes longer than to count a few kernels.
Run by the parent, under ncu, as  python -m layerbench.bench.target FOLDER;  not meant to be typed.
"""

import sys
from pathlib import Path
from typing import Any

import msgspec
import torch

from .declare.layer import Layer
from .declare.mistake import DeviceLost, Mistake
from .machine import environment
from .process.ncu import COUNTED, ORDER, Count, Counted
from .profiling import compiling
from .subject import dynamo, make, torch_settings
from .subject.fault import in_words
from .subject.make import Drawn
from .suite import identity, mount
from .timing.clock import Call

SEED = 0  # the numbers that a run times are of this seed
WARM = 3  # calls before the one that is counted


def count(order: Count) -> Counted:
    """Raises Mistake where the layer is not the one that was measured, or the device is not there."""
    point = order.point
    if point.device != "cpu" and not torch.accelerator.is_available():
        raise Mistake(f"torch finds no GPU here, and the point is one of {point.device}; count it on the machine that measured it")
    environment.set_threads(order.threads)
    torch_settings.use_tf32(order.tf32)
    with make.mode(point.step):
        return _count(order, _layer(order))


def _count(order: Count, layer: Layer) -> Counted:
    point = order.point
    drawn = make.drawn(layer, point.size, getattr(torch, point.dtype), point.device, SEED)
    profiled, failed = [], {}
    for variant in order.variants:
        try:
            call = _warmed(layer, variant, order, drawn)
            held = call.setup() if call.setup else None
            profiled.append(variant)  # once its marker may have run
            begin(point.device)
            try:
                held = call.step(held)
            finally:
                end(point.device)
            del held, call  # ncu saves and restores all memory that is held, for every kernel anew
        except Exception as error:  # noqa: BLE001  the code is the user's: any exception is a result
            failed[variant] = in_words(error)
    return Counted(tuple(profiled), failed)


def _layer(order: Count) -> Layer:
    """The layer of the order, mounted anew.  Raises Mistake where it has changed since."""
    declared = mount.mount(order.suite)
    now = identity.identified((each.file, each.facts) for each in declared)
    if words := identity.edited([order.layer], now, {order.layer.name}):
        raise Mistake(f"{words}; measure the point again, without --run")
    return next(each.layer for each in declared if each.layer.name == order.layer.name)


def _warmed(layer: Layer, variant: str, order: Count, drawn: Drawn) -> Call:
    """The variant's step, compiled where it is declared so, and called WARM times."""
    module = make.variant_module(layer, variant, order.point.size, drawn.weights)
    subject = make.subject(variant, module, drawn.inputs, drawn.cotangents)
    if layer.variants[variant].compile:
        dynamo.forget()
        compiling.compile_cold(subject, any(cotangent is not None for cotangent in drawn.cotangents), cold=False)
    call = make.call(subject, order.point.step)
    for _ in range(WARM):
        call.once()
    return call


def begin(device: str) -> None:
    """Let ncu look from here on, and show it the marker: a kernel that spins for a cycle, which no layer launches.

    Kernels stand in ncu's table in the order of their launches, whichever thread they are from.  A range of NVTX holds those of one thread
    alone, and autograd launches backward's from another.
    """
    if device == "cpu":  # nobody looks
        return
    cuda: Any = torch.cuda  # torch says no types of these
    torch.accelerator.synchronize(device)
    cuda.empty_cache()
    cuda.profiler.start()
    cuda._sleep(1)


def end(device: str) -> None:
    if device == "cpu":
        return
    cuda: Any = torch.cuda
    torch.accelerator.synchronize(device)
    cuda.profiler.stop()


def main() -> None:
    folder = Path(sys.argv[1])
    sys.path.append(str(Path.cwd()))  # as in a worker
    order = msgspec.json.decode((folder / ORDER).read_bytes(), type=Count)
    try:
        counted = count(order)
    except (Mistake, DeviceLost) as reason:
        counted = Counted(refused=str(reason))
    (folder / COUNTED).write_bytes(msgspec.json.encode(counted))


if __name__ == "__main__":
    main()
