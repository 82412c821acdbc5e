"""Other work on the machine while something is measured: none, bursts of it, or work that begins half way.  No study itself."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator

QUIET, BURSTY, HALF = "quiet", "bursty neighbour", "load in the second half"
BURSTS = """
import random, time
while True:
    end = time.time() + random.expovariate(2)
    while time.time() < end:
        pass
    time.sleep(random.expovariate(1))
"""
LATE = """
import time
time.sleep({seconds})
while True: pass
"""


@contextlib.contextmanager
def beside(condition: str, seconds: float) -> Iterator[None]:
    """A neighbour of that kind until the block ends.  seconds: what the block is expected to take."""
    code = {QUIET: "", BURSTY: BURSTS, HALF: LATE.format(seconds=seconds / 2)}[condition]
    neighbour = subprocess.Popen([sys.executable, "-c", code]) if code else None
    try:
        yield
    finally:
        if neighbour:
            neighbour.kill()
            neighbour.wait()
