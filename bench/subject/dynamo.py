"""Dynamo, the tracer of torch.compile: the graphs that it has captured in this process, and how to forget them."""

import io
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import torch


def loaded() -> bool:
    """Nothing was compiled before Dynamo was imported, which takes as long as torch itself: so we import it only to compile."""
    return "torch._dynamo.utils" in sys.modules


def counters() -> Any:
    """Dynamo's own: counter -> what was counted -> how often."""
    from torch._dynamo.utils import counters

    return counters


def graphs() -> int:
    """Graphs captured since `forget`; more of them after timing than before means that timing met a compilation."""
    return int(counters()["stats"]["unique_graphs"]) if loaded() else 0


def breaks() -> dict[str, int]:
    """Why graphs broke since `forget`, and how often."""
    return dict(counters()["graph_break"]) if loaded() else {}


def forget() -> None:
    """Drop what was compiled so far, so that its guards and recompilation limits cannot reach what is compiled next."""
    if loaded():
        torch._dynamo.reset()
        counters().clear()


def in_short(reason: str) -> str:
    """Dynamo explains a break in many lines; what it is and why are the first and the one marked so."""
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    why = [line.removeprefix("Explanation: ") for line in lines if line.startswith("Explanation: ")]
    return ": ".join([*lines[:1], *why[:1]])


@contextmanager
def by_itself() -> Iterator[None]:
    """Inside, nothing is compiled yet, and afterwards nothing is; nothing is said or printed.  Not where something compiled is in use."""
    forget()
    level, trace = logging.root.manager.disable, logging.getLogger("torch.__trace")  # which minds no level
    silent, trace.disabled = trace.disabled, True
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(level)
        trace.disabled = silent
        forget()
