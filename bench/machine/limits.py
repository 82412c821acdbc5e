"""Keeps a worker from harming its machine: its memory is limited, and it ends when its parent ends.  Set in the worker; no torch.

The limit is RLIMIT_DATA, what a process can write to, and not RLIMIT_AS: libraries reserve address space that they never use.
"""

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

import psutil

OUT_OF_MEMORY = "out of memory"  # how the reason of every Failed begins that ran out of it: `known_failures` reads this
SHARE = 0.8  # of the memory that is available when the worker starts
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def limit_memory() -> None:
    """Let this process hold SHARE of what is available now, on top of what it holds already; more is refused to whoever asks."""
    wanted = _held_bytes() + int(SHARE * _available_bytes())
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def memory_limit() -> int | None:
    """Bytes that this process may hold; None where nothing limits it."""
    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return None if soft == resource.RLIM_INFINITY else soft


def _held_bytes() -> int:
    """What RLIMIT_DATA counts of this process already; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:")), 0)


def _available_bytes() -> int:
    """Of the machine, or of the container that this process is in where that is less."""
    available = psutil.virtual_memory().available
    group = Path("/sys/fs/cgroup")
    try:
        allowed, used = (group / "memory.max").read_text().strip(), (group / "memory.current").read_text().strip()
    except OSError:  # no control group of version 2
        return available
    return min(available, int(allowed) - int(used)) if allowed.isdecimal() else available


def end_with_parent(parent: int) -> None:
    """Let the system kill this process when its parent is gone, even in the middle of a call.  Linux only; elsewhere it ends when idle."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it went before this was asked for
        os._exit(1)
