"""Where a candidate stands: its process seen from the referee.  It is stopped whenever it is not its turn, and its memory is read from here.

A turn begins when the numbers are in its arena and ends when all its threads are stopped; what it computes later is not there to be read.
"""

import ctypes
import json
import mmap
import os
import random
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from torch import Tensor

from ..declare.mistake import Finding
from .inside import GO

ARENA_BYTES = 2**28  # of the inputs of a block
LOAD_SECONDS, BLOCK_SECONDS = 120.0, 20.0
ALIGNMENT, SHUFFLED = 64, 2**12  # bytes; an input begins at a place that is drawn anew within so many
KEPT = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "TRITON_INTERPRET")  # of the environment


class Refused(Finding):
    """A candidate that is not ranked.  Carries a code that does not change, and why."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code


@dataclass(frozen=True)
class Out:
    """One output where it lies in the candidate's memory."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    address: int

    @property
    def nbytes(self) -> int:
        """From its first byte to its last."""
        reach = sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        return (reach + 1) * self.dtype.itemsize if all(self.shape) else 0


@dataclass(frozen=True)
class Turn:
    """seconds: by the wall.  cores: how many were at work, on average.  outputs: call by call."""

    seconds: float
    cores: float
    outputs: tuple[tuple[Out, ...], ...]


class Stand:
    """One candidate's process."""

    def __init__(self, folder: Path, wrapper: Sequence[str] = (), memory_bytes: int = 0) -> None:
        """folder: where it runs, and may write.  wrapper: words before Python's, which shut it off."""
        self._arena_fd = os.memfd_create("arena")
        os.ftruncate(self._arena_fd, ARENA_BYTES)
        self._memory = mmap.mmap(self._arena_fd, ARENA_BYTES)
        self._arena = torch.frombuffer(self._memory, dtype=torch.uint8)
        self._wire, theirs = socket.socketpair()
        self.said = folder / "output.txt"
        words = [
            *wrapper,
            sys.executable,
            "-m",
            "layerbench.bench.judge.inside",
            str(theirs.fileno()),
            str(self._arena_fd),
            str(ARENA_BYTES),
        ]
        environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        with self.said.open("wb") as output:
            self._process = subprocess.Popen(
                words,
                cwd=folder,
                env=environment | {"HOME": str(folder), "TMPDIR": str(folder), "TORCHINDUCTOR_COMPILE_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs.fileno(), self._arena_fd),
                start_new_session=True,
                preexec_fn=_limits(memory_bytes),
            )
        theirs.close()
        self._buffer = b""
        self._stopped = False
        self._dice = random.Random()

    @property
    def pid(self) -> int:
        return self._process.pid

    def load(
        self, file: Path, names: Sequence[str], arguments: str, seed: int, threads: int, state: Mapping[str, Tensor], compiled: bool = False
    ) -> None:
        """Send what it is to load, without waiting for it.  `loaded` is next."""
        places, begun = {}, 0
        for name, tensor in state.items():
            places[name], begun = self._put(tensor, begun)
        made = {"arguments": arguments, "seed": seed, "threads": threads, "state": places, "compiled": compiled}
        self._ask({"do": "load", "file": str(file), "names": list(names), **made})

    def loaded(self) -> None:
        """Raises Refused."""
        self._answer(LOAD_SECONDS, "cannot-load")
        self._stop()

    def turn(self, calls: Sequence[Sequence[object]], patience: float = BLOCK_SECONDS) -> Turn:
        """One block: every call once.  Raises Refused, also after so many seconds."""
        self._continue()
        tensors: list[tuple[dict[str, object], Tensor]] = []
        begun, laid = 0, []
        for call in calls:
            words: list[object] = []
            for each in call:
                if not isinstance(each, Tensor):
                    words.append(each)
                    continue
                place, begun = self._place(each, begun)
                tensors.append((place, each))
                words.append(place)
            laid.append(words)
        self._ask({"do": "ready", "calls": laid})
        self._answer(BLOCK_SECONDS, "raises")
        self._stop()
        for place, tensor in tensors:
            self._write(place, tensor)
        before = self._cpu()
        self._wire.send(GO)
        start = time.perf_counter()
        self._continue()
        answer = self._line(patience)
        self._stop()
        seconds = time.perf_counter() - start
        cores = (self._cpu() - before) / seconds
        found = self._read_answer(answer, "raises")
        return Turn(seconds, cores, _outs(found, len(calls)))

    def read(self, out: Out) -> Tensor:
        """A copy of an output, from its memory, while it is stopped.  Raises Refused where there is no such memory."""
        assert self._stopped
        if not out.nbytes:
            return torch.empty(out.shape, dtype=out.dtype)
        raw = torch.empty(out.nbytes, dtype=torch.uint8)
        if _read(self.pid, out.address, raw.data_ptr(), out.nbytes) != out.nbytes:
            raise Refused("no-such-memory", "an output lies where the process has no memory")
        return raw.view(out.dtype).as_strided(out.shape, out.strides).clone()

    def helpers(self) -> list[int]:
        """Processes that it has started and that are still there."""
        return [each.pid for each in psutil.Process(self.pid).children(recursive=True)]

    def close(self) -> None:
        if self._arena_fd < 0:
            return
        if self._process.returncode is None:
            for pid in (*self.helpers(), self.pid):
                os.kill(pid, signal.SIGKILL)
            self._process.wait()
        self._wire.close()
        os.close(self._arena_fd)
        self._arena_fd = -1

    # --- the arena -----------------------------------------------------------------------------------------------------------------

    def _place(self, tensor: Tensor, begun: int) -> tuple[dict[str, object], int]:
        at = begun + ALIGNMENT * self._dice.randrange(SHUFFLED // ALIGNMENT)
        nbytes = tensor.numel() * tensor.element_size()
        if at + nbytes > ARENA_BYTES:
            raise Refused("too-large", f"inputs of one call of more than {ARENA_BYTES >> 20} MiB do not fit; make the problem smaller")
        place = {"at": at, "nbytes": nbytes, "shape": list(tensor.shape), "dtype": str(tensor.dtype)[6:]}
        return place, at + nbytes + (-(at + nbytes)) % ALIGNMENT

    def _put(self, tensor: Tensor, begun: int) -> tuple[dict[str, object], int]:
        place, end = self._place(tensor, begun)
        self._write(place, tensor)
        return place, end

    def _write(self, place: Mapping[str, object], tensor: Tensor) -> None:
        at, nbytes = int(str(place["at"])), int(str(place["nbytes"]))
        self._arena[at : at + nbytes].view(tensor.dtype).copy_(tensor.detach().contiguous().view(-1))

    # --- turns ---------------------------------------------------------------------------------------------------------------------

    def _cpu(self) -> float:
        return time.clock_gettime((~self.pid << 3) | 2)  # the CPU time of a process, as clock_getcpuclockid(3) makes its name

    def _continue(self) -> None:
        os.kill(self.pid, signal.SIGCONT)
        self._stopped = False

    def _stop(self) -> None:
        """Until every thread is stopped.  Raises Refused where the process is gone."""
        os.kill(self.pid, signal.SIGSTOP)
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            self._ended(status)
        self._stopped = True

    def _ended(self, status: int) -> None:
        self._process.returncode = code = os.waitstatus_to_exitcode(status)
        why = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        raise Refused("died", f"its process ended: {why}{self._last_words()}")

    def _last_words(self) -> str:
        text = self.said.read_bytes()[-2000:].decode(errors="replace").strip().splitlines()
        return f"; {text[-1]}" if text else ""

    # --- words ---------------------------------------------------------------------------------------------------------------------

    def _ask(self, words: Mapping[str, object]) -> None:
        try:
            self._wire.sendall(json.dumps(words).encode() + b"\n")
        except OSError:
            self._gone()

    def _answer(self, seconds: float, code: str) -> Mapping[str, object]:
        return self._read_answer(self._line(seconds), code)

    def _read_answer(self, line: bytes, code: str) -> Mapping[str, object]:
        try:
            found = json.loads(line)
            assert isinstance(found, dict)
        except (ValueError, AssertionError):
            raise Refused("speaks-out-of-turn", "it wrote to the referee's line") from None
        if "raised" in found:
            raise Refused(code, str(found["raised"])[:500])
        return found

    def _line(self, seconds: float) -> bytes:
        """Its next line.  Raises Refused where none comes."""
        end = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            if not select.select([self._wire], [], [], max(0.0, end - time.monotonic()))[0]:
                raise Refused("too-slow", f"no answer within {seconds:.0f} s")
            try:
                more = self._wire.recv(2**16)
            except OSError:
                more = b""
            if not more:
                self._gone()
            self._buffer += more
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _gone(self) -> None:
        _, status = os.waitpid(self.pid, 0)
        self._ended(status)


def _limits(memory_bytes: int) -> "Callable[[], None] | None":
    return (lambda: resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))) if memory_bytes else None


