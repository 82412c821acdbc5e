"""The worker process: a Session behind a socket.  Its own faults go back as messages; what kills it, the parent sees and records.

Run by the parent as  python -m layerbench.bench.worker SOCKET PLACE PARENT, two descriptors and its process id; not meant to be typed.
"""

import contextlib
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

from . import limits
from .mistake import Mistake
from .protocol import Broken, Place, Refused, receive_request, send


def serve(connection: Connection, place: Place) -> None:
    """Answer requests until the parent closes its end."""
    from .session import Session

    session = Session(place.write)
    while True:
        try:
            request = receive_request(connection)
        except EOFError:
            session.close()
            return
        try:
            answer = session.answer(request)
        except Mistake as mistake:
            answer = Refused(str(mistake))
        except Exception:  # noqa: BLE001  a fault of ours must reach the parent as words, not as a vanished process
            where = place.read()
            answer = Broken(where.stage, where.variant, traceback.format_exc())
        place.write("idle")
        send(connection, answer)


def main() -> None:
    socket, place, parent = map(int, sys.argv[1:])
    limits.end_with_parent(parent)  # before torch is imported, which takes seconds: hence the imports inside functions
    import torch

    if not torch.accelerator.is_available():  # its driver reserves what it never fills
        limits.limit_memory()
    sys.path.append(str(Path.cwd()))  # the user's own packages are found, after everything that is installed
    with contextlib.suppress(BrokenPipeError):  # the parent has gone: nobody is left to tell
        serve(Connection(socket), Place(place))


if __name__ == "__main__":
    main()
