"""What a layer may change for every other in its process: torch's global settings.  Read, compared and put back.

Not the random generators' state: a layer may draw, and every call that is verified sets the seed first.  Nor environment variables and
filters of warnings, which an import may set: equivalence/traits looks after both.
"""

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import torch

from ..declare.mistake import Finding

WORDS = {
    "dtype": "default dtype",
    "device": "default device",
    "threads": "number of threads",
    "gradients": "gradient mode",
    "deterministic": "use of deterministic algorithms",
    "precision": "float32 matmul precision",
    "tf32": "use of TF32 by cuDNN",
    "folder": "working directory",
    "anomaly": "detection of anomalies",
    "autocast": "autocast",
    "denormals": "flushing of denormal numbers",
    "hooks": "number of hooks on all modules",
}

FLAGS: dict[str, tuple[Callable[[], bool], Callable[[bool], object]]] = {  # what it is called -> how it is read, and set
    "cudnn.enabled": (torch._C._get_cudnn_enabled, torch._C._set_cudnn_enabled),
    "cudnn.benchmark": (torch._C._get_cudnn_benchmark, torch._C._set_cudnn_benchmark),
    "cudnn.deterministic": (torch._C._get_cudnn_deterministic, torch._C._set_cudnn_deterministic),
    "mkldnn.enabled": (torch._C._get_mkldnn_enabled, torch._C._set_mkldnn_enabled),
    "flash attention": (torch._C._get_flash_sdp_enabled, torch._C._set_sdp_use_flash),
    "memory-efficient attention": (torch._C._get_mem_efficient_sdp_enabled, torch._C._set_sdp_use_mem_efficient),
    "math attention": (torch._C._get_math_sdp_enabled, torch._C._set_sdp_use_math),
}
FUNCTIONS = tuple(name for name, each in vars(torch.nn.functional).items() if callable(each))
AUTOCAST = ("cpu", "cuda", "xpu")
_SMALL = torch.tensor(1e-40)  # 0 where denormal numbers are flushed
GLOBAL_HOOKS = [
    getattr(torch.nn.modules.module, name)
    for name in vars(torch.nn.modules.module)
    if name.startswith("_global_") and name.endswith("_hooks")
]

warnings.filterwarnings("ignore", "Please use the new API settings to control TF32", UserWarning)  # torch 2.9 means its own interface


class Meddles(Finding):
    """A variant changed a setting that the other variants are measured under.  Carries which, from what, to what."""


@dataclass(frozen=True)
class State:
    """The settings of this process.  The names of the fields are those of WORDS, but for the flags and functions."""

    dtype: torch.dtype
    device: torch.device
    threads: int
    gradients: bool
    deterministic: bool
    precision: str
    tf32: bool  # in cuDNN's convolutions of float32; in products the precision says it
    folder: str
    anomaly: bool
    autocast: tuple[bool, ...]  # by the devices of AUTOCAST
    denormals: bool
    hooks: tuple[int, ...]  # how many of each kind
    flags: tuple[bool, ...]  # in the order of FLAGS
    functions: tuple[object, ...]  # of torch.nn.functional, in the order of FUNCTIONS


def look() -> State:
    return State(
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
        _folder(),
        torch.is_anomaly_enabled(),
        tuple(map(torch.is_autocast_enabled, AUTOCAST)),
        not float(_SMALL * 1),
        tuple(map(len, GLOBAL_HOOKS)),
        tuple(read() for read, _ in FLAGS.values()),
        tuple(vars(torch.nn.functional).get(name) for name in FUNCTIONS),
    )


def use_tf32(allowed: bool) -> None:
    """For float32 on a GPU, everywhere or nowhere.  torch by itself uses it in convolutions alone, so that two variants would differ."""
    _set_precision("high" if allowed else "highest", allowed)


def _set_precision(precision: str, tf32: bool) -> None:
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = tf32


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread of the processor inside."""
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(usual)


@contextlib.contextmanager
def untouched() -> Iterator[None]:
    """Whatever is done inside, the settings are the same afterwards.  Raises Meddles where it changed them."""
    before = look()
    try:
        yield
    except BaseException:
        put_back(before)
        raise
    if changes := put_back(before):
        raise Meddles(changes)


def put_back(before: State) -> str:
    """Undo what was changed since `before`.  Returns what that was, in words; "" where nothing was."""
    after = look()
    if after == before:
        return ""
    changes = [
        f"changes the {WORDS[field.name]} from {_shown(getattr(before, field.name))} to {_shown(getattr(after, field.name))}"
        for field in fields(State)
        if field.name in WORDS and getattr(before, field.name) != getattr(after, field.name)
    ]
    for (name, (_, put)), then, now in zip(FLAGS.items(), before.flags, after.flags, strict=True):
        if then != now:
            changes.append(f"changes torch's flag {name} from {_shown(then)} to {_shown(now)}")
            put(then)
    for name, function, other in zip(FUNCTIONS, before.functions, after.functions, strict=True):
        if function is not other:
            changes.append(f"puts a function of its own in the place of torch.nn.functional.{name}")
            setattr(torch.nn.functional, name, function)
    for hooks, count in zip(GLOBAL_HOOKS, before.hooks, strict=True):
        while len(hooks) > count:
            hooks.popitem()
    torch.set_default_dtype(before.dtype)
    if after.device != before.device:
        torch.set_default_device(before.device)
    torch.set_num_threads(before.threads)
    torch.set_grad_enabled(before.gradients)
    torch.use_deterministic_algorithms(before.deterministic)
    _set_precision(before.precision, before.tf32)
    torch.set_flush_denormal(before.denormals)
    torch.autograd.set_detect_anomaly(before.anomaly)
    for device, then in zip(AUTOCAST, before.autocast, strict=True):
        torch.set_autocast_enabled(device, then)
    if after.folder != before.folder:
        with contextlib.suppress(OSError):  # it is gone: nothing can be put back
            os.chdir(before.folder)
    return "; ".join(changes)


def _folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109  as a word, to compare
    except OSError:  # somebody removed it
        return "a folder that is gone"


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_shown, value))
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value).removeprefix("torch.")
