"""The journal of a running run: what was asked for, then every finished point.  It stays on disk if the run is killed.

A line is one point, whole: a point is finished when its line was synced, and a last line that was cut short counts as not written.
"""

import fcntl
import os
from io import FileIO
from pathlib import Path

import msgspec
from msgspec import Struct

from ..data.record import SCHEMA, Record, Run
from ..declare.mistake import Mistake
from ..plan.planning import Selection, Task
from ..storage.output import folder, guarded
from ..text import invocation


class Order(Struct, frozen=True):
    """What the user asked for: enough to do it again."""

    suite: str
    selection: Selection
    threads: int
    budget_seconds: float
    hang_seconds: float
    tf32: bool = False
    interleaved: bool = True
    graph: str = "auto"
    energy: bool = False


class Begun(Struct, frozen=True):
    """The first line: the run without records, how it was asked for, and its points with their variants.

    again: the points themselves where they are those of an earlier run, and no selection's.
    """

    run: Run
    order: Order
    tasks: tuple[str, ...]
    again: tuple[Task, ...] = ()


class Entry(Struct, frozen=True):
    """A finished point, the seconds that the run had taken by then, and those of this point by stage."""

    seconds: float
    records: tuple[Record, ...]
    stages: dict[str, float] = {}


class Journal:
    """Appends; removed when the run file is whole.  Held by one process at a time."""

    def __init__(self, path: Path, begun: Begun | None, keep_bytes: int = 0) -> None:
        """A new one with its first line; without one, an old one that is taken up after its first `keep_bytes`.

        Raises Mistake where the folder cannot be written, before anything is measured, or where another process holds it.
        """
        self.path = path
        self._file = guarded(lambda: self._open(path), path.parent)
        try:
            self._hold()
            if begun:
                self._write(begun)
            else:
                guarded(lambda: self._file.truncate(keep_bytes), path.parent)
        except Mistake:
            self._file.close()
            raise

    @staticmethod
    def _open(path: Path) -> FileIO:
        folder(path.parent)
        return path.open("ab", buffering=0)

    def _hold(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Mistake(f"{self.path}: its run is still going on; wait for its end, or press Ctrl-C there first") from None

    def append(self, entry: Entry) -> None:
        """Raises Mistake where it cannot be written, as on a full disk."""
        self._write(entry)

    def _write(self, line: Begun | Entry) -> None:
        text = msgspec.json.encode(line) + b"\n"
        guarded(lambda: self._put(text), self.path.parent)

    def _put(self, text: bytes) -> None:
        while text:
            text = text[self._file.write(text) :]  # a disk that fills up takes a part first, then refuses the rest
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.close()


def read(path: Path) -> tuple[Begun, list[Entry], int]:
    """The first line, the finished points, and how many bytes they take; a torn last line is left out.  Raises Mistake."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise Mistake(f"cannot read {path}: {error.strerror}; give the path of a journal, as results/NAME.journal") from error
    whole = text[: text.rfind(b"\n") + 1]
    first, *rest = whole.splitlines() or [b""]
    if not first:
        raise Mistake(
            f"{path}: it ends before its first line does, so nothing was finished; type  {invocation.command()} run  to start a new run"
        )
    try:
        begun = msgspec.json.decode(first, type=Begun)
        entries = [msgspec.json.decode(line, type=Entry) for line in rest]
    except msgspec.DecodeError as error:
        raise Mistake(f"{path}: not a journal of this layerbench: {error}; type  {invocation.command()} run  to start a new run") from error
    if begun.run.schema > SCHEMA:
        raise Mistake(f"{path}: its schema is {begun.run.schema}, this layerbench writes {SCHEMA}; {invocation.NEWER}")
    return begun, entries, len(whole)


def newest(folder: Path) -> Path:
    """The journal written last in a folder.  Raises Mistake where there is none."""
    files = sorted(folder.glob("*.journal"), key=lambda path: path.stat().st_mtime)
    if not files:
        raise Mistake(
            f"--resume: no journal in {folder}/, so no run was left unfinished there; type  {invocation.command()} run  to begin one"
        )
    return files[-1]
