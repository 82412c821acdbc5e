"""How long each point may be timed, so that the whole run ends in time.  Knows seconds and counts, no layer."""

import statistics
import time
from collections.abc import Callable

from ..declare.mistake import Mistake

SHORTEST, LONGEST = 0.4, 10.0  # seconds of timing for one point, all its variants together
FIRST_GUESS = 5.0  # seconds that a point costs beside its timing, without its energy
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def parse(text: str) -> float:
    """`90s`, `5m`, `1h` -> seconds.  Raises Mistake."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in UNITS else (text, "")
    try:
        seconds = float(number) * UNITS.get(unit, 1.0)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise Mistake(f"--budget {text}: not a duration; write for example 90s, 5m or 1h")
    if not unit:
        raise Mistake(f"--budget {text}: seconds, minutes or hours?  Write {text}s, {text}m or {text}h")
    return seconds


class Budget:
    """Spreads a total over the points that are left.

    A point that is precise enough before its share is used up saves the rest, and the next one may use half of all that was saved
    beyond its own share: so what is saved goes to points that are still uncertain, and one of them cannot take all of it.
    """

    def __init__(self, total: float, now: Callable[[], float] = time.monotonic, guess: float = FIRST_GUESS) -> None:
        """guess: seconds that a point costs beside its timing, until some have been seen."""
        self._guess = guess
        self._now, self._end = now, now() + total
        self._begun: float | None = None  # when the point in hand began
        self._share = self._timed = self._saved = 0.0  # of the point in hand: its share, and what it took; of those before it: the rest
        self._overheads: list[float] = []

    def seconds(self, left: int) -> float:
        """For the next point's timed pass, with `left` points to come, that one included."""
        now = self._now()
        if self._begun is not None:
            self._overheads.append(max(0.0, now - self._begun - self._timed))
            self._saved = max(0.0, self._saved + self._share - self._timed)
        # the first point also starts the compiler and the interpreter: what it cost says nothing of the others
        overhead = statistics.fmean([self._guess, *self._overheads[1:]])
        free = max(0.0, self._end - now - left * overhead)
        self._saved = min(self._saved, free)
        self._share = (free - self._saved) / left
        self._begun, self._timed = now, 0.0
        return min(LONGEST, max(SHORTEST, self._share + self._saved / 2))

    def timed(self, seconds: float) -> None:
        """How long the timed pass of the point in hand took."""
        self._timed = seconds
