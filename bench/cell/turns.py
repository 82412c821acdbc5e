"""Which variant is being timed, and whether it did something that makes its times, or those of the others, invalid."""

from collections.abc import Callable

from ..data.record import Failed
from ..subject import dynamo, torch_settings


class Turns:
    """Called with each variant before its block, outside the clock.  Graphs and settings are read there: a few microseconds."""

    def __init__(self, enter: Callable[[str, str], None]) -> None:
        self.variant = ""
        self.graphs: dict[str, int] = {}  # captured by torch.compile in that variant's turns
        self._settings: dict[str, str] = {}  # what it changed, in words
        self._enter = enter
        self._seen, self._state = dynamo.graphs(), torch_settings.look()

    def __call__(self, variant: str) -> None:
        self.settle()
        self.variant = variant
        self._enter("time", variant)

    def settle(self) -> None:
        """Put down to the variant whose turn it was what has changed."""
        if (graphs := dynamo.graphs()) > self._seen:
            self.graphs[self.variant] = self.graphs.get(self.variant, 0) + graphs - self._seen
            self._seen = graphs
        if changes := torch_settings.put_back(self._state):
            self._settings[self.variant] = changes

    def spoilt(self) -> dict[str, Failed]:
        """The variants whose times do not count."""
        times = {name: f"{count} time{'s' if count > 1 else ''}" for name, count in self.graphs.items()}
        compiled = {name: Failed("time", f"torch.compile compiled again {count} while it was timed") for name, count in times.items()}
        return compiled | {name: Failed("time", changes) for name, changes in self._settings.items()}
