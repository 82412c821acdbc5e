"""Is another run of layerbench measuring on the same device of this machine?  Found by a lock file for each device; nobody is held up."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path


class Lock:
    """Files that are open, one per device, each with a shared lock for as long as a run goes on."""

    def __init__(self, files: dict[str, int]) -> None:
        self._files = files

    def busy(self) -> list[str]:
        """Devices on which another run holds its lock too."""
        return [device for device, file in self._files.items() if not _alone(file)]


@contextlib.contextmanager
def held(devices: Iterable[str]) -> Iterator[Lock]:
    files: dict[str, int] = {}
    for device in devices:
        with contextlib.suppress(OSError):  # a folder that cannot be written: then nothing is known, and the run goes on
            files[device] = _open(Path(tempfile.gettempdir()) / f"layerbench-{device}.lock")
            fcntl.flock(files[device], fcntl.LOCK_SH)
    try:
        yield Lock(files)
    finally:
        for file in files.values():
            os.close(file)


def in_words(devices: Iterable[str]) -> str:
    return f"another run of layerbench was going on, on {' and '.join(devices)}: the times of both may be worse than they need be"


def _open(path: Path) -> int:
    """Open for reading, which is enough to lock; whoever comes first makes it, for every user."""
    flags = os.O_RDONLY | os.O_NOFOLLOW
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        return os.open(path, flags | os.O_CREAT, 0o644)


def _alone(file: int) -> bool:
    """Whether the lock could be had for oneself; it is shared again afterwards."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        fcntl.flock(file, fcntl.LOCK_SH)
    return True
