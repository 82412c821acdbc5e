"""Processes for tests that begin as a copy of one which has torch imported: a fork, in place of seconds of imports.

A server is a fresh Python with torch, our modules and one thread.  It forks twice: the first child ends, and the second becomes a child of
whoever asked, since the system gives an orphan to the nearest ancestor that wants them (PR_SET_CHILD_SUBREAPER).  So the parent, the exit
code, signals, the process group, descriptors, the folder and the environment are those of a process that was really started.  What differs
is what /proc shows as its command line, and what is imported already.  A command that was forked has a server of its own, for its workers.

`Popen` is the real one on other systems, for other programs, and where the environment has REAL_START.
"""

import atexit
import contextlib
import ctypes
import fcntl
import gc
import json
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

REAL_START = "LAYERBENCH_TESTS_REAL_START"
MODULES = ("layerbench.bench", "layerbench.bench.worker", "pytest")
READ_AT_IMPORT = ("OMP_", "MKL_", "LD_", "PYTHON", "TRITON_INTERPRET", "CUDA_")  # a server has these as it was started
PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
TESTS = Path(__file__).parent
START = f"import sys; sys.path.insert(0, {str(TESTS)!r}); import forked; del sys.path[0]; forked.main(int(sys.argv[1]))"
FIRST, LAST = 500, 1000  # descriptors from here on are free

Key = tuple[tuple[str, str], ...]
REAL = subprocess.Popen


class Server:
    """The asker's end of a server."""

    def __init__(self, end: socket.socket) -> None:
        self._end, self._lock = end, threading.Lock()

    def ask(self, order: Mapping[str, Any], descriptors: Sequence[int]) -> int:
        """The id of a new process, a child of this one."""
        with self._lock:
            socket.send_fds(self._end, [json.dumps(order).encode()], descriptors)
            answer = self._end.recv(100)
        if not answer:
            raise RuntimeError("the server of forked processes has ended")
        return int(answer)

    def close(self) -> None:
        self._end.close()


servers: dict[Key, Server] = {}
may_start = True  # not in a forked process: what its own server cannot do is really started


def key(environment: Mapping[str, str]) -> Key:
    return tuple(sorted((name, value) for name, value in environment.items() if name.startswith(READ_AT_IMPORT)))


def server(environment: Mapping[str, str]) -> Server | None:
    wanted = key(environment)
    if wanted not in servers and may_start:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        others = {name: value for name, value in os.environ.items() if not name.startswith(READ_AT_IMPORT)}
        process = REAL(
            [sys.executable, "-P", "-c", START, str(theirs.fileno())],
            env={**others, **dict(wanted), "KINETO_LOG_LEVEL": "6"},  # as workers have it
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            process_group=0,
        )
        theirs.close()
        servers[wanted] = Server(ours)
        atexit.register(lambda: (ours.close(), process.wait()))
    return servers.get(wanted)


class Popen(subprocess.Popen):  # type: ignore[type-arg]
    def _execute_child(self, args: Any, *rest: Any) -> None:
        (_, _, _, pass_fds, cwd, env, _, _, _), pipes, group = rest[:9], rest[9:15], rest[-1]
        environment = {os.fsdecode(name): os.fsdecode(value) for name, value in (os.environ if env is None else env).items()}
        words = [os.fsdecode(word) for word in args] if isinstance(args, list | tuple) else []
        found = server(environment) if is_ours(words) and REAL_START not in environment and sys.platform == "linux" else None
        if not found:
            super()._execute_child(args, *rest)  # type: ignore[misc]
            return
        streams = [end if end != -1 else number for number, end in enumerate((pipes[0], pipes[3], pipes[5]))]
        order = {
            "words": words,
            "environment": environment,
            "cwd": os.fsdecode(cwd or os.getcwd()),  # noqa: PTH109
            "group": group,
            "descriptors": [0, 1, 2, *pass_fds],
        }
        self.pid = found.ask(order, [*streams, *pass_fds])
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def is_ours(words: list[str]) -> bool:
    if words[:1] != [sys.executable]:
        return False
    rest = [word for word in words[1:] if word != "-P"]
    return (rest[:1] == ["-m"] and rest[1] in MODULES) or (bool(rest) and Path(rest[0]).parent == TESTS)


