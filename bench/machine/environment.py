"""Where a run is taken: machine, versions, threads, flags, commit -> `Environment`.  It only looks, but for the thread count."""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import psutil
import torch

from ..data.record import Device, Environment
from ..declare.mistake import Mistake
from . import numa, nvml

PACKAGES = ("layerbench", "torch", "triton", "numpy", "msgspec", "pandas", "plotly")


def set_threads(threads: int) -> None:
    """Raises Mistake for a number that this machine cannot mean; 0 leaves torch's own default."""
    if threads < 0:
        raise Mistake(f"--threads {threads}: give 1 or more")
    if threads:
        torch.set_num_threads(threads)


def look(folder: Path) -> Environment:
    """The environment as it is now; `folder` is where the commit is looked up."""
    cpu, present = _cpu(), devices()
    commit, branch, dirty = _commit(folder)
    parts = (platform.node(), cpu, str(os.cpu_count()), *(device.name for device in present))
    return Environment(
        machine=hashlib.sha256("|".join(parts).encode()).hexdigest()[:10],
        cpu=cpu,
        cores=os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        versions=_versions(),
        devices=present,
        threads=torch.get_num_threads(),
        flags=_flags(),
        load=round(os.getloadavg()[0], 2),
        commit=commit,
        branch=branch,
        dirty=dirty,
    )


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found | {"torch": str(torch.__version__), "layerbench's code": _harness()}


def _harness() -> str:
    """A digest of what measures: points of two versions of it do not belong into one run."""
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def devices() -> tuple[Device, ...]:
    found = [Device("cpu", _cpu(), psutil.virtual_memory().total, _dtypes("cpu"))]
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is not None:
        kind = accelerator.type
        module = getattr(torch, kind)  # torch.cuda, torch.xpu, ...: names and sizes are not in torch.accelerator yet
        properties = module.get_device_properties(0) if hasattr(module, "get_device_properties") else None
        name, memory = getattr(properties, "name", kind), getattr(properties, "total_memory", 0)
        found.append(Device(kind, name, memory, _dtypes(kind)))
    return tuple(found)


def driver(device: str) -> nvml.Nvml | nvml.Unknown:
    """What tells of the state of the first device of a kind."""
    if device != "cuda" or not torch.cuda.is_available():
        return nvml.Unknown()
    return nvml.of(str(getattr(torch.cuda.get_device_properties(0), "uuid", "")))


def _dtypes(device: str) -> tuple[str, ...]:
    """The dtypes in which the device really multiplies matrices."""
    able = []
    for name in ("float32", "bfloat16", "float16"):
        square = torch.ones(8, 8, dtype=getattr(torch, name), device=device)
        try:
            square @ square
        except RuntimeError:  # torch says that the device does not implement it
            continue
        able.append(name)
    return tuple(able)


def _flags() -> dict[str, str]:
    flags = {
        "float32 matmul precision": torch.get_float32_matmul_precision(),
        "deterministic algorithms": str(torch.are_deterministic_algorithms_enabled()).lower(),
        "inter-op threads": str(torch.get_num_interop_threads()),
    }
    if torch.cuda.is_available():
        flags |= {
            "TF32": str(torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32).lower(),
            "cudnn benchmark": str(torch.backends.cudnn.benchmark).lower(),
        }
        flags |= driver("cuda").facts()
        flags |= numa.facts(numa.near("cuda"))
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    flags["CPU governor"] = governor.read_text().strip() if governor.exists() else "not shown by this machine"
    flags |= {name: os.environ[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TRITON_INTERPRET") if name in os.environ}
    return flags


def _commit(folder: Path) -> tuple[str, str, bool]:
    """Commit, branch and whether files differ from it; empty outside a git repository."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        return git("rev-parse", "HEAD"), git("rev-parse", "--abbrev-ref", "HEAD"), bool(git("status", "--porcelain"))
    except FileNotFoundError:  # git is not installed
        return "", "", False
