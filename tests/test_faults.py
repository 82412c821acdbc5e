"""Planted faults in real runs: each is Failed with its stage and reason, every other variant has its numbers, nothing is left behind."""

import os
import re
import subprocess
import sys
from typing import NamedTuple

import psutil
import pytest

from layerbench.bench.data.record import Failed, Measured, Outcome, Skipped
from layerbench.bench.storage import run_file

pytestmark = pytest.mark.usefixtures("forked_processes")

SUITE = '''
"""ReLU, in every way that it can go wrong."""
import ctypes, os, signal, sys, time
import torch
from torch import nn
from layerbench.bench import Layer, Variant, randn

HELD = []

class Raises(nn.ReLU):
    def forward(self, x):
        raise KeyError("no such thing")

class RaisesLate(nn.ReLU):
    calls = 0
    def forward(self, x):
        self.calls += 1
        if self.calls > 40:
            raise ValueError("enough")
        return super().forward(x)

class Wrong(nn.ReLU):
    def forward(self, x):
        return super().forward(x) * 1.01

class NaN(nn.ReLU):
    def forward(self, x):
        return super().forward(x) * float("nan")

class Recurses(nn.ReLU):
    def forward(self, x):
        return self.forward(x)

class Allocates(nn.ReLU):
    def forward(self, x):
        HELD.append(1)
        return [torch.empty(2**28) for _ in range(10**6)]

class Leaks(nn.ReLU):
    def forward(self, x):
        HELD.append(torch.ones(1000))
        return super().forward(x)

class Caches(nn.ReLU):
    kept = None
    def forward(self, x):
        self.kept = torch.ones(1000)
        return super().forward(x)

class Cycles(nn.ReLU):
    def forward(self, x):
        knot = [torch.ones(1000)]
        knot.append(knot)
        return super().forward(x)

class InPlace(nn.ReLU):
    def forward(self, x):
        y = super().forward(x)
        with torch.no_grad():
            x.mul_(2)
        return y

class Talks(nn.ReLU):
    def forward(self, x):
        print("x" * 1_000_000)
        return super().forward(x)

class Dtype(nn.ReLU):
    def forward(self, x):
        torch.set_default_dtype(torch.float64)
        return super().forward(x)

class Threads(nn.ReLU):
    def __init__(self):
        super().__init__()
        torch.set_num_threads(torch.get_num_threads() + 1)

class NoGrad(nn.ReLU):
    def forward(self, x):
        y = super().forward(x)
        torch.set_grad_enabled(False)
        return y

class Precision(nn.ReLU):
    def forward(self, x):
        torch.set_float32_matmul_precision("medium")
        return super().forward(x)

class LateThreads(nn.ReLU):
    calls = 0
    def forward(self, x):
        self.calls += 1
        if self.calls == 40:
            torch.set_num_threads(torch.get_num_threads() + 1)
        return super().forward(x)

class NoTensor(nn.ReLU):
    def forward(self, x):
        return 7

class Unpicklable(nn.ReLU):
    def forward(self, x):
        return lambda: x

class Huge(nn.ReLU):
    def forward(self, x):
        return super().forward(x).expand(2**20, *x.shape)

class Recompiles(nn.ReLU):
    calls = 0
    def forward(self, x):
        self.calls += 1
        return super().forward(x) + 0 * self.calls

class Segfault(nn.ReLU):
    def forward(self, x):
        ctypes.string_at(0)

class Leaves(nn.ReLU):
    def forward(self, x):
        print("goodbye")
        sys.stdout.flush()
        os._exit(0)

class Exits(nn.ReLU):
    def forward(self, x):
        sys.exit(3)

class Spins(nn.ReLU):
    def forward(self, x):
        while True:
            pass

class Ignores(nn.ReLU):
    def forward(self, x):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        time.sleep(1000)

class Child(nn.ReLU):
    def forward(self, x):
        if os.fork() == 0:
            time.sleep(1000)
        os._exit(0)

class Hangs_up(nn.ReLU):
    def forward(self, x):
        os.closerange(3, 64)
        time.sleep(1000)

class Kills(nn.ReLU):
    def forward(self, x):
        os.kill(os.getpid(), signal.SIGABRT)

class Hungry(nn.ReLU):
    def forward(self, x):
        if len(x) > 1:
            torch.empty(10**13)
        return super().forward(x)

class Good(nn.ReLU):
    pass

def layer(name, *modules, **compiled):
    variants = {"stock": Variant(nn.ReLU)} | {module.__name__.lower(): Variant(module) for module in modules} | compiled
    return Layer(name, {"batch": (2,)}, (randn("batch", 8),), lambda module, size: module(), variants | {"good": Variant(Good)})

mild = layer("mild", Raises, RaisesLate, Wrong, NaN, Recurses, Allocates, Leaks, Caches, Cycles, InPlace, Talks, Dtype, Threads, NoGrad,
    Precision, LateThreads, NoTensor, Unpicklable, Huge)
compiled = layer("compiled", recompiles=Variant(Recompiles, compile=True), fine=Variant(nn.ReLU, compile=True))
deadly = layer("deadly", Segfault, Leaves, Exits, Spins, Ignores, Child, Hangs_up)
sizes = Layer("sizes", {"batch": (1, 2, 3, 4)}, (randn("batch", 8),), lambda module, size: module(),
    {"stock": Variant(nn.ReLU), "hungry": Variant(Hungry), "kills": Variant(Kills), "good": Variant(Good)}, verify_at=({"batch": 1},))
mute = Layer("mute", {"batch": (2,)}, (randn("batch", 8),), lambda module, size: module(),
    {"stock": Variant(NoTensor), "good": Variant(Good)})
'''

