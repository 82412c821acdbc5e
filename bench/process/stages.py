"""Reports which stage and variant is being worked on, and how long each stage has taken.  It times stages, not layers."""

import time
from collections.abc import Callable


class Stages:
    """Called with (stage, variant) before each piece of work; a stage lasts until the next one begins.

    tell  is called with the same words, as the page of memory that the parent reads.
    """

    def __init__(self, tell: Callable[[str, str], None], now: Callable[[], float] = time.monotonic) -> None:
        self._tell, self._now = tell, now
        self._stage, self._since = "", now()
        self._seconds: dict[str, float] = {}

    def __call__(self, stage: str, variant: str) -> None:
        self._turn(stage)
        self._tell(stage, variant)

    def take(self) -> dict[str, float]:
        """Seconds per stage since the last take; what came before the first stage counts for none."""
        self._turn("")
        taken, self._seconds = self._seconds, {}
        return taken

    def _turn(self, stage: str) -> None:
        now = self._now()
        if self._stage:
            self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = stage, now
