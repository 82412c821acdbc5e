"""What became of one number from an old run to a new one: the row of a comparison.  `compare` makes them."""

from msgspec import Struct

from .record import Point


class Change(Struct, frozen=True):
    """One metric of one variant at one point, new against old.  ratio > 1: the new run is slower or larger."""

    point: Point
    variant: str
    metric: str  # seconds | ratio | peak_bytes | saved_bytes | graphs | outcome
    old: float
    new: float
    ratio: float
    low: float
    high: float
    verdict: str  # slower | faster | larger | smaller | same | unclear | missing | failed | new
