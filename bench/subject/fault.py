"""Turns an exception of a user's layer into one short line for a record.  Tracebacks are for the worker's log."""

import re

import torch

from ..declare.mistake import DeviceLost, Finding
from ..machine.limits import OUT_OF_MEMORY, memory_limit

REFUSED = re.compile(r"can't allocate memory: you tried to allocate (\d+) bytes|Tried to allocate ([\d.]+ \w+)|std::bad_alloc")


def in_words(error: BaseException) -> str:
    """Raises DeviceLost where it has left the accelerator in a state in which nothing works any more, as an illegal access does."""
    text = str(error).strip().partition("\n")[0][:400]
    if isinstance(error, RuntimeError) and _lost():
        raise DeviceLost(text) from error
    if words := _out_of_memory(error):
        return words
    if isinstance(error, Finding):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _lost() -> bool:
    """Whether the accelerator of this process answers no more.  Its errors stay: every call after one raises it again."""
    if not (torch.accelerator.is_available() and torch.get_device_module().is_initialized()):
        return False
    try:
        torch.accelerator.synchronize()
    except RuntimeError:
        return True
    return False


def _out_of_memory(error: BaseException) -> str:
    """One sentence that begins with OUT_OF_MEMORY; "" for any other error.  torch's CPU allocator raises a plain RuntimeError."""
    found = REFUSED.search(str(error))
    if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not (isinstance(error, RuntimeError) and found):
        return ""
    asked = f": {_gigabytes(int(found[1])) if found[1] else found[2]} were asked for at once" if found and found.lastindex else ""
    limit = memory_limit()
    held = f"{',' if asked else ':'} the worker may hold {_gigabytes(limit)} in all" if limit else ""
    return f"{OUT_OF_MEMORY}{asked}{held}"


def _gigabytes(nbytes: int) -> str:
    return f"{nbytes / 1e9:.1f} GB"
