"""How long each point may be timed, so that the whole run ends in time.  Knows seconds and counts, no layer."""

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
        self._total, self._now, self._start = total, now, now()
        self._granted = 0.0
        self._points = 0

    def seconds(self, left: int) -> float:
        """For the next point's timed pass, with `left` points to come, that one included."""
        spent = self._now() - self._start
        overhead = max(0.0, spent - self._granted) / self._points if self._points else FIRST_GUESS
        share = (self._total - spent) / left - overhead
        granted = min(LONGEST, max(SHORTEST, share))
        self._granted += granted
        self._points += 1
        return granted
