"""Other work on the machine while something is measured: none, bursts of it, or work that begins half way.  No study itself."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator

QUIET, BURSTY, HALF = "quiet", "bursty neighbour", "load in the second half"
AS_IT_WAS = "whatever else ran"  # on the machine, which nobody kept quiet
TWO, THREE = "two bursty neighbours", "three bursty neighbours"
BURSTS = """
import os, random, time
parent = os.getppid()
while os.getppid() == parent:
    end = time.time() + random.expovariate(2)
    while time.time() < end:
        pass
    time.sleep(random.expovariate(1))
"""
LATE = """
import os, time
parent = os.getppid()
time.sleep({seconds})
while os.getppid() == parent:
    pass
"""


@contextlib.contextmanager
def beside(condition: str, seconds: float) -> Iterator[None]:
    """Neighbours of that kind until the block ends, or this process does.  seconds: what the block is expected to take."""
    late = LATE.format(seconds=seconds / 2)
    codes = {QUIET: [], AS_IT_WAS: [], BURSTY: [BURSTS], TWO: [BURSTS] * 2, THREE: [BURSTS] * 3, HALF: [late]}[condition]
    neighbours = [subprocess.Popen([sys.executable, "-c", code]) for code in codes]
    try:
        yield
    finally:
        for each in neighbours:
            each.kill()
            each.wait()
