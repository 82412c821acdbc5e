"""What one pass of the profiler found of a variant: its operators.  Part of a record; none of its times is ranked."""

from msgspec import Struct


class Operator(Struct, frozen=True):
    """One row of the profiler's table, summed over the profiled calls.  Self time: without the operators called inside."""

    name: str
    calls: int
    cpu_seconds: float
    device_seconds: float
    allocated_bytes: int


class Profile(Struct, frozen=True):
    """One torch.profiler pass.  Its times include the profiler's own cost: they explain, they do not rank."""

    calls: int  # steps of the variant that were profiled
    wall_seconds: float  # all of them together, profiler on
    operators: tuple[Operator, ...]  # most self time first
    trace: str  # path of the trace file beside the run file; "" when none was written
