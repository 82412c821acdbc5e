"""Other runs and checks of layerbench that measure on the same devices meanwhile: looked for whenever a check says what it does."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from ..machine import lock

Say = Callable[[str], None]


@contextmanager
def noticed(devices: Iterable[str], say: Say) -> Iterator[tuple[Say, set[str]]]:
    """What to say things with from now on, and the devices on which somebody else was seen.  The others see this check, too."""
    seen: set[str] = set()
    with lock.held(sorted(set(devices))) as held:

        def looking(what: str) -> None:
            seen.update(held.busy())
            say(what)

        yield looking, seen
        seen.update(held.busy())


def note(seen: Iterable[str]) -> str:
    """In words; "" where nobody was seen."""
    devices = sorted(seen)
    return lock.in_words(devices) if devices else ""
