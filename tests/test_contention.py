"""How busy others kept the machine, on a processor whose counters a test sets."""

from collections import namedtuple

import pytest

from layerbench.bench.machine import contention

Times = namedtuple("Times", "user nice system idle iowait irq softirq steal guest guest_nice")


def meanwhile(monkeypatch: pytest.MonkeyPatch, seconds: float, ours: float, **counted: float) -> float | None:
    """The answer after so many seconds, of which this process ran `ours`, and in which the machine counted this in all."""
    clock, process, times = [100.0], [7.0], [Times(50, 1, 5, 800, 10, 0, 0, 2, 20, 1)]
    monkeypatch.setattr(contention.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(contention.time, "process_time", lambda: process[0])
    monkeypatch.setattr(contention.psutil, "cpu_times", lambda: times[0])
    begun = contention.Meanwhile()
    clock[0] += seconds
    process[0] += ours
    times[0] = times[0]._replace(**{name: getattr(times[0], name) + more for name, more in counted.items()})
    return begun.others()


def test_what_neither_this_process_nor_nobody_used_is_others_work(monkeypatch: pytest.MonkeyPatch) -> None:
    # of 4 s on two cores: we 5 s, another process 2 s, the kernel for it 0.2 s, another machine 0.4 s
    counted = {"user": 7.0, "system": 0.2, "steal": 0.4, "idle": 0.3, "iowait": 0.1}
    assert meanwhile(monkeypatch, 4.0, 5.0, **counted) == 0.65
    assert meanwhile(monkeypatch, 4.0, 5.0, **counted, guest=2.0) == 0.65  # a guest's time is in user's too


def test_ticks_too_coarse_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    assert meanwhile(monkeypatch, 0.4, 0.4, user=0.8) is None
    assert meanwhile(monkeypatch, 1.0, 1.01, user=1.0) == 0.0  # never below none
