"""Triton's interpreter: is it on?  And did a kernel really run, there or on a GPU?  What is said of kernels rests on both answers."""

import functools
import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

DTYPES = ("float32", "float16")  # the interpreter truncates bfloat16 instead of rounding, so its values prove nothing


def missing() -> str:
    """Why kernels cannot be interpreted in this process; "" where they can."""
    try:
        import triton
    except ImportError:
        return "triton is not installed; type  pip install triton"
    if os.environ.get("TRITON_INTERPRET") != "1":
        return f"triton {triton.__version__} is not in interpreter mode"
    return _broken()


@functools.cache
def _broken() -> str:
    """Why the interpreter does not work here, by a kernel of ours that must; "" where it does."""
    import numpy as np
    import triton

    from . import probe

    try:
        probe.run()
    except Exception as error:  # noqa: BLE001  whatever it is, it is not a layer's fault
        first = f"{type(error).__name__}: {error}".partition("\n")[0][:120]
        versions = f"the interpreter of triton {triton.__version__} does not work with numpy {np.__version__}"
        return f"{versions} ({first}); type  pip install --upgrade triton,  or  pip install 'numpy<2.4'"
    return ""


def claims(variant: str, device: str) -> bool:
    """Whether a variant says by its name that it launches Triton kernels, on a device that runs them and where Triton is installed."""
    return device != "cpu" and "triton" in variant.lower() and importlib.util.find_spec("triton") is not None


class Launches:
    """How many kernels were launched so far."""

    def __init__(self) -> None:
        self.count = 0


@contextmanager
def counted() -> Iterator[Launches]:
    """Count the Triton kernels that are launched inside the block, by the interpreter or on a device."""
    from triton.runtime import interpreter, jit

    launches = Launches()

    def counting(original: Callable[..., object]) -> Callable[..., object]:
        def launch(self: object, *args: object, **kwargs: object) -> object:
            launches.count += 1
            return original(self, *args, **kwargs)

        return launch

    places = ((interpreter.GridExecutor, "__call__"), (jit.JITFunction, "run"))
    originals = [getattr(owner, name) for owner, name in places]
    for (owner, name), original in zip(places, originals, strict=True):
        setattr(owner, name, counting(original))
    try:
        yield launches
    finally:
        for (owner, name), original in zip(places, originals, strict=True):
            setattr(owner, name, original)
