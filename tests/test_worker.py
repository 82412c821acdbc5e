"""Real worker processes: what kills one, hangs it or makes it print is a record, and the run goes on."""

import os
from pathlib import Path

import pytest

from layerbench.bench.data.record import Measured, Point, Skipped
from layerbench.bench.declare.mistake import Mistake
from layerbench.bench.process.handle import INTERPRETER, Worker, WorkerDied
from layerbench.bench.process.protocol import Describe, Finished, Measure, Prove

pytestmark = pytest.mark.usefixtures("forked_processes")

SUITE = """
import os, signal, sys, time
from torch import nn
from layerbench.bench import GPU, Layer, Variant, randn

class Segfault(nn.ReLU):
    def forward(self, x):
        print("about to fall")
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGSEGV)

class Hangs(nn.ReLU):
    def forward(self, x):
        time.sleep(1000)

class Talks(nn.ReLU):
    def forward(self, x):
        print("x" * 100_000)
        return super().forward(x)

class NoKernel(nn.ReLU):
    pass

class Loses(nn.ReLU):
    def forward(self, x):  # as an illegal access on a GPU: the error, and nothing works after it in this process
        from layerbench.bench.subject import fault
        fault._lost = lambda: True
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

relu = Layer("relu", {"batch": (4,)}, (randn("batch", 8),), lambda module, size: module(),
    {"stock": Variant(nn.ReLU), "segfault": Variant(Segfault), "hangs": Variant(Hangs), "talks": Variant(Talks),
     "loses": Variant(Loses),
     "nokernel": Variant(NoKernel, devices=GPU)})
"""

EDITED = "the code of layer 'relu' has changed: {}, or a file that it imports or loads, while it was being measured; undo that change"
POINT = Point("relu", {"batch": 4}, "float32", "cpu", "forward")


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("suite") / "faulty.py"
    path.write_text(SUITE)
    return str(path)


def test_a_variant_that_breaks_the_device_fails_alone_and_a_new_process_goes_on(suite: str) -> None:
    worker = Worker(Describe(suite, 1), {})
    try:
        with pytest.raises(WorkerDied) as death:
            worker.answer(Measure(POINT, ("stock", "loses"), 0.1, ""))
        assert (death.value.stage, death.value.variant) == ("verify", "loses")
        assert death.value.reason == "the worker process died: CUDA error: an illegal memory access was encountered"
        answer = worker.answer(Measure(POINT, ("stock",), 0.1, ""))
        assert isinstance(answer, Finished) and isinstance(answer.records[0].outcome, Measured)
    finally:
        worker.close()


def test_deaths_and_hangs_are_told_with_stage_and_variant_and_a_new_worker_goes_on(suite: str) -> None:
    worker = Worker(Describe(suite, 1), {}, hang_seconds=2.0)
    try:
        with pytest.raises(WorkerDied) as death:
            worker.answer(Measure(POINT, ("stock", "segfault"), 0.1, ""))
        assert (death.value.stage, death.value.variant) == ("verify", "segfault")
        assert death.value.reason == "the worker process died: SIGSEGV; its last line was: about to fall"
        worker.hang_seconds = 60.0
        worker.answer(Measure(POINT, ("stock",), 0.1, ""))
        worker.hang_seconds = 1.0
        with pytest.raises(WorkerDied) as death:
            worker.answer(Measure(POINT, ("stock", "hangs"), 0.1, ""))
        assert (death.value.stage, death.value.variant) == ("verify", "hangs")
        assert death.value.reason == "no sign of life for 1 s; the worker was ended"
        worker.hang_seconds = 60.0
        answer = worker.answer(Measure(POINT, ("stock", "talks"), 0.1, ""))
        assert isinstance(answer, Finished)
        assert [type(record.outcome) for record in answer.records] == [Measured] * 3
    finally:
        worker.close()


def test_closing_leaves_no_process_behind(suite: str) -> None:
    worker = Worker(Describe(suite, 1), {})
    worker.describe()
    process = worker._process
    assert process is not None
    worker.close()
    assert process.returncode == 0
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_a_gpu_variant_without_a_triton_kernel_is_not_called_proved(suite: str) -> None:
    pytest.importorskip("triton", reason="triton is not installed")
    worker = Worker(Describe(suite, 1), INTERPRETER)
    try:
        answer = worker.answer(Prove("relu", "float32", ("nokernel",)))
    finally:
        worker.close()
    assert isinstance(answer, Finished)
    told = "needs a GPU; no Triton kernel was launched under the interpreter, so nothing is proved: it ran without one"
    assert answer.records[0].outcome == Skipped("verify", told)


def test_a_suite_that_kills_the_process_at_import_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "dead.py").write_text("import os\nos._exit(3)\n")
    with pytest.raises(
        Mistake, match=r"importing it ended the process: the worker process died: exit code 3; fix it, or name another --suite$"
    ):
        Worker(Describe(str(tmp_path / "dead.py"), 1), {}).describe()


def test_a_fault_of_ours_is_a_death_with_its_traceback_and_the_next_request_is_answered(
    suite: str, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = Worker(Describe(suite, 1), {})
    try:
        with pytest.raises(WorkerDied) as death:
            worker.answer(Measure(POINT, ("stock", "not declared"), 0.1, ""))
        assert death.value.reason == "a fault of layerbench itself, please report it: KeyError: 'not declared'"
        assert "Traceback (most recent call last)" in capsys.readouterr().err
        assert isinstance(worker.answer(Measure(POINT, ("stock",), 0.1, "")), Finished)
    finally:
        worker.close()


def test_a_worker_that_is_started_again_takes_no_edited_layer_up(tmp_path: Path) -> None:
    path = tmp_path / "edited.py"
    path.write_text(SUITE)
    worker = Worker(Describe(str(path), 1), {})
    try:
        worker.describe()
        path.write_text(SUITE.replace("super().forward(x)", "super().forward(x) * 1"))
        worker.close()
        with pytest.raises(Mistake) as caught:
            worker.answer(Measure(POINT, ("stock",), 0.1, ""))
        assert str(caught.value) == EDITED.format(path)
        path.write_text("# the same\n" + SUITE)
        worker.close()
        assert isinstance(worker.answer(Measure(POINT, ("stock",), 0.1, "")), Finished)
    finally:
        worker.close()
