"""The parts of gpu_proof: each looks at one thing on a GPU, or in a rehearsal on the CPU, and says row by row what it found."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from gpu_clock import clock, layers
from gpu_proof import BUDGET, DRY_LAYERS, ROOT, say, write

# --- proofs ------------------------------------------------------------------------------------------------------------------------


def _prove(name: str, dtype: str, device: str) -> list[dict[str, Any]]:
    import torch

    from layerbench.bench.data.record import Failed
    from layerbench.bench.equivalence.prove import prove
    from layerbench.bench.equivalence.slack import worst
    from layerbench.bench.subject import torch_settings

    torch.set_num_threads(1)
    torch_settings.use_tf32(allowed=False)
    layer = layers()[name]
    able = ("any", "cpu" if device == "cpu" else "gpu")
    names = tuple(each for each, variant in layer.variants.items() if not variant.compile and variant.devices in able)
    began = time.monotonic()
    rows = []
    for variant, found in prove(layer, names, dtype, device, lambda stage, variant: None).items():
        failed = found.reason if isinstance(found, Failed) else ""
        slack = None if isinstance(found, Failed) else worst([found.errors]).slack
        rows.append({"layer": name, "variant": variant, "dtype": dtype, "failed": failed, "slack": slack})
    return [row | {"seconds": round(time.monotonic() - began, 2)} for row in rows]


def proofs(out: Path, dry: bool) -> None:
    """Every layer, variant and dtype against float64 on the device, side by side."""
    device, dtypes = ("cpu", ("float32",)) if dry else ("cuda", ("float32", "bfloat16", "float16"))
    names = [name for name in layers() if not dry or name in DRY_LAYERS]
    rows: list[dict[str, Any]] = []
    processes = max(1, min(12, (os.cpu_count() or 1) - 2))
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        todo = {pool.submit(_prove, name, dtype, device): (name, dtype) for name in names for dtype in dtypes}
        for done in as_completed(todo):
            name, dtype = todo[done]
            try:
                rows += done.result()
            except BaseException as error:  # noqa: BLE001  a process that died takes the others of the pool with it, and is told
                rows.append({"layer": name, "variant": "", "dtype": dtype, "failed": f"{type(error).__name__}: {error}", "slack": None})
            write(out, "proofs.jsonl", rows)
    failed = [row for row in rows if row["failed"]]
    say(out, "proofs", "proofs that hold", f"{len(rows) - len(failed)} of {len(rows)}", not failed)
    for row in failed[:30]:
        say(out, "proofs", f"{row['layer']} {row['variant']} {row['dtype']}", row["failed"].replace("|", "/")[:160], False)


# --- run, check, tests -------------------------------------------------------------------------------------------------------------


def run(out: Path, dry: bool) -> None:
    """The first scene: a run with a budget, its page, and where its time went."""
    from layerbench.bench.data.record import Measured
    from layerbench.bench.storage import run_file

    device = "cpu" if dry else "gpu"
    words = ["--device", device, "-k", "rmsnorm or softmax", "--budget", f"{BUDGET}s", "--out", str(out / "made")]
    words += ["--set", "batch=8"] if dry else ["--dtype", "bfloat16"]
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "layerbench.bench", "run", *words], check=False)
    took = time.monotonic() - began
    say(out, "run", f"run of rmsnorm and softmax, budget {BUDGET} s", f"{took:.0f} s, exit code {done.returncode}", took <= 1.2 * BUDGET)
    made = [file for file in sorted((out / "made" / "results").glob("*.json")) if ".benchmark" not in file.name]
    for file in made:
        whole = run_file.read(file)
        measured = sum(isinstance(record.outcome, Measured) for record in whole.records)
        say(out, "run", "records measured", f"{measured} of {len(whole.records)}", measured > 0)
        say(out, "run", "seconds by stage", str({k: round(v, 1) for k, v in whole.stages.items()}), None)
        shutil.copy(file, out / "run.json")
    for journal in sorted((out / "made" / "results").glob("*.journal")):
        shutil.copy(journal, out / "run.json")
    for page in sorted((out / "made" / "reports").glob("*/index.html")):
        shutil.copy(page, out / "page.html")
    shutil.rmtree(out / "made", ignore_errors=True)


def energy(out: Path, dry: bool) -> None:
    """Joules of a large product, and its time in a burst and under load."""
    from layerbench.bench.analysis.energy import metered, missing
    from layerbench.bench.storage import run_file
    from layerbench.bench.text import units

    chosen = ["--device", "cpu", "--set", "batch=8"] if dry else ["--device", "gpu", "--dtype", "bfloat16", "--set", "batch=8192"]
    sizes = [word for name in ("in_features", "out_features") for word in ("--set", f"{name}={64 if dry else 4096}")]
    words = [
        "-k",
        "^linear-forward and not compile",
        "--step",
        "forward",
        *chosen,
        *sizes,
        "--budget",
        "15s",
        "--out",
        str(out / "made"),
        "--energy",
    ]
    done = subprocess.run([sys.executable, "-m", "layerbench.bench", "run", *words], check=False)
    say(out, "energy", "run of linear with --energy", f"exit code {done.returncode}", done.returncode == 0)
    for file in sorted((out / "made" / "results").glob("*.json")):
        whole = run_file.read(file)
        shutil.copy(file, out / "energy.json")
        found = metered(whole)
        say(out, "energy", "records with energy", f"{len(found)} of {len(whole.records)}", None if dry else bool(found))
        for each in found:
            figures = f"{units.joules(each.energy.joules)}, {each.energy.watts:.0f} W, {units.seconds(each.energy.seconds)} sustained"
            held = f"{each.energy.mhz} MHz{', power limit' if each.energy.power_limited else ''}"
            burst = f"; {each.burst.sentence(units.seconds)}" if each.burst else ""
            say(out, "energy", f"linear {each.record.variant}", f"{figures}, {held}{burst}", None)
        for reason in missing(whole.records):
            say(out, "energy", "no energy", reason, False)
    shutil.rmtree(out / "made", ignore_errors=True)


def counters(out: Path, dry: bool) -> None:
    """What the GPU counts in a training step of rmsnorm, stock against triton.  In a rehearsal: that there is nothing to count."""
    device = ["--device", "cpu", "--variants", "function"] if dry else ["--device", "gpu", "--dtype", "bfloat16", "--variants", "triton"]
    size = ["--set", "batch=8", "--set", "width=64"] if dry else ["--set", "batch=16"]
    words = ["rmsnorm", *device, *size, "--step", "training", "--counters", "--out", str(out / "made")]
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "layerbench.bench", "explain", *words], stdout=subprocess.PIPE, text=True, check=False)
    took = time.monotonic() - began
    print(done.stdout)
    shutil.rmtree(out / "made", ignore_errors=True)
    say(out, "counters", "explain --counters of rmsnorm, training", f"{took:.0f} s, exit code {done.returncode}", done.returncode == 0)
    lines = done.stdout.splitlines()
    missing = [line for line in lines if line.startswith("no counters")]
    for line in missing:
        say(out, "counters", "why there are none", line[:160].replace("|", "/"), dry)
    counted = [line for line in lines if " in a step" in line or line.startswith("The step must move") or ": moved " in line]
    for line in counted:
        say(out, "counters", "", line, None)
    held = bool(missing) if dry else not missing and sum(": moved " in line for line in counted) == 2
    say(out, "counters", "bytes of both variants" if not dry else "one sentence instead of counters", "yes" if held else "no", held)


LAYER = '''"""SiLU, written out."""
import torch
from torch import nn
from layerbench.bench import Layer, Variant, randn

class Plain(nn.SiLU):
    """x times its sigmoid."""
    def forward(self, x):
        return x * x.sigmoid()

silu = Layer("silu", {"batch": (256,), "width": (4096,)}, (randn("batch", "width"),), lambda module, size: module(),
    {"stock": Variant(nn.SiLU), "plain": Variant(Plain)})
'''


def check(out: Path, dry: bool) -> None:
    """A regression check of equal code, of an extra launch, and of a slower kernel."""
    import toy_repository as toy

    plants = {
        "unchanged": (LAYER, 0),
        "an extra launch": (LAYER.replace("return x * x.sigmoid()", "return (x + 0) * x.sigmoid()"), 1),
        "a slower kernel": (LAYER.replace("return x * x.sigmoid()", "return (x.double() * x.sigmoid()).to(x.dtype)"), 1),
    }
    if not shutil.which("git"):
        say(out, "check", "check", "no git on this machine", False)
        return
    for key in ("AUTHOR", "COMMITTER"):
        os.environ |= {f"GIT_{key}_NAME": "Somebody", f"GIT_{key}_EMAIL": "somebody@example.org"}
    for name, (text, wanted) in plants.items():
        with tempfile.TemporaryDirectory() as folder:
            root = toy.make(Path(folder) / "repository", {"layers/silu.py": LAYER})
            toy.write(root, {"layers/silu.py": text})
            words = ["--against", "main", "--suite", "layers", "--device", "cpu" if dry else "gpu", "--step", "forward", "--budget", "40s"]
            began = time.monotonic()
            words += ["--all"] if name == "unchanged" else []
            done = subprocess.run([sys.executable, "-m", "layerbench.bench", "check", *words], cwd=root, check=False)
            found = f"exit code {done.returncode}, {time.monotonic() - began:.0f} s"
            say(out, "check", f"check: {name}", found, done.returncode == wanted)


def tests(out: Path, dry: bool) -> None:
    """The project's tests, over all cores."""
    count = str(max(1, min(14, (os.cpu_count() or 1) - 1)))
    words = [
        "-q",
        "-n",
        count,
        "--dist",
        "loadgroup",
        "-p",
        "no:cacheprovider",
        "-p",
        "told_at_once",
        "--benchmark-disable",  # an older pytest-benchmark warns of several processes, and a warning is an error here
        "--ignore",
        "tests/test_packaging.py",
        "-rfE",
        "--tb=short",
    ]
    chosen = ["tests/test_device_clock.py", "tests/test_measure.py", "tests/test_stats.py"] if dry else []
    with (out / "tests.log").open("w", encoding="utf-8") as log:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [_installed(), "-m", "pytest", *words, *chosen], cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        code = process.wait()
    lines = (out / "tests.log").read_text(encoding="utf-8").splitlines()
    say(out, "tests", "tests", lines[-1] if lines else "nothing", code == 0)
    for line in [line for line in lines if line.startswith("TOLD")][:60]:
        say(out, "tests", "", line[:200].replace("|", "/"), False)


def _installed() -> str:
    """A Python in whose environment layerbench can be called by its name, as after an installation; what it imports is this one's."""
    folder = ROOT / ".gpu-proof" / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python, packages = folder / "bin" / "python", next(folder.glob("lib/python*/site-packages"))
    (packages / "outer.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")) + "\n", encoding="utf-8")
    script = folder / "bin" / "layerbench"
    script.write_text(f"#!{python}\nfrom layerbench.bench.cli.main import main\nmain()\n", encoding="utf-8")
    script.chmod(0o755)
    return str(python)


BY_NAME = {"proofs": proofs, "clock": clock, "run": run, "energy": energy, "counters": counters, "check": check, "tests": tests}
