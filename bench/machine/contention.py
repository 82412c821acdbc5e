"""How many of this machine's cores were busy with other work while something was timed: other processes, and other virtual machines.

It matters beyond its share of the time.  An operator waits for the slowest of its threads, and one whose core another process holds comes
late by that process's time slice, some milliseconds.  A variant of more operators loses more, which a second copy of the reference cannot
show: docs/measuring.md has figures.
"""

import time

import psutil

SHORTEST = 0.5  # seconds: the system counts in ticks of about 10 ms


class Meanwhile:
    """Begins when it is made."""

    def __init__(self) -> None:
        self._began = _now()

    def others(self) -> float | None:
        """Cores that other work kept busy on average, stolen time included; None where too little time has passed to tell."""
        wall, busy, ours = (now - then for now, then in zip(_now(), self._began, strict=True))
        return round(max(0.0, (busy - ours) / wall), 3) if wall >= SHORTEST else None


def _now() -> tuple[float, float, float]:
    """Seconds: the time, what all processors together have been busy for, what this process has been."""
    times = psutil.cpu_times()._asdict()
    twice = sum(times.get(name, 0.0) for name in ("guest", "guest_nice"))  # in user and nice as well
    free = times["idle"] + times.get("iowait", 0.0)
    return time.monotonic(), sum(times.values()) - twice - free, time.process_time()
