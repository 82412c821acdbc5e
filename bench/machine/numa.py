"""The CPUs that are near a GPU, as Linux tells them, and a process bound to them for a while.

A process on the far side of a machine with several NUMA nodes issues its launches more slowly, and how much more differs from run to run.
Where the system does not tell, as in most virtual machines, nothing is bound.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

SYSTEM = Path("/sys")
UNKNOWN = "not known"


@dataclass(frozen=True)
class Near:
    """node: -1 where it is not known.  cpus: of the node, that this process may run on; empty: nothing is to be bound, `why` says why."""

    node: int
    cpus: frozenset[int]
    why: str = ""


def near(device: str, system: Path = SYSTEM) -> Near:
    """Of the first device of a kind."""
    if device == "cpu" or sys.platform != "linux":
        return Near(-1, frozenset(), UNKNOWN)
    folder = system / "bus/pci/devices" / _address(device)
    try:
        node = int((folder / "numa_node").read_text())
        cpus = _numbers((system / f"devices/system/node/node{node}/cpulist").read_text()) if node >= 0 else set()
    except (OSError, ValueError):
        node, cpus = -1, set()
    nodes = [each for each in (system / "devices/system/node").glob("node*") if each.name.removeprefix("node").isdigit()]
    if node < 0:
        return Near(-1, frozenset(), UNKNOWN)
    if len(nodes) < 2:
        return Near(node, frozenset(), "none: there is one node")
    allowed = frozenset(cpus) & os.sched_getaffinity(0)
    return Near(node, allowed, "" if allowed else "none: this process may not run on its CPUs")


def facts(found: Near) -> dict[str, str]:
    """In words, for the environment."""
    bound = f"{_span(found.cpus)}, while a point on the GPU is timed" if found.cpus else found.why
    return {"NUMA node of the GPU": UNKNOWN if found.node < 0 else str(found.node), "CPUs bound": bound}


@contextmanager
def bound(found: Near) -> Iterator[None]:
    """All threads of this process on the near CPUs inside; afterwards each as it was.  Nothing where there are none.

    A thread that began inside has inherited them.  It gets those of the thread that entered, or a later point on the CPU would have fewer.
    """
    if not found.cpus:
        yield
        return
    whole, before = os.sched_getaffinity(0), _threads()
    for thread in before:
        _put(thread, found.cpus)
    try:
        yield
    finally:
        for thread, cpus in _threads().items():
            if cpus == found.cpus:
                _put(thread, before.get(thread, whole))


def _threads() -> dict[int, frozenset[int]]:
    """Thread -> the CPUs that it may run on."""
    found = {}
    for folder in Path("/proc/self/task").iterdir():
        try:
            found[int(folder.name)] = frozenset(os.sched_getaffinity(int(folder.name)))
        except ProcessLookupError:  # it has ended
            continue
    return found


def _put(thread: int, cpus: frozenset[int] | set[int]) -> None:
    try:
        os.sched_setaffinity(thread, cpus)
    except OSError:  # it has ended, or may not run there: then it stays where it is
        return


def _address(device: str) -> str:
    """Where the device is on the PCI bus, as the system writes it: 0000:3b:00.0."""
    module = getattr(torch, device, None)
    properties = module.get_device_properties(0) if module and hasattr(module, "get_device_properties") else None
    place = [getattr(properties, f"pci_{name}_id", -1) for name in ("domain", "bus", "device")]
    return "unknown" if min(place) < 0 else f"{place[0]:04x}:{place[1]:02x}:{place[2]:02x}.0"


def _numbers(text: str) -> set[int]:
    """0-3,8 -> {0, 1, 2, 3, 8}, as the kernel writes lists of CPUs."""
    numbers: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        numbers |= set(range(int(first), int(last or first) + 1))
    return numbers


def _span(cpus: frozenset[int]) -> str:
    """The same in the other direction."""
    parts: list[list[int]] = []
    for cpu in sorted(cpus):
        if parts and cpu == parts[-1][-1] + 1:
            parts[-1][-1] = cpu
        else:
            parts.append([cpu, cpu])
    return ",".join(f"{first}-{last}" if last > first else f"{first}" for first, last in parts)
