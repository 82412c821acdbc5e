"""The data of a run: frozen types that both sides share.  Raw numbers and words; statistics are derived in stats, formats are report's.

msgspec structs, so that one definition gives the types, the JSON and the messages for a damaged file.
"""

from msgspec import Struct, field

from .profiled import Profile
from .uses import Uses

SCHEMA = 1  # 2026-11: the first


class Point(Struct, frozen=True):
    """The unit of measurement: every variant of a layer at one size, dtype, device and step."""

    layer: str
    size: dict[str, int]
    dtype: str  # float32 | bfloat16 | float16
    device: str  # cpu, cuda, ...
    step: str  # forward | backward | training | update_sgd, ... | inference

    @property
    def id(self) -> str:
        """Stable and human-readable: softmax-forward-cpu-float32-batch8-width1024."""
        sizes = (f"{dimension}{value}" for dimension, value in self.size.items())
        return "-".join((self.layer, self.step, self.device, self.dtype, *sizes))

    @property
    def cell(self) -> str:
        """The id without the step: points that share it are made, verified and compiled together.  Inference shares it with none."""
        sizes = (f"{dimension}{value}" for dimension, value in self.size.items())
        return self.id if self.step == "inference" else "-".join((self.layer, self.device, self.dtype, *sizes))


class VariantFacts(Struct, frozen=True):
    name: str
    compile: bool
    devices: str  # any | cpu | gpu


class LayerFacts(Struct, frozen=True):
    """What a run has to know of a declared layer without importing it."""

    name: str
    about: str  # first line of the file's docstring
    file: str
    line: int
    sweep: dict[str, tuple[int, ...]]
    variants: tuple[VariantFacts, ...]  # the first is the reference
    absent: dict[str, str]  # variant -> why there is none
    on_request: bool = False  # measured by --all and by -k only
    digest: str = ""  # of the layer's code: see identity.  "": not known, as in run files from before it was
    gpu_sweep: dict[str, tuple[int, ...]] = {}  # dimension -> its values on a GPU; the dimensions that it leaves out are the sweep's

    @property
    def reference(self) -> str:
        return self.variants[0].name


class OnDevice(Struct, frozen=True):
    """What the clock of an accelerator tells beside the device's seconds, per sample as those are."""

    issuing: tuple[float, ...]  # seconds per call that the host needs to issue the step, waiting for nothing
    called: tuple[float, ...]  # seconds per call of a loop that never waits: what a caller sees
    exposed: str = ""  # why launches could not be hidden, so that the device's seconds hold some of the host's; "": they were
    discarded: dict[str, int] = {}  # why -> samples that were taken again
    mhz: tuple[int, ...] = ()  # clock of the device after each sample; 0: not known
    uncaptured: str = ""  # why a CUDA graph was not what was timed, where that was tried
    power_limited: int = 0  # samples after which the power limit held the clock down: a regime, they count like the others


class Timing(Struct, frozen=True):
    """Raw samples.  seconds[i] is the time per call of the i-th sample, a block of `calls_per_sample` calls.

    Sample i of every variant of a point belongs to round i; order[i] is its place in time among all samples of the point.
    """

    seconds: tuple[float, ...]
    calls_per_sample: int
    order: tuple[int, ...]
    stopped: str  # why sampling ended: precision | budget
    clock: str  # host: wall time on the host; device: accelerator events; graph: the same of a CUDA graph of steps
    others: float | None = None  # cores that other work kept busy meanwhile; None: not known
    device: OnDevice | None = None  # None: the clock is the host's


class Memory(Struct, frozen=True):
    """Tensor bytes.  Peaks are above `live_bytes`, what is alive before the call: parameters, buffers and inputs."""

    live_bytes: int
    saved_bytes: int  # held after forward beyond its outputs: what backward will need
    peak_forward_bytes: int
    peak_backward_bytes: int  # reached during backward; counts the outputs and what forward saved
    reserved_bytes: int | None = None  # of an accelerator's memory that torch held at the peak, for this and all else; None: on the CPU


class TensorError(Struct, frozen=True):
    """Largest absolute error of one tensor against the float64 reference, over all seeds; more than `allowed` fails."""

    tensor: str  # output, input 0 grad, weight grad, running_mean, ...
    error: float
    allowed: float


