"""What the parent and a worker say to each other: plain messages over a socket, and one page of shared memory for where the worker is.

No pickle: a message is a msgspec struct as JSON.  Nothing is measured here.
"""

import mmap
import os
import tempfile
import time
from multiprocessing.connection import Connection
from typing import IO, NamedTuple

import msgspec
from msgspec import Struct

from ..data.record import Environment, LayerFacts, Point, Record, Roof
from . import check_messages as check


class Describe(Struct, frozen=True, tag=True):
    """tf32: whether float32 may be computed in it on a GPU, by all variants and the reference."""

    suite: str
    threads: int
    tf32: bool = False


class Measure(Struct, frozen=True, tag=True):
    """Measure these variants of a point, the reference first.  seconds: for the timed pass; traces: folder, "" for none.

    interleaved False: time them one after the other.  graph: as in Run.  energy: measure on an accelerator what a call takes of it.
    """

    point: Point
    variants: tuple[str, ...]
    seconds: float
    traces: str
    interleaved: bool = True
    graph: str = "auto"
    energy: bool = False


class FindRoof(Struct, frozen=True, tag=True):
    """Measure what this machine can do at most on a device in a dtype."""

    device: str
    dtype: str


class Prove(Struct, frozen=True, tag=True):
    """Check variants of a layer by value only, at the layer's own verify_at sizes: under Triton's interpreter, or on the device named."""

    layer: str
    dtype: str
    variants: tuple[str, ...]
    device: str = ""


class StartCompiler(Struct, frozen=True, tag=True):
    """Start what torch.compile needs on a device, before the first compilation is timed."""

    device: str


class Described(Struct, frozen=True, tag=True):
    layers: tuple[LayerFacts, ...]
    environment: Environment


class FoundRoof(Struct, frozen=True, tag=True):
    roof: Roof


class Finished(Struct, frozen=True, tag=True):
    """What came of a point, and how many seconds the worker spent on it, stage by stage."""

    records: tuple[Record, ...]
    seconds: dict[str, float] = {}


class Refused(Struct, frozen=True, tag=True):
    """A Mistake: one sentence for the user."""

    sentence: str


class Lost(Struct, frozen=True, tag=True):
    """The device answers no more in this process: where the worker was, and the error's first line.  A new process has to go on."""

    stage: str
    variant: str
    reason: str


class Broken(Struct, frozen=True, tag=True):
    """A fault of layerbench itself: where the worker was, and the traceback."""

    stage: str
    variant: str
    traceback: str


First = Describe | check.DescribeSides  # what a worker is told before all else
Request = Describe | FindRoof | Measure | Prove | StartCompiler | check.Request
Answer = Described | FoundRoof | Finished | Refused | Lost | Broken | check.Answer


def send(connection: Connection, message: Request | Answer) -> None:
    connection.send_bytes(msgspec.json.encode(message))


def receive_request(connection: Connection) -> Request:
    """Raises EOFError when the parent has closed."""
    return msgspec.json.decode(connection.recv_bytes(), type=Request)


def receive_answer(connection: Connection) -> Answer:
    """Raises EOFError when the worker is gone."""
    return msgspec.json.decode(connection.recv_bytes(), type=Answer)


class Where(NamedTuple):
    """The stage and variant that a worker entered last, and when (monotonic seconds)."""

    since: float
    stage: str
    variant: str


class Place:
    """A page of memory that both processes map: the worker writes where it is before every block, the parent reads it when it must know.

    Costs about a microsecond, so that it may be written between two timed blocks; a message would wake the parent up each time.
    """

    SIZE = 512

    def __init__(self, descriptor: int | None = None) -> None:
        """The parent makes it and hands its descriptor down.  The file has no name, so that none is left behind by whoever is killed."""
        if descriptor is None:
            self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  held open
            self._file.truncate(self.SIZE)
        else:
            self._file = os.fdopen(descriptor, "r+b")
        self.descriptor = self._file.fileno()
        self._page = mmap.mmap(self.descriptor, self.SIZE)

    def write(self, stage: str, variant: str = "") -> None:
        text = f"{time.monotonic():.3f}\t{stage}\t{variant}\n".encode()
        self._page[: len(text)] = text

    def read(self) -> Where:
        line = self._page[:].partition(b"\n")[0].decode(errors="replace")
        since, _, rest = line.partition("\t")
        stage, _, variant = rest.partition("\t")
        return Where(float(since), stage, variant) if stage else Where(time.monotonic(), "start", "")

    def close(self) -> None:
        self._page.close()
        self._file.close()
