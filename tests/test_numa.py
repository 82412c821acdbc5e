"""The CPUs near a GPU: read from an invented /sys, and given to a process for a while and back again."""

import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import inprocess
import pytest
import torch
from torch import nn

from layerbench.bench import Layer, Variant, randn
from layerbench.bench.cell.cell import Cell
from layerbench.bench.data.record import Point
from layerbench.bench.machine import numa
from layerbench.bench.machine.numa import Near
from layerbench.bench.timing.clock import FakeClock
from layerbench.bench.timing.measure import Limit

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells NUMA nodes, and binds threads")
HERE = frozenset(os.sched_getaffinity(0))
ONE = frozenset({min(HERE)})


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device at 0000:3b:00.0."""
    place = SimpleNamespace(pci_domain_id=0, pci_bus_id=0x3B, pci_device_id=0)
    monkeypatch.setattr(torch, "gpu", SimpleNamespace(get_device_properties=lambda index: place), raising=False)


def system(folder: Path, node: str, cpus: tuple[str, ...]) -> Path:
    """/sys with the CPUs of every node, and the node of the device."""
    device = folder / "bus/pci/devices/0000:3b:00.0"
    device.mkdir(parents=True)
    (device / "numa_node").write_text(f"{node}\n")
    for number, text in enumerate(cpus):
        made = folder / f"devices/system/node/node{number}"
        made.mkdir(parents=True)
        (made / "cpulist").write_text(f"{text}\n")
    return folder


@pytest.mark.usefixtures("gpu")
def test_the_cpus_of_the_nodes_device_are_found_as_far_as_this_process_may_run_on_them(tmp_path: Path) -> None:
    mine = ",".join(map(str, sorted(HERE)))
    found = numa.near("gpu", system(tmp_path, "1", ("900-931", f"{mine},932-963")))
    assert found == Near(1, HERE)
    assert numa.facts(Near(1, frozenset({0, 1, 2, 3, 8, 10, 11}))) == {
        "NUMA node of the GPU": "1",
        "CPUs bound": "0-3,8,10-11, while a point on the GPU is timed",
    }


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("node", "cpus", "said"),
    [
        ("-1", ("0-1", "2-3"), ("not known", "not known")),  # as in a virtual machine
        ("0", ("0-1",), ("0", "none: there is one node")),
        ("1", ("0-1", "900-931"), ("1", "none: this process may not run on its CPUs")),
        ("nonsense", ("0-1", "2-3"), ("not known", "not known")),
    ],
)
def test_nothing_is_bound_where_the_system_does_not_tell_or_has_one_node(
    tmp_path: Path, node: str, cpus: tuple[str, ...], said: tuple[str, str]
) -> None:
    found = numa.near("gpu", system(tmp_path, node, cpus))
    assert (found.cpus, tuple(numa.facts(found).values())) == (frozenset(), said)


def test_neither_the_cpu_nor_a_device_without_an_address_is_bound(tmp_path: Path) -> None:
    mine = ",".join(map(str, sorted(HERE)))
    made = system(tmp_path, "0", (mine, "900-931"))
    assert not numa.near("cpu", made).cpus
    assert not numa.near("no such kind", made).cpus


@pytest.mark.skipif(len(HERE) < 2, reason="a process with one CPU cannot have fewer")
def test_all_threads_are_bound_inside_and_none_afterwards_those_that_began_inside_too() -> None:
    """A thread of torch's pool that is made at a point on the GPU computes the next point on the CPU."""
    end = threading.Event()
    seen: dict[str, frozenset[int]] = {}
    threads = {}

    def live(name: str) -> None:
        threads[name] = threading.get_native_id()
        begun.set()
        end.wait(30)

    def start(name: str) -> threading.Thread:
        begun.clear()
        thread = threading.Thread(target=live, args=(name,))
        thread.start()
        begun.wait(30)
        return thread

    begun = threading.Event()
    running = [start("before")]
    own = frozenset({max(HERE)})
    os.sched_setaffinity(threads["before"], own)  # as a pool that was bound by OMP_PROC_BIND
    try:
        with numa.bound(Near(0, ONE)):
            running.append(start("inside"))
            seen = {name: frozenset(os.sched_getaffinity(thread)) for name, thread in threads.items()} | {
                "main": frozenset(os.sched_getaffinity(0))
            }
        after = {name: frozenset(os.sched_getaffinity(thread)) for name, thread in threads.items()}
    finally:
        end.set()
        for thread in running:
            thread.join()
    assert seen == {"before": ONE, "inside": ONE, "main": ONE}
    assert after == {"before": own, "inside": HERE}
    assert os.sched_getaffinity(0) == HERE


def test_an_exception_gives_the_cpus_back_and_no_near_cpus_bind_nothing() -> None:
    with pytest.raises(KeyError), numa.bound(Near(0, ONE)):
        raise KeyError
    assert os.sched_getaffinity(0) == HERE
    with numa.bound(Near(-1, frozenset())):
        assert os.sched_getaffinity(0) == HERE


class Watching(FakeClock):
    """Notes the CPUs of every timed call."""

    def __init__(self) -> None:
        super().__init__(inprocess.same_cost)
        self.seen: set[frozenset[int]] = set()

    def now(self) -> float:
        self.seen.add(frozenset(os.sched_getaffinity(0)))
        return super().now()


@pytest.mark.skipif(len(HERE) < 2, reason="a process with one CPU cannot have fewer")
@pytest.mark.parametrize("near", [Near(0, ONE), Near(-1, frozenset())])
def test_a_point_is_timed_on_the_near_cpus_and_nothing_else_of_it_is(monkeypatch: pytest.MonkeyPatch, near: Near) -> None:
    layer = Layer("linear", {"n": (2,)}, (randn("n", 4),), lambda module, size: module(4, 4), {"stock": Variant(nn.Linear)})
    monkeypatch.setattr(numa, "near", lambda device: near)
    elsewhere: set[frozenset[int]] = set()

    def enter(stage: str, variant: str) -> None:
        if stage in ("make", "verify", "recheck", "memory", "profile"):
            elsewhere.add(frozenset(os.sched_getaffinity(0)))

    cell, clock = Cell(layer, Point("linear", {"n": 2}, "float32", "cpu", "forward"), ("stock",), {}, enter), Watching()
    cell.measure("forward", clock, Limit(0.1), None)
    assert clock.seen == {near.cpus or HERE}
    assert elsewhere == {HERE}
