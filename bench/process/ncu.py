"""Has NVIDIA's Nsight Compute (ncu) count what the GPU does in one step of each variant, in a process of its own: `bench/target`.

ncu's library taxes every launch, so nothing is timed there.  Nothing is read here: the table comes back as ncu wrote it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

import msgspec
import psutil
from msgspec import Struct

from ..data.record import LayerFacts, Point
from ..declare.mistake import NoCounters

SECONDS = 300.0  # ncu and its target are ended after so long
ORDER, COUNTED = "order.json", "counted.json"  # what goes to the target and what comes back, in the folder that it is given
METRICS = (
    "gpu__time_duration.sum",
    "dram__bytes_read.sum",
    "dram__bytes_write.sum",
    "lts__t_bytes.sum",
    "lts__t_sector_hit_rate.pct",
    "l1tex__t_sector_hit_rate.pct",
    "sm__warps_active.avg.pct_of_peak_sustained_active",
    "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active",
)
REFUSALS = {  # what ncu prints -> the sentence
    "ERR_NVGPUCTRPERM": "this user may not read the GPU's counters (ERR_NVGPUCTRPERM); try as root, "
    "or have the driver loaded with NVreg_RestrictProfilingToAdminUsers=0",
    "LibraryNotLoaded": "Nsight Compute cannot load its library here (LibraryNotLoaded), as in some sandboxes; try outside of one",
}
NO_KERNEL = "Nsight Compute saw no kernel; it may be too old for this GPU or its driver: try a newer one"


class Count(Struct, frozen=True):
    """The order: one step of each of these variants.  layer: as it was when the point was measured."""

    suite: str
    layer: LayerFacts
    point: Point
    variants: tuple[str, ...]
    threads: int
    tf32: bool = False


class Counted(Struct, frozen=True):
    """What the target did.  profiled: the variants whose step ncu was shown, in this order, each behind a marker kernel.

    failed: variant -> why it is not to be counted.  refused: why there is nothing at all.
    """

    profiled: tuple[str, ...] = ()
    failed: dict[str, str] = {}
    refused: str = ""


class Found(NamedTuple):
    counted: Counted
    table: str  # ncu's, as CSV between other lines


def count(order: Count, seconds: float = SECONDS) -> Found:
    """Raises NoCounters with the reason where there is no table."""
    program = shutil.which("ncu")
    if not program:
        raise NoCounters(
            "ncu, NVIDIA's Nsight Compute, is not on PATH; it comes with the CUDA toolkit: add the toolkit's folder bin to PATH"
        )
    with tempfile.TemporaryDirectory(prefix="layerbench-") as name:
        folder = Path(name)
        (folder / ORDER).write_bytes(msgspec.json.encode(order))
        log = folder / "ncu.csv"
        options = ("--clock-control", "none", "--profile-from-start", "off", "--target-processes", "application-only")
        table = ("--csv", "--page", "raw", "--print-units", "base", "--metrics", ",".join(METRICS), "--log-file", str(log))
        target = (sys.executable, "-P", "-m", "layerbench.bench.target", str(folder))
        with (folder / "words.txt").open("w+b") as words:
            code = _run([program, *options, *table, *target], words, folder, seconds)
            words.seek(0)
            said = words.read().decode(errors="replace")
        written = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        back = folder / COUNTED
        counted = msgspec.json.decode(back.read_bytes(), type=Counted) if back.exists() else None
    return Found(_checked(counted, code, said, written), written)


def _run(command: list[str], words: IO[bytes], folder: Path, seconds: float) -> int:
    """Its exit code; what it prints goes to `words`.  Raises NoCounters where it takes too long."""
    # torch.compile may be ended in the middle of writing: it gets a cache of its own.  The locale is that of ncu's numbers.
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"), "LC_ALL": "C.UTF-8"}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=words, stderr=subprocess.STDOUT, env=environment)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        raise NoCounters(f"Nsight Compute was ended after {seconds:g} s, before it was done; choose a smaller size") from None
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """The process, which may be a shell script around ncu, and all that it started.  They are in our group, so that Ctrl-C reaches them."""
    if process.poll() is not None:
        return
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(process.pid)
        family = [*root.children(recursive=True), root]
        for each in family:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        psutil.wait_procs(family, timeout=5)  # or they would still write where the folder is taken away
    process.wait()


def _checked(counted: Counted | None, code: int, said: str, written: str) -> Counted:
    """Raises NoCounters where ncu refused, the target did not get to its end, or no kernel was seen."""
    lines = [line.strip() for line in f"{written}\n{said}".splitlines()]
    for word, sentence in REFUSALS.items():
        if any(word in line for line in lines if line.startswith("==")):
            raise NoCounters(sentence)
    errors = [line.removeprefix("==ERROR==").strip() for line in lines if line.startswith("==ERROR==")]
    if counted is None:
        last = next((line.strip() for line in reversed(said.splitlines()) if line.strip() and not line.startswith("==")), "")
        why = last or next(iter(errors), "it said nothing")
        raise NoCounters(f"Nsight Compute ended with exit code {code} before the steps were run: {why[:200]}")
    if counted.refused:
        raise NoCounters(counted.refused)
    if counted.profiled and '"ID"' not in written:
        raise NoCounters(f"Nsight Compute says: {errors[0][:200]}" if errors else NO_KERNEL)
    return counted
