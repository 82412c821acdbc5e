"""What keeps a candidate's process from the rest of the machine, as far as this system gives it; and what that is in words."""

import shutil
import subprocess
from functools import cache

NAMESPACES = ("--user", "--map-root-user", "--net", "--ipc")  # of unshare(1)


@cache
def wrapper() -> tuple[str, ...]:
    """Words that go before a command; none where the system gives nothing."""
    program = shutil.which("unshare")
    if not program:
        return ()
    words = (program, *NAMESPACES)
    tried = subprocess.run([*words, "true"], capture_output=True, check=False)
    return words if tried.returncode == 0 else ()


def words() -> str:
    own = "a process of its own, few environment variables, stopped when it is not its turn"
    return (
        f"{own}, no network (namespaces by unshare)" if wrapper() else f"{own}; the network is open, since unshare gives no namespaces here"
    )
