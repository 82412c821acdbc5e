"""The parent's handle on a worker process: start, ask, notice that it died or hangs, start again.  No torch in this process."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from socket import socketpair

from .mistake import Mistake
from .protocol import Answer, Broken, Describe, Described, Place, Refused, Request, receive_answer, send

INTERPRETER = {"TRITON_INTERPRET": "1"}  # must be set before triton is imported, hence a process of its own
HANG_SECONDS = 300.0  # a stage that does not move for so long is taken to hang


class WorkerDied(Exception):
    """The worker is gone.  Carries where it was and why it ended."""

    def __init__(self, stage: str, variant: str, reason: str) -> None:
        super().__init__(reason)
        self.stage, self.variant, self.reason = stage, variant, reason


class Worker:
    """A worker process.  It is started at its first request, and started again after a death."""

    def __init__(self, suite: str, threads: int, environment: Mapping[str, str]) -> None:
        self._describe = Describe(suite, threads)
        self._environment = {**os.environ, "KINETO_LOG_LEVEL": "6", **environment}
        self.on_wait: Callable[[str, str], None] = lambda stage, variant: None  # called while it works, with where it is
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection
        self._place: Place

    def describe(self) -> Described:
        """The suite's layers and this machine.  Raises Mistake where the suite cannot be mounted."""
        self.close()
        try:
            answer = self._start()
        except WorkerDied as death:
            raise Mistake(
                f"--suite {self._describe.suite}: importing it ended the process: {death.reason}; mend it, or name another --suite"
            ) from death
        assert isinstance(answer, Described)
        return answer

    def answer(self, request: Request) -> Answer:
        """Raises WorkerDied, after which the next request starts a new worker; Mistake for what the user can mend."""
        if self._process is None:
            self._start()
        return self._ask(request)

    def close(self) -> None:
        if self._process is None:
            return
        self._connection.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        self._place.close()
        self._log.close()

    def _start(self) -> Answer:
        ours, theirs = socketpair()
        self._place = Place()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  held as long as the process
        command = [sys.executable, "-P", "-m", "layerbench.bench.worker", str(theirs.fileno()), self._place.path]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=self._environment,
            pass_fds=[theirs.fileno()],
            process_group=0,  # Ctrl-C is the parent's to handle
        )
        theirs.close()
        self._connection = Connection(ours.detach())
        return self._ask(self._describe)

    def _ask(self, request: Request) -> Answer:
        try:
            send(self._connection, request)
            while not self._connection.poll(0.2):
                where = self._place.read()
                self.on_wait(where.stage, where.variant)
                if time.monotonic() - where.since > HANG_SECONDS:
                    self._end(f"no sign of life for {HANG_SECONDS:.0f} s; the worker was ended")
            answer = receive_answer(self._connection)
        except (EOFError, ConnectionError):
            self._end("")
        if isinstance(answer, Refused):
            raise Mistake(answer.sentence)
        if isinstance(answer, Broken):
            self.close()
            print(answer.traceback, file=sys.stderr)
            raise WorkerDied(
                answer.stage, answer.variant, f"a fault of layerbench itself, please report it: {answer.traceback.splitlines()[-1]}"
            )
        return answer

    def _end(self, reason: str) -> None:
        """Put an end to the process and raise WorkerDied."""
        assert self._process is not None
        where = self._place.read()
        try:
            code = self._process.wait(1 if not reason else 0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        reason = reason or f"the worker process died: {_exit_in_words(code)}{self._last_words()}"
        self.close()
        raise WorkerDied(where.stage, where.variant, reason)

    def _last_words(self) -> str:
        """The last line the process printed, where there is one."""
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - 2000))
        lines = [line for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        return f"; its last line was: {lines[-1].strip()[:200]}" if lines else ""


def _exit_in_words(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


@contextmanager
def workers(suite: str, threads: int) -> Iterator[tuple[Worker, Worker]]:
    """The measuring worker and the proving one, both ended on the way out."""
    worker, prover = Worker(suite, threads, {}), Worker(suite, threads, INTERPRETER)
    try:
        yield worker, prover
    finally:
        worker.close()
        prover.close()
