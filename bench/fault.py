"""An exception of somebody's layer as one short line for a record.  Tracebacks belong in the worker's log, not here."""

from .compiling import CompiledNothing
from .mistake import Mistake
from .verify import Mismatch


def in_words(error: BaseException) -> str:
    text = str(error).strip().partition("\n")[0][:400]
    if isinstance(error, Mismatch | Mistake | CompiledNothing):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
