"""Triton's interpreter: is it on, and did a kernel really run?  Proving kernels without a GPU rests on both answers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

DTYPES = ("float32", "float16")  # the interpreter truncates bfloat16 instead of rounding, so its values prove nothing


def missing() -> str:
    """Why kernels cannot be interpreted in this process; "" where they can."""
    try:
        import triton
    except ImportError:
        return "triton is not installed; type  pip install triton"
    return "" if os.environ.get("TRITON_INTERPRET") == "1" else f"triton {triton.__version__} is not in interpreter mode"


class Launches:
    """How many kernels were launched so far."""

    def __init__(self) -> None:
        self.count = 0


@contextmanager
def counted() -> Iterator[Launches]:
    """Count the kernels that the interpreter launches inside the block."""
    from triton.runtime import interpreter

    launches = Launches()
    original = interpreter.GridExecutor.__call__

    def launch(self: object, *args: object, **kwargs: object) -> object:
        launches.count += 1
        return original(self, *args, **kwargs)

    interpreter.GridExecutor.__call__ = launch
    try:
        yield launches
    finally:
        interpreter.GridExecutor.__call__ = original
