"""How long each point may be timed, so that the whole run ends in time.  Knows seconds and counts, no layer."""

import statistics
import time
from collections.abc import Callable

from .mistake import Mistake

SHORTEST, LONGEST = 0.4, 10.0  # seconds of timing for one point, all its variants together
FIRST_GUESS = 5.0  # seconds that a point costs beside its timing, until some have been seen
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def parse(text: str) -> float:
    """`90s`, `5m`, `1h` or plain seconds -> seconds.  Raises Mistake."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in UNITS else (text, "s")
    try:
        seconds = float(number) * UNITS[unit]
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise Mistake(f"--budget {text}: not a duration; write for example 90s, 5m or 1h")
    return seconds


class Budget:
    """Spreads a total over the points that are left; what a point did not need goes to those after it."""

    def __init__(self, total: float, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._end = now, now() + total
        self._begun: float | None = None  # when the point in hand began, and what it was granted
        self._granted = 0.0
        self._overheads: list[float] = []

    def seconds(self, left: int) -> float:
        """For the next point's timed pass, with `left` points to come, that one included."""
        now = self._now()
        if self._begun is not None:
            self._overheads.append(max(0.0, now - self._begun - self._granted))
        # the first point also starts the compiler and the interpreter: what it cost says nothing of the others
        overhead = statistics.fmean([FIRST_GUESS, *self._overheads[1:]])
        self._begun, self._granted = now, min(LONGEST, max(SHORTEST, (self._end - now) / left - overhead))
        return self._granted
