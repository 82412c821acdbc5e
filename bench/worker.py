"""The worker process: the session of a run, or of a regression check, behind a socket.

Its own faults go back as messages; what kills it, the parent sees and records.
Run by the parent as  python -m layerbench.bench.worker SOCKET PLACE PARENT, two descriptors and its process id; not meant to be typed.
"""

import contextlib
import os
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from .declare.mistake import DeviceLost, Mistake
from .machine import limits
from .process.check_messages import DescribeSides
from .process.protocol import Answer, Broken, Lost, Place, Refused, Request, receive_request, send

if TYPE_CHECKING:
    from .cell.session import Session
    from .check.side.session import Sides


def serve(connection: Connection, place: Place) -> None:
    """Answer requests until the parent closes its end."""
    session: Session | Sides | None = None
    while True:
        try:
            request = receive_request(connection)
        except EOFError:
            if session:
                session.close()
            return
        try:
            session = session or _session(request, place)
            answer: Answer = session.answer(request)
        except Mistake as mistake:
            answer = Refused(str(mistake))
        except DeviceLost as lost:
            where = place.read()
            answer = Lost(where.stage, where.variant, str(lost))
        except Exception:  # noqa: BLE001  a fault of ours must reach the parent as words, not as a vanished process
            where = place.read()
            answer = Broken(where.stage, where.variant, traceback.format_exc())
        place.write("idle")
        send(connection, answer)


def _session(first: Request, place: Place) -> "Session | Sides":
    from .cell.session import Session
    from .check.side.session import Sides

    return Sides(place.write) if isinstance(first, DescribeSides) else Session(place.write)


def main() -> None:
    socket, place, parent = map(int, sys.argv[1:])
    limits.end_with_parent(parent)  # before torch is imported, which takes seconds: hence the imports inside functions
    import torch

    if not torch.accelerator.is_available():  # its driver reserves what it never fills
        limits.limit_memory()
    sys.path.append(str(Path.cwd()))  # the user's own packages are found, after everything that is installed
    with contextlib.suppress(BrokenPipeError):  # the parent has gone: nobody is left to tell
        serve(Connection(socket), Place(place))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # nothing is left to do, and to take torch apart takes a second


if __name__ == "__main__":
    main()
