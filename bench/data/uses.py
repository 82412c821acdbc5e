"""What is known of a variant in the ways in which layers are used."""

from msgspec import Struct


class Uses(Struct, frozen=True):
    """A variant in the ways in which layers are used, proved once for a layer, dtype and device.  See equivalence/in_use."""

    tried: int  # ways in which it was held against the reference; in all that are not named below it does the same
    limits: dict[str, str] = {}  # way -> what it does there instead, as an error that the reference does not raise
    marks: dict[str, str] = {}  # values out of the ordinary -> what differs there alone
    refused: dict[str, str] = {}  # of the reference: way -> why it was asked of nobody
    facts: dict[str, str] = {}  # of a layer by itself, as whether its bits are the same from run to run -> yes, or no and why

    @property
    def mark(self) -> tuple[str, ...]:
        """What must be said wherever it is ranked: one sentence, or none."""
        names = [*self.marks]
        more = f"; and with {', '.join(names[1:4])}{', ...' if len(names) > 4 else ''}" if names[1:] else ""
        return tuple(f"same for ordinary values only: with {name}, {self.marks[name]}{more}" for name in names[:1])