DIED = "the worker process died: "
MILD = {
    "raises": ("verify", "KeyError: 'no such thing' (at batch=3)"),
    "raiseslate": ("time", "ValueError: enough"),
    "wrong": ("verify", r"output: off by 0\.\d+, allowed \S+ \(at batch=3\)"),
    "nan": ("verify", r"output: NaN in 24 of 24 places where the reference has numbers \(at batch=3\)"),
    "recurses": ("verify", "RecursionError: maximum recursion depth exceeded (at batch=3)"),
    "allocates": ("verify", r"out of memory: 1\.1 GB were asked for at once, the worker may hold \d+\.\d GB in all \(at batch=3\)"),
    "leaks": ("memory", "leaks 4000 bytes a call"),
    "inplace": ("verify", "input 0: changed in place; compute on a copy (at batch=3)"),
    "dtype": ("verify", "changes the default dtype from float32 to float64 (at batch=3)"),
    "threads": ("verify", "changes the number of threads from 1 to 2 (at batch=3)"),
    "nograd": ("verify", "changes the gradient mode from on to off (at batch=3)"),
    "precision": ("verify", "changes the float32 matmul precision from highest to medium (at batch=3)"),
    "latethreads": ("time", "changes the number of threads from 1 to 2"),
    "notensor": ("verify", "output: 0 tensors where the reference returns 1 (at batch=3)"),
    "unpicklable": ("verify", "output: 0 tensors where the reference returns 1 (at batch=3)"),
    "huge": ("verify", r"output: its shape is \(1048576, 3, 8\), the reference's \(3, 8\) \(at batch=3\)"),
}
DEADLY = {
    "segfault": ("verify", DIED + "SIGSEGV"),
    "leaves": ("verify", DIED + "exit code 0; its last line was: goodbye"),
    "exits": ("verify", DIED + "exit code 3"),
    "spins": ("verify", "no sign of life for 3 s; the worker was ended"),
    "ignores": ("verify", "no sign of life for 3 s; the worker was ended"),
    "child": ("verify", DIED + "exit code 0"),
    "hangs_up": ("verify", DIED + "it closed its connection to layerbench"),
}


class Done(NamedTuple):
    codes: list[int]
    folders: list[str]  # the working folder of all that a run starts
    errors: list[str]
    outcomes: dict[tuple[str, int, str], Outcome]  # layer, batch, variant


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    options = ("--suite", "faulty.py", "--device", "cpu", "--step", "forward", "--threads", "1", "--budget", "1s", "--quiet")
    done = Done([], [], [], {})
    started = []  # both at once: most of their time goes into starting workers
    for words in (("-k", "not deadly"), ("-k", "deadly", "--hang-limit", "3")):  # what compiles may take longer than that
        folder = tmp_path_factory.mktemp("faults")
        (folder / "faulty.py").write_text(SUITE)
        command = [sys.executable, "-m", "layerbench.bench", "run", *options, *words]
        environment = {**os.environ, "TMPDIR": str(folder)}  # and so a lock of its own
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        started.append((folder, process))
    for folder, process in started:
        done.errors.append(process.communicate(timeout=300)[1])
        done.codes.append(process.returncode)
        done.folders.append(str(folder))
        records = run_file.read(run_file.newest(folder / "results")).records
        done.outcomes.update({(each.point.layer, each.point.size["batch"], each.variant): each.outcome for each in records})
    return done


