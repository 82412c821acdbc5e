"""GPUs are hidden from the tests, which are then the same on every machine.  on_gpu.py has what only one can show; test_gpu.py runs it."""

import os
from pathlib import Path

SHOWN = "LAYERBENCH_TESTS_SEE_THE_GPU"
BEFORE = "LAYERBENCH_TESTS_GPU_BEFORE_"  # what each variable was
VARIABLES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")
FILES = ("/dev/nvidia0", "/dev/kfd", "/dev/dxg")  # of the drivers of NVIDIA, of AMD, and of both under Windows


def hide() -> None:
    """From this process and all that it starts.  A driver reads these variables when it is first called."""
    for name in VARIABLES:
        os.environ.setdefault(BEFORE + name, os.environ.get(name, "-"))
        os.environ[name] = ""


def shown() -> dict[str, str]:
    """The environment as it was before, for a process that is to see the GPU."""
    there = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    before = {name: os.environ[BEFORE + name] for name in VARIABLES if os.environ.get(BEFORE + name, "-") != "-"}
    return there | before | {SHOWN: "1"}


def present() -> bool:
    return any(Path(file).exists() for file in FILES)
