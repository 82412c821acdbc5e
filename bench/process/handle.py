"""The parent's handle on a worker process: start, ask, notice that it died or hangs, start again.  No torch in this process."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from socket import socketpair

from ..data.record import LayerFacts
from ..declare.mistake import Mistake
from ..suite import identity
from .protocol import Answer, Broken, Describe, Described, First, Lost, Measure, Place, Prove, Refused, Request, receive_answer, send

INTERPRETER = {"TRITON_INTERPRET": "1"}  # must be set before triton is imported, hence a process of its own
HANG_SECONDS = 300.0  # a stage of a variant that does not move for so long is taken to hang, unless --hang-limit says otherwise
STARTUP_SECONDS = 60.0  # to import a suite or start the compiler may always take so long
DIED, HUNG = "the worker process died", "no sign of life"  # how the reasons of a death and of a hang begin
LAST_WORDS = 2000  # bytes of a worker's output that are kept


class WorkerDied(Exception):
    """The worker is gone.  Carries where it was and why it ended."""

    def __init__(self, stage: str, variant: str, reason: str) -> None:
        super().__init__(reason)
        self.stage, self.variant, self.reason = stage, variant, reason


class WorkerBroke(WorkerDied):
    """By a fault of layerbench, not of the suite."""


class Worker:
    """A worker process.  It is started at its first request, and started again after a death."""

    def __init__(self, first: First, environment: Mapping[str, str], hang_seconds: float = HANG_SECONDS) -> None:
        """first: what every new process is asked before all else, so that it knows its suite."""
        self._first = first
        self._environment = {**os.environ, "KINETO_LOG_LEVEL": "6", **environment}
        self.hang_seconds = hang_seconds
        self.on_wait: Callable[[str, str], None] = lambda stage, variant: None  # called while it works, with where it is
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting = False
        self._mounted: tuple[LayerFacts, ...] = ()  # as the first process found them, and
        self._now: tuple[LayerFacts, ...] = ()  # as this one did
        self._connection: Connection
        self._place: Place
        self._output: Output

    def describe(self) -> Described:
        """The suite's layers and this machine.  Raises Mistake where the suite cannot be mounted."""
        answer = self.restart()
        assert isinstance(answer, Described)
        self._remember(answer)
        return answer

    def restart(self) -> Answer:
        """A fresh process, and its answer to the first request.  Raises Mistake where the suite cannot be mounted."""
        self.launch()
        return self.greet()

    def launch(self) -> None:
        """Start a fresh process without waiting for it, so that several can start side by side; `greet` is next.

        Not to be called in a thread that ends: the process would end with it.
        """
        self.close()
        self._spawn()
        with contextlib.suppress(ConnectionError):  # it is gone already, as greet will see
            send(self._connection, self._first)

    def greet(self) -> Answer:
        """The answer to the first request of a process that was launched.  Raises Mistake where the suite cannot be mounted."""
        try:
            return self._receive()
        except WorkerDied as death:
            suites = self._first.suite if isinstance(self._first, Describe) else " and ".join(self._first.suites.values())
            raise Mistake(f"--suite {suites}: importing it ended the process: {death.reason}; fix it, or name another --suite") from death

    def answer(self, request: Request) -> Answer:
        """Raises WorkerDied, after which the next request starts a new worker; Mistake for what the user can fix."""
        if self._process is None:
            self._spawn()
            self._remember(self._ask(self._first))
        layer = request.point.layer if isinstance(request, Measure) else request.layer if isinstance(request, Prove) else ""
        if words := identity.edited(self._mounted, self._now, {layer}):
            raise Mistake(f"{words}, while it was being measured; undo that change")
        return self._ask(request)

    def _remember(self, answer: Answer) -> None:
        """A process that is started again mounts the suite as it is by then."""
        if isinstance(answer, Described):
            self._now = answer.layers
            self._mounted = self._mounted or answer.layers

    def close(self) -> None:
        """End the process, and whatever it started itself."""
        if self._process is None:
            return
        self._connection.close()
        if self._waiting:  # it works on an answer that nobody will read
            self._process.kill()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left in its group
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process = None
        self._place.close()
        self._output.close()

    def _spawn(self) -> None:
        ours, theirs = socketpair()
        self._place, self._output = Place(), Output()
        numbers = (theirs.fileno(), self._place.descriptor, os.getpid())
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "layerbench.bench.worker", *map(str, numbers)],
            stdin=subprocess.DEVNULL,
            stdout=self._output.pipe,
            stderr=self._output.pipe,
            env=self._environment,
            pass_fds=numbers[:2],
            process_group=0,  # Ctrl-C is the parent's to handle
        )
        theirs.close()
        self._output.drain()
        self._connection = Connection(ours.detach())

    def _ask(self, request: Request) -> Answer:
        self._output.forget()
        with contextlib.suppress(ConnectionError):  # it is gone, as _receive will see
            send(self._connection, request)
        return self._receive()

    def _receive(self) -> Answer:
        self._waiting = True
        try:
            while not self._connection.poll(0.2):
                where = self._place.read()
                self.on_wait(where.stage, where.variant)
                if self._process is not None and self._process.poll() is not None and not self._connection.poll():
                    self._end("")  # a child that it left holds the other end of the socket
                limit = self.hang_seconds if where.variant else max(self.hang_seconds, STARTUP_SECONDS)
                if time.monotonic() - where.since > limit:
                    self._end(f"{HUNG} for {limit:.0f} s; the worker was ended")
            answer = receive_answer(self._connection)
            self._waiting = False
        except (EOFError, ConnectionError):
            self._end("")
        if isinstance(answer, Refused):
            raise Mistake(answer.sentence)
        if isinstance(answer, Lost):
            self.close()
            raise WorkerDied(answer.stage, answer.variant, f"{DIED}: {answer.reason}")
        if isinstance(answer, Broken):
            self.close()
            print(answer.traceback, file=sys.stderr)
            raise WorkerBroke(
                answer.stage, answer.variant, f"a fault of layerbench itself, please report it: {answer.traceback.splitlines()[-1]}"
            )
        return answer

    def _end(self, reason: str) -> None:
        """Put an end to the process and raise WorkerDied."""
        assert self._process is not None
        where = self._place.read()
        try:
            how = _exit_in_words(self._process.wait(0 if reason else 5))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            how = "it closed its connection to layerbench"
        reason = reason or f"{DIED}: {how}{self._output.last_line()}"
        self.close()
        raise WorkerDied(where.stage, where.variant, reason)