def test_the_exit_code_says_that_something_failed_and_nothing_else_was_said(done: Done) -> None:
    assert done.codes == [1, 1]
    assert [re.sub(r"about \d+ s|--budget \d+0s", "N", error) for error in done.errors] == [
        f"layerbench: {points} N at least, however short each is timed: more than --budget 1s.  "
        "Write  N,  or choose fewer points:  layerbench run --dry-run  lists them\n"
        for points in ("7 points take", "1 point takes")
    ]


@pytest.mark.parametrize(
    ("layer", "variant"), [("mild", variant) for variant in MILD] + [("deadly", variant) for variant in DEADLY], ids=lambda name: name
)
def test_a_fault_is_failed_with_its_stage_and_reason(layer: str, variant: str, done: Done) -> None:
    stage, reason = (MILD | DEADLY)[variant]
    outcome = done.outcomes[layer, 2, variant]
    assert isinstance(outcome, Failed)
    assert outcome.stage == stage
    assert outcome.reason == reason or re.fullmatch(reason, outcome.reason), outcome.reason


@pytest.mark.parametrize("variant", ["caches", "cycles", "talks"])
def test_what_is_odd_but_no_fault_is_measured(variant: str, done: Done) -> None:
    assert isinstance(done.outcomes["mild", 2, variant], Measured)


def test_a_variant_that_compiles_at_every_call_has_no_time(done: Done) -> None:
    outcome = done.outcomes["compiled", 2, "recompiles"]
    assert isinstance(outcome, Failed) and outcome.stage == "time"
    assert re.fullmatch(r"torch\.compile compiled again \d times? while it was timed", outcome.reason)
    fine = done.outcomes["compiled", 2, "fine"]
    assert isinstance(fine, Measured) and fine.compiled is not None and fine.compiled.recompiles == 0


@pytest.mark.parametrize("layer", ["mild", "compiled", "deadly"])
def test_the_others_have_their_numbers(layer: str, done: Done) -> None:
    for variant in ("stock", "good", "noise_floor"):
        outcome = done.outcomes[layer, 2, variant]
        assert isinstance(outcome, Measured) and len(outcome.timing.seconds) >= 6


def test_out_of_memory_at_one_size_skips_the_larger_ones_and_two_deaths_the_rest(done: Done) -> None:
    hungry = [done.outcomes["sizes", batch, "hungry"] for batch in (1, 2, 3, 4)]
    assert isinstance(hungry[0], Measured)
    assert isinstance(hungry[1], Failed) and hungry[1].reason.startswith("out of memory: 40000.0 GB were asked for at once, the worker may")
    assert hungry[2:] == [Skipped("make", "out of memory at batch=2; larger sizes are skipped")] * 2
    kills = [done.outcomes["sizes", batch, "kills"] for batch in (1, 2, 3, 4)]
    assert kills[:2] == [Failed("verify", DIED + "SIGABRT")] * 2
    told = "it ended the worker at 2 cells of this layer and is not tried again; " + DIED + "SIGABRT"
    assert kills[2:] == [Skipped("make", told)] * 2
    assert all(isinstance(done.outcomes["sizes", batch, "good"], Measured) for batch in (1, 2, 3, 4))


def test_a_reference_without_tensors_is_said_of_it(done: Done) -> None:
    told = "the reference: output: the reference returns int, no tensors; return a tensor, or a tuple or dict of them (at batch=3)"
    assert done.outcomes["mute", 2, "stock"] == Failed("verify", told)
    assert done.outcomes["mute", 2, "good"] == Skipped("verify", "the reference 'stock' failed, so there is nothing to compare with")


def test_no_process_is_left_behind(done: Done) -> None:
    there = [(process.pid, process.info["cwd"]) for process in psutil.process_iter(["cwd"])]
    assert [pid for pid, folder in there if folder in done.folders] == []
