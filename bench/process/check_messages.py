"""What the parent and a worker say to each other in a regression check: base and head in one worker, or each in one of its own."""

from msgspec import Struct

from ..data.check_record import Facts, Unit
from ..data.record import Checked, Environment, Failed, LayerFacts, Measured, Point, Skipped


class DescribeSides(Struct, frozen=True, tag=True):
    """Mount one or both sides.  suites: base, head -> the suite's path; roots: -> the top of the tree it lies in.

    core      the CPU core to stay on; -1: any.
    moved     modules of the first folder that are imported by their plain names are taken from the second.
    here      the folder to stand in, where it is not the parent's.
    renamed   a layer's name at the head -> its name at the base, where it is to be had by both.
    """

    suites: dict[str, str]
    roots: dict[str, str]
    threads: int
    core: int = -1
    moved: tuple[str, str] | None = None
    renamed: dict[str, str] = {}
    here: str = ""


class DescribedSides(Struct, frozen=True, tag=True):
    """layers: side -> its layers.  broken: side -> file relative to the root -> why it does not import.

    apart: why the sides may not share a process, in words; "" where they may.
    """

    layers: dict[str, tuple[LayerFacts, ...]]
    broken: dict[str, dict[str, str]]
    environment: Environment
    apart: str


class Examine(Struct, frozen=True, tag=True):
    """Verify these variants of one side at a point, the reference with them, and take what is the same at every measurement."""

    side: str
    point: Point
    variants: tuple[str, ...]


class Examined(Struct, frozen=True, tag=True):
    facts: dict[str, Facts | Measured | Checked | Skipped | Failed]


class SketchReference(Struct, frozen=True, tag=True):
    """What does the reference of a side compute at this point?"""

    side: str
    point: Point


class Sketch(Struct, frozen=True):
    """A tensor in a few numbers: its largest absolute value, and sums of it under random signs."""

    shape: tuple[int, ...]
    largest: float
    projections: tuple[float, ...]


class Sketched(Struct, frozen=True, tag=True):
    """inputs: how they are declared; tensors: parameters, outputs, gradients, buffers by name.  reason: why there are none."""

    inputs: str
    tensors: dict[str, Sketch]
    reason: str = ""


class MeasureUnit(Struct, frozen=True, tag=True):
    """Time a fresh pair of instances in turns.

    sides: what stands for base and for head; number: seeds the draw and says who is made first.  seconds, error: when it ends.
    """

    point: Point
    variant: str
    sides: tuple[str, str]
    number: int
    seconds: float
    error: float


class MeasuredUnit(Struct, frozen=True, tag=True):
    """The unit, or the side that failed and why."""

    unit: Unit | None
    failed_side: str = ""
    reason: str = ""


class Prepare(Struct, frozen=True, tag=True):
    """Make one side's instance, warm, for `TimeBlock`."""

    side: str
    point: Point
    variant: str
    number: int


class Prepared(Struct, frozen=True, tag=True):
    """How many calls make a block; or why it failed."""

    calls: int
    reason: str = ""


class TimeBlock(Struct, frozen=True, tag=True):
    """One untimed call, then so many timed ones, of what was prepared last."""

    calls: int


class TimedBlock(Struct, frozen=True, tag=True):
    """Seconds per call, and how often the block was taken again; or why it failed."""

    seconds: float
    again: int = 0
    reason: str = ""


Request = DescribeSides | Examine | SketchReference | MeasureUnit | Prepare | TimeBlock
Answer = DescribedSides | Examined | Sketched | MeasuredUnit | Prepared | TimedBlock