class Output:
    """What a worker prints, on a pipe that a thread empties: a layer may print without end, and only the last words are kept."""

    def __init__(self) -> None:
        self._read, self.pipe = os.pipe()
        self._kept: deque[int] = deque(maxlen=LAST_WORDS)
        self._thread = threading.Thread(target=self._empty, daemon=True)

    def drain(self) -> None:
        """To be called when the worker has its own copy of the pipe: ours is closed, so that the pipe ends with the worker."""
        os.close(self.pipe)
        self._thread.start()

    def forget(self) -> None:
        """What was said until now has nothing to do with what comes."""
        self._kept.clear()

    def last_line(self) -> str:
        """The last line the process printed, where there is one, as an addition to a sentence."""
        self._thread.join(1)  # the process has ended; what it said last may still be in the pipe
        lines = [line for line in bytes(self._kept).decode(errors="replace").splitlines() if line.strip()]
        return f"; its last line was: {lines[-1].strip()[:200]}" if lines else ""

    def close(self) -> None:
        """To be called when the worker and its children have ended."""
        self._thread.join(1)

    def _empty(self) -> None:
        while text := os.read(self._read, 65536):
            self._kept.extend(text[-LAST_WORDS:])
        os.close(self._read)


def _exit_in_words(code: int) -> str:
    if code == -signal.SIGKILL:
        return "SIGKILL, from outside, as the system sends when memory runs out"
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


@contextlib.contextmanager
def workers(suite: str, threads: int, hang_seconds: float = HANG_SECONDS, tf32: bool = False) -> Iterator[tuple[Worker, Worker]]:
    """The measuring worker and the proving one, both ended on the way out."""
    worker, prover = (Worker(Describe(suite, threads, tf32), environment, hang_seconds) for environment in ({}, INTERPRETER))
    try:
        yield worker, prover
    finally:
        worker.close()
        prover.close()
