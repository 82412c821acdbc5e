"""Does a test fail when a rule of the GPU's clock, or of what stands around it, is taken out?  Each rule in turn, in a copy of the project.

One line per rule: the test that found that it was gone, or NOT FOUND.  Exit code 1 where one was not found.  About two minutes.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLOCK, GRAPH, SANITY, FAULT, SETTINGS = (
    *("bench/timing/device_clock.py", "bench/timing/graph_clock.py", "bench/analysis/sanity.py"),
    *("bench/subject/fault.py", "bench/subject/torch_settings.py"),
)
LOAD, BURST, NVML = "bench/timing/sustained.py", "bench/analysis/energy.py", "bench/machine/nvml.py"
FORECAST, MEASURE, NUMA = "bench/plan/forecast.py", "bench/timing/measure.py", "bench/machine/numa.py"
SUMS = "bench/profiling/kernels.py"
TESTS = {
    CLOCK: "test_device_clock.py",
    GRAPH: "test_graph_clock.py",
    SANITY: "test_sanity.py test_kernel_sums.py",
    FAULT: "test_worker.py",
    SETTINGS: "test_tf32.py",
    LOAD: "test_sustained.py",
    BURST: "test_energy.py",
    NVML: "test_energy.py",
    FORECAST: "test_forecast.py",
    MEASURE: "test_device_clock.py",
    NUMA: "test_numa.py",
    SUMS: "test_kernel_sums.py",
}
LOOP = "        held = None\n        began = self.now()\n        for _ in range(calls):\n"
STEP = "            held = call.step(made.pop() if made else None)\n"
START = "            start.record()\n            began = self.now()\n"
LONGER = "            self._spins[call] = min(LONGEST_SPIN, max(2 * self._spins[call], _long_enough(block.issuing / calls)))\n"
WAIT = "            self.device.wait()  # so that no queue fills, and setups meet an idle device\n"
RULES = (  # what is taken out, the file, the text, what stands there instead
    ("the device is waited for before its events are read", CLOCK, WAIT, ""),
    ("the flush lies before the sample", CLOCK, START, START.replace("()\n", "()\n            self.device.flush()\n", 1)),
    ("the cache is overwritten", CLOCK, "            self.device.flush()\n", ""),
    ("launches are hidden", CLOCK, "            self.device.spin(spin)\n", ""),
    ("a block for which the host was late does not count", CLOCK, "ahead = ahead and not start.query()", "ahead = True"),
    ("a spin that was too short is made longer", CLOCK, LONGER, ""),
    ("launches that cannot be hidden are told", CLOCK, "            self._exposed[call] = WAITS\n", ""),
    ("a throttled block is taken again", CLOCK, "if not (before.throttled or after.throttled) or again == TRIES - 1:", "if True:"),
    ("it is warmed up by time", CLOCK, "        while self.now() - began < WARM_MOST:", "        return\n        while True:"),
    ("it is warmed up until steady", CLOCK, "            if abs(seconds - last) <= STEADY * seconds + RESOLUTION:", "            if True:"),
    ("setups ahead keep within memory", CLOCK, "if (grown := self.device.allocated() - before) > 0:", "if (grown := 0) > 0:"),
    ("gradients are cleared in the loop", CLOCK, "                call.clear()\n", "                pass\n"),
    ("as called never waits", CLOCK, STEP, STEP + "            self.device.wait()\n"),
    ("setups lie outside the loop", CLOCK, LOOP, LOOP.replace("        for", "        made = [call.setup() for _ in made]\n        for")),
    ("it is warmed up where it was idle", CLOCK, "if began - self._worked > IDLE else 0.0", "if False else 0.0"),
    ("what is around the steps of a graph is taken off", GRAPH, "((pair.full, 1), (pair.empty, -1))", "((pair.full, 1), (pair.empty, 0))"),
    ("every call of a graph finds a cold cache", GRAPH, "            device.flush()\n            held = step", "            held = step"),
    ("a set-up meets the same cache in both graphs", GRAPH, "                device.flush()\n", ""),
    ("a replay is hidden", GRAPH, "                self.device.spin(spin)\n", ""),
    (
        "one clock for all variants of a point",
        GRAPH,
        'return clock, f"{name!r} cannot be captured',
        'continue\n            return clock, f"{name!r}',
    ),
    ("a step of nothing has no time in a graph", GRAPH, "< LEAST * LEAST_PAIRS * CALLS", "< -1"),
    ("gradients of a capture are cleared", GRAPH, "                call.clear()\n", "                pass\n"),
    (
        "a device that was lost in a capture is no step without a graph",
        GRAPH,
        "            device.wait()  # unless",
        "            pass  # unless",
    ),
    ("a lost device ends the process", FAULT, "    if isinstance(error, RuntimeError) and _lost():\n", "    if False:\n"),
    ("what the clock cannot resolve is not ranked", SANITY, "seconds >= FLOORS * roof.call_seconds", "True"),
    ("TF32 is off in convolutions too", SETTINGS, "    torch.backends.cudnn.allow_tf32 = tf32\n", ""),
    ("a variant may not switch TF32", SETTINGS, "        torch.backends.cudnn.allow_tf32,\n", "        False,\n"),
    ("energy begins at a tick", LOAD, "if seen is not None and joules != seen and", "if"),
    ("the device has work while a tick is looked for", LOAD, "        _issue(call, calls)\n        issued", "        issued"),
    ("energy is measured for a second", LOAD, "SECONDS = 1.0  # between", "SECONDS = 0.001  # between"),
    ("a power limit has come down before it", LOAD, "if device.now() - began >= LEAD_SECONDS:", "if True:"),
    ("gradients are cleared under load", LOAD, "            call.clear()\n", "            pass\n"),
    ("a backward has no energy of its own", LOAD, "if call.setup != call.clear:", "if False:"),
    ("a counter that stands still gives no number", LOAD, "        if first is None:\n            return STILL\n", ""),
    ("the power limit is seen", NVML, "bool(reasons & POWER_LIMIT)", "False"),
    ("samples under the power limit are counted", MEASURE, "power_limited=sum(each.power_limited for each in samples)", "power_limited=0"),
    ("the power limit is no fault", NVML, "THROTTLED = {", 'THROTTLED = {0x04: "power limit", '),
    ("a burst is told only where the clock fell", BURST, "if slow and fell else", "if slow else"),
    ("what launches slow down is no burst", BURST, "max(seconds, statistics.median(device.called))", "seconds"),
    ("a call that lacks a kernel is left out", SUMS, "if not ran.lost]", "]"),
    ("most calls must have all kernels", SUMS, "alike >= 2 and alike > len(calls) / 2", "alike"),
    ("one call alone is no check", SUMS, "alike >= 2 and ", ""),
    (
        "calls must run the same kernels",
        SUMS,
        "return tuple(kernel.name for kernel in self.kernels), self.launches, self.graphs",
        "return ()",
    ),
    ("kernels at the same time are no check", SUMS, "overlap=any(_overlap(ran.kernels) for ran in chosen)", "overlap=False"),
    ("a time below the sum of its kernels is invalid", SANITY, "if seconds >= (1 - KERNELS) * slower * kernels.seconds:", "if True:"),
    ("a sum that lacks kernels judges nobody", SANITY, "kernels.incomplete or kernels.overlap", "kernels.overlap"),
    ("nor one of kernels at the same time", SANITY, "kernels.incomplete or kernels.overlap", "kernels.incomplete"),
    ("a profile at a lower clock is allowed for", SANITY, "min(1.0, kernels.mhz / statistics.median(clocks))", "1.0"),
    ("a single node binds nothing", NUMA, "if len(nodes) < 2:", "if False:"),
    ("only CPUs that the process may run on are bound", NUMA, " & os.sched_getaffinity(0)\n", "\n"),
    ("the CPUs are given back", NUMA, "            if cpus == found.cpus:\n", "            if False:\n"),
    ("threads that begin meanwhile get all CPUs", NUMA, "before.get(thread, whole)", "before.get(thread, cpus)"),
    ("the forecast counts energy", FORECAST, " + _energy(tasks, layers, energy)\n", "\n"),
)


def main() -> None:
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "layerbench"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "results", "reports", "*.egg-info"))
        environment = {**os.environ, "PYTHONPATH": folder, "OMP_NUM_THREADS": "1"}
        for rule, name, text, instead in RULES:
            file = copy / name
            whole = file.read_text(encoding="utf-8")
            assert text in whole, f"{rule}: its text is no longer in {name}"
            file.write_text(whole.replace(text, instead, 1), encoding="utf-8")
            command = [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-x",
                "-p",
                "no:cacheprovider",
                *(f"tests/{test}" for test in TESTS[name].split()),
            ]
            done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
            file.write_text(whole, encoding="utf-8")
            found = next((line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))), "NOT FOUND")
            missed += found == "NOT FOUND"
            print(f"{rule}: {found.partition(' - ')[0].removeprefix('FAILED tests/')}", flush=True)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