# --- in a server ---------------------------------------------------------------------------------------------------------------------


def main(descriptor: int) -> None:
    """A server that was just started."""
    import pytest  # noqa: F401
    import torch._dynamo
    import torch._inductor.compile_fx
    import torch.distributed
    import torch.onnx  # noqa: F401

    import layerbench.bench.cell.session
    import layerbench.bench.check.command
    import layerbench.bench.check.side.session
    import layerbench.bench.cli.commands  # noqa: F401

    serve(socket.socket(fileno=descriptor))


def serve(asker: socket.socket) -> None:
    """Answer until the asker is gone."""
    gc.collect()
    gc.freeze()  # or a child's first collection would copy every page
    while True:
        text, received, _, _ = socket.recv_fds(asker, 1 << 20, 64)
        if not text:
            os._exit(0)
        order = json.loads(text)
        ready, tell = os.pipe()
        middle = os.fork()
        if not middle:
            middle = os.getpid()
            if os.fork():
                os._exit(0)
            begin(order, received, middle, tell)
        os.waitpid(middle, 0)
        os.close(tell)
        pid = os.read(ready, 100)
        for each in (ready, *received):
            os.close(each)
        asker.send(pid)


def begin(order: dict[str, Any], received: list[int], middle: int, tell: int) -> NoReturn:
    """Be the process that was asked for."""
    while os.getppid() == middle:
        time.sleep(0.0005)
    if order["group"] != -1:
        os.setpgid(0, order["group"])
    os.write(tell, str(os.getpid()).encode())
    copies = [fcntl.fcntl(each, fcntl.F_DUPFD, FIRST) for each in received]
    os.closerange(3, FIRST)
    for copy, number in zip(copies, order["descriptors"], strict=True):
        os.dup2(copy, number)
    os.closerange(FIRST, LAST)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["cwd"])
    tempfile.tempdir = None  # it is read off TMPDIR once
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        before = getattr(sys, name)
        stream = open(number, mode, encoding=before.encoding, errors=before.errors, closefd=False)  # noqa: SIM115
        stream.reconfigure(line_buffering=name == "stderr" or stream.isatty())
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    own = None if "layerbench.bench.worker" in order["words"] else own_server()
    code = run(order["words"])
    if own:
        servers.clear()
        own[1].close()
        os.waitpid(own[0], 0)
    os._exit(code)


def own_server() -> tuple[int, Server]:
    """A server for the workers of this process, which has one thread as yet."""
    global may_start
    may_start = False
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if not pid:
        os.setpgid(0, 0)
        ours.close()
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in range(3):  # or who reads what the command says would wait for this process too
            os.dup2(nothing, number)
        serve(theirs)
    theirs.close()
    servers.clear()
    made = servers[key(os.environ)] = Server(ours)
    subprocess.Popen = Popen  # type: ignore[misc]
    return pid, made


def run(words: list[str]) -> int:
    """Run a program as Python's command line does; its exit code."""
    alone, rest = "-P" in words[:2], [word for number, word in enumerate(words) if number and not (number == 1 and word == "-P")]
    sys.orig_argv = words
    try:
        if rest[0] == "-m":
            sys.argv = rest[1:]
            sys.path[:0] = [] if alone else [os.getcwd()]  # noqa: PTH109
            runpy.run_module(rest[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = rest
            sys.path[:0] = [] if alone else [str(Path(rest[0]).resolve().parent)]
            runpy.run_path(rest[0], run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001  as Python itself does at the end
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    return code & 0xFF
