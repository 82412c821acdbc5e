"""Can a measured time be true, and does it say anything?  Against the roofs that the run measured, the ticks of its clock, and what other
work went on meanwhile.  It judges times, not values.

What it is for is a clock that missed the work: such times are wrong by far, so the margin is wide.
"""

import statistics

from ..data.record import Environment, Measured, Roof

MARGIN = 4.0  # a roof measured while other work ran is too low (on one machine 95 and 175 GFLOP/s were seen within half an hour), and
# a variant may need fewer operations than the reference, as Winograd's convolution does
CROWDED = 0.25  # cores that are wanted and not there, from which on a ratio says nothing
TICKS = 100  # a block shorter than so many ticks of its clock has no second digit
TICK_SECONDS = {"host": 1e-9}  # time.perf_counter on Linux.  A device's clock times every call by itself: see below_floor
KERNELS = 0.1  # under the profiler kernels were up to 1.5 % longer than all of the step by the clock; a kernel that was missed is more
UNKNOWN_CLOCK = 0.5  # of the sum of the kernels, where nobody knows how much slower the device ran under the profiler
FLOORS = 3.0  # times what the device's clock reads of nothing: below it is mostly the clock that is read


def impossible(measured: Measured, roof: Roof | None) -> str:
    """Why the time cannot be true; "" where it can.  Without a roof, or work that was counted, only what is left is judged."""
    seconds = statistics.median(measured.timing.seconds)
    block = seconds * measured.timing.calls_per_sample
    if block < TICKS * TICK_SECONDS.get(measured.timing.clock, 0.0):
        return f"a block of {block * 1e9:.3g} ns is shorter than {TICKS} ticks of the {measured.timing.clock} clock"
    if missed := _missed(measured, seconds):
        return missed
    if roof is None:
        return ""
    if measured.timing.clock == "host" and seconds < roof.call_seconds / MARGIN:
        return f"{seconds * 1e9:.3g} ns per call: calling a module that does nothing takes {roof.call_seconds * 1e9:.3g} ns here"
    work = measured.work
    if work and work.flops / seconds > MARGIN * roof.flops_per_second:
        rate, limit = work.flops / seconds / 1e9, roof.flops_per_second / 1e9
        return f"{rate:.3g} GFLOP/s: a large {roof.dtype} matrix product reaches {limit:.3g} here; {_WHY}"
    fastest = max(roof.bytes_per_second, roof.cached_bytes_per_second)
    if work and work.written_bytes / seconds > MARGIN * fastest:
        return f"{work.written_bytes / seconds / 1e9:.3g} GB/s written: the fastest copy reaches {fastest / 1e9:.3g} here; {_WHY}"
    return ""


def _missed(measured: Measured, seconds: float) -> str:
    """Why a device's clock must have missed kernels that the profiler saw; "" where it has not, or where their sum checks nothing.

    Under a power limit the profiled calls may run at a lower clock than the timed ones, and their kernels take longer by as much.
    """
    kernels, device = measured.profile.kernels, measured.timing.device
    if device is None or kernels is None or kernels.incomplete or kernels.overlap:
        return ""
    clocks = [mhz for mhz in device.mhz if mhz]
    slower = min(1.0, kernels.mhz / statistics.median(clocks)) if clocks and kernels.mhz else UNKNOWN_CLOCK
    if seconds >= (1 - KERNELS) * slower * kernels.seconds:
        return ""
    what = "its kernel takes" if kernels.count == 1 else f"its {kernels.count} kernels take"
    return f"{seconds * 1e6:.1f} us on the device: {what} {kernels.seconds * 1e6:.1f} us under the profiler; {_WHY}"


def contended(measured: Measured, machine: Environment) -> str:
    """Why ratios of these times say nothing, since other work wanted the same cores; "" where it did not, or nobody knows."""
    timing = measured.timing
    if timing.clock != "host" or timing.others is None or machine.threads + timing.others <= machine.cores + CROWDED:
        return ""
    threads = "1 thread was" if machine.threads == 1 else f"{machine.threads} threads were"
    return f"other work kept {timing.others:.1f} of {machine.cores} cores busy meanwhile, and {threads} timed"


def below_floor(measured: Measured, roof: Roof | None) -> str:
    """Why ratios of a device's times say nothing, since the clock reads almost as much of nothing; "" where it does not."""
    seconds = statistics.median(measured.timing.seconds)
    if measured.timing.clock != "device" or roof is None or seconds >= FLOORS * roof.call_seconds:
        return ""
    return f"{seconds * 1e6:.1f} us on the device: its clock reads {roof.call_seconds * 1e6:.1f} us of a call that does nothing"


_WHY = "the clock missed some of the work, or the work was not done"