def _outs(found: Mapping[str, object], calls: int) -> tuple[tuple[Out, ...], ...]:
    """Raises Refused for an answer that a candidate has made up, as far as it can be seen."""
    try:
        outs = tuple(tuple(map(_out, call)) for call in found["outputs"])  # type: ignore[attr-defined]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Refused("speaks-out-of-turn", "it answered in the place of its process") from None
    if len(outs) != calls:
        raise Refused("speaks-out-of-turn", f"it answered for {len(outs)} calls of {calls}")
    return outs


def _out(words: Sequence[object]) -> Out:
    """Raises Refused for what is no plain tensor."""
    kind, dtype, shape, strides, address = words
    if kind not in ("Tensor", "Parameter"):
        raise Refused("not-a-plain-tensor", f"an output is a {kind}; return a torch.Tensor")
    return Out(getattr(torch, str(dtype)), tuple(shape), tuple(strides), int(str(address)))  # type: ignore[arg-type]


class _Span(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def _read(pid: int, address: int, into: int, nbytes: int) -> int:
    """process_vm_readv(2): how many bytes came."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.process_vm_readv.restype = ctypes.c_ssize_t
    done = 0
    while done < nbytes:
        here, there = _Span(into + done, nbytes - done), _Span(address + done, nbytes - done)
        got = int(libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0))
        if got <= 0:
            return done
        done += got
    return done
