"""What one pass of the profiler found of a variant: its operators and kernels.  Part of a record; none of its times is ranked."""

from msgspec import Struct


class Operator(Struct, frozen=True):
    """One row of the profiler's table, summed over the profiled calls.  Self time: without the operators called inside."""

    name: str
    calls: int
    cpu_seconds: float
    device_seconds: float
    allocated_bytes: int


class Kernels(Struct, frozen=True):
    """What an accelerator ran in one profiled step: kernels, copies and fills.  The sum of their durations checks the clock's seconds."""

    count: int
    seconds: float  # of all together, each with its own duration
    launches: int  # by the host: of kernels, copies and fills
    graphs: int  # and of whole graphs, each of many kernels
    overlap: bool  # some ran at the same time, or on several streams: then the step may take less than the sum
    mhz: int = 0  # clock of the device at the end of the pass; 0: not known
    incomplete: str = ""  # why the sum checks nothing, as where the profiler lost kernels; "": it has all of them


class Profile(Struct, frozen=True):
    """One torch.profiler pass.  Its times include the profiler's own cost: they explain, they do not rank."""

    calls: int  # steps of the variant that were profiled
    wall_seconds: float  # all of them together, profiler on
    operators: tuple[Operator, ...]  # most self time first
    trace: str  # path of the trace file beside the run file; "" when none was written
    kernels: Kernels | None = None  # None: of the CPU, or not counted
