"""What a run on an accelerator does before it times anything: compilers started and kernels compiled, side by side over the cores.

Triton compiles a kernel for every dtype and size that it meets, which takes a second or two for each, on one core.  So the proofs of the
plan's layers run in processes of their own first.  What they compile lies in Triton's cache, where the worker finds it; what they found is
not used.  Meanwhile the worker starts its compiler.  All that goes wrong here goes wrong again in the worker, and is recorded there.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from ..data.record import LayerFacts
from ..declare.mistake import Mistake
from ..plan.planning import Task
from ..process.handle import WorkerDied
from ..process.protocol import Answer, Prove, Request, StartCompiler

MOST = 8  # processes: each holds a context of the device, half a gigabyte


class Spare(Protocol):
    """A worker that nothing else is asked of."""

    def launch(self) -> None: ...

    def greet(self) -> Answer: ...

    def answer(self, request: Request) -> Answer: ...

    def close(self) -> None: ...


def jobs(tasks: Sequence[Task], layers: Sequence[LayerFacts]) -> list[Prove]:
    """The proofs on accelerators that compile kernels: of every layer and dtype with a variant for GPUs alone."""
    kernels = {layer.name: tuple(v.name for v in layer.variants if v.devices == "gpu") for layer in layers}
    wanted = dict.fromkeys((t.point.layer, t.point.dtype, t.point.device) for t in tasks if t.point.device != "cpu")
    chosen = {task.point.layer: task.variants for task in tasks}
    return [
        Prove(layer, dtype, (chosen[layer][0], *names), device)
        for layer, dtype, device in wanted
        if (names := tuple(name for name in kernels[layer] if name in chosen[layer]))
    ]


def prepare(tasks: Sequence[Task], layers: Sequence[LayerFacts], worker: Spare, spare: Callable[[], Spare]) -> None:
    """Nothing where the plan is for the CPU alone.  spare: makes a worker."""
    compiled = {layer.name: {v.name for v in layer.variants if v.compile} for layer in layers}
    compilers = {t.point.device for t in tasks if t.point.device != "cpu" and compiled[t.point.layer] & set(t.variants)}
    todo = jobs(tasks, layers)
    spares = [spare() for _ in range(min(MOST, len(todo), (os.cpu_count() or 1) // 2))] if len(todo) > 1 else []
    for each in spares:
        each.launch()  # here: a process that is started in a thread ends with it
    queue = iter(todo)
    try:
        with ThreadPoolExecutor(1 + len(spares)) as threads:
            threads.submit(_ask, worker, [StartCompiler(device) for device in sorted(compilers)])
            for each in spares:
                threads.submit(_work, each, queue)
    finally:
        for each in spares:
            each.close()


def _work(spare: Spare, queue: Iterator[Prove]) -> None:
    """Until the queue is empty or the process dies: a new one would end with this thread."""
    with contextlib.suppress(WorkerDied, Mistake):
        spare.greet()
        for request in queue:
            spare.answer(request)


def _ask(worker: Spare, requests: Iterable[Request]) -> None:
    with contextlib.suppress(WorkerDied, Mistake):
        for request in requests:
            worker.answer(request)