class Accuracy(Struct, frozen=True):
    tensors: tuple[TensorError, ...]
    warnings: tuple[str, ...] = ()  # a check that could not have failed is said here
    uses: Uses | None = None  # None: not asked, as in run files from before it was

    @property
    def slack(self) -> float:
        """The largest error as a share of what is allowed, over all tensors; 1 is the limit."""
        return max((t.error / t.allowed if t.allowed else 0.0 for t in self.tensors), default=0.0)


class Compiled(Struct, frozen=True):
    """What torch.compile did.  cold_seconds: the first forward and backward, with empty caches where it is `cold`."""

    cold_seconds: float
    graphs: int
    breaks: tuple[str, ...]
    recompiles: int  # while this point was timed
    sweep: "SweepGraphs | None" = None  # None: not counted
    cold: bool = True


class SweepGraphs(Struct, frozen=True):
    """Graphs that torch.compile captures where one module meets every size of the sweep's first dimension in turn, as a user's would."""

    dimension: str
    sizes: tuple[int, ...]
    graphs: int  # one is the first compilation; the others are recompilations


class Energy(Struct, frozen=True):
    """A step in a loop between two ticks of the device's counter of energy: the whole board under load, what it takes idle included."""

    joules: float  # per call
    watts: float
    seconds: float  # per call of the loop, a second and more: sustained, where the samples are short bursts
    calls: int
    mhz: int  # clock of the device at the end; 0: not known
    power_limited: bool  # whether the power limit held the clock down then


class Work(Struct, frozen=True):
    """What one step must do at least, counted on the reference: the same for every variant of a point.  It is counted, not measured."""

    flops: int  # of matrix products, convolutions and attention; nothing else is counted
    read_bytes: int  # tensors that come in, each once
    written_bytes: int  # tensors that come out, each once


class Measured(Struct, frozen=True, tag="measured"):
    timing: Timing
    memory: Memory
    accuracy: Accuracy
    profile: Profile
    compiled: Compiled | None = None  # None: the variant is not compiled
    warnings: tuple[str, ...] = ()
    work: Work | None = None  # None: not counted
    energy: Energy | str | None = None  # str: why it could not be measured; None: not asked for


class Checked(Struct, frozen=True, tag="checked"):
    """Values proved, but not timed here; never with a time."""

    accuracy: Accuracy
    reason: str


class Skipped(Struct, frozen=True, tag="skipped"):
    stage: str
    reason: str


class Failed(Struct, frozen=True, tag="failed"):
    stage: str  # make | compile | verify | ways | warm | time | energy | recheck | memory | profile
    reason: str


Outcome = Measured | Checked | Skipped | Failed


class Record(Struct, frozen=True):
    point: Point
    variant: str
    outcome: Outcome

    @property
    def id(self) -> str:
        return f"{self.point.id}-{self.variant}"


class Device(Struct, frozen=True):
    kind: str  # cpu, cuda, xpu, mps, ...
    name: str
    memory_bytes: int
    dtypes: tuple[str, ...]  # those it computes in


class Environment(Struct, frozen=True):
    """Where the run was taken; everything that may move a number."""

    machine: str  # short key: the same key means that times may be compared
    cpu: str
    cores: int
    memory_bytes: int
    system: str
    python: str
    versions: dict[str, str]  # layerbench, torch, triton, ...
    devices: tuple[Device, ...]
    threads: int
    flags: dict[str, str]  # matmul precision, TF32, governor, ...
    load: float  # 1-minute load average when the run began
    commit: str  # "" outside a git repository
    branch: str
    dirty: bool


class Roof(Struct, frozen=True):
    """The fastest that this machine was seen to compute, measured when the run began.  See roofs."""

    device: str
    dtype: str
    flops_per_second: float  # of a large matrix product, in this dtype or in float32, whichever is faster
    bytes_per_second: float  # of a copy too large for the caches, read and written counted
    cached_bytes_per_second: float  # of the fastest copy of any size
    call_seconds: float  # of a module that does nothing


class Run(Struct, frozen=True):
    schema: int
    name: str
    started: str  # ISO 8601, UTC
    seconds: float  # wall time of the whole run
    command: str
    suite: str
    interleaved: bool
    environment: Environment
    layers: tuple[LayerFacts, ...]
    records: tuple[Record, ...]
    notes: tuple[str, ...] = field(default=())  # what the run itself has to say: interrupted, another run was going on, ...
    roofs: tuple[Roof, ...] = ()
    graph: str = "auto"  # whether short steps are timed in a CUDA graph on an accelerator: auto | always | never
    stages: dict[str, float] = {}  # seconds that points took, by stage; what of `seconds` is left is starting up, roofs and storing
