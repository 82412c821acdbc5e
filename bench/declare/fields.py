"""What was written into a field of a declaration, in words, and checks that any field may need.  Which takes what, `declare` says."""

import inspect
import math
import re
from collections.abc import Callable, Mapping

from .mistake import Mistake

NAME = re.compile(r"[a-z](?:[a-z0-9_]*[a-z0-9])?")
DIMENSION = re.compile(r"[a-z](?:[a-z0-9_]*[a-z])?")  # no digit last: `k3` with the value 5 would read `k35` in an id
TAKEN = ("and", "or", "not")  # words of -k, which could then not select it
LONGEST = 80  # characters of a value that are shown


def shown(value: object) -> str:
    """A value in a few words: never the numbers of a tensor, and never more than a line."""
    if _is_tensor(value):
        return f"a {type(value).__name__} of shape {tuple(value.shape)}"  # type: ignore[attr-defined]  # it has one
    if isinstance(value, list | tuple | dict):
        parts = list(value.values() if isinstance(value, dict) else value)
        if any(_is_tensor(part) or is_module(part) for part in parts):
            return f"a {type(value).__name__} of {shown(parts[0])}" + (f" and {len(parts) - 1} more" if parts[1:] else "")
    if is_module(value):
        return f"a {type(value).__name__} that is made already"
    if inspect.isfunction(value) or inspect.isbuiltin(value):
        return f"the function {value.__name__}"
    try:
        text = " ".join(repr(value).split())
    except Exception:  # noqa: BLE001  how it is printed is the user's code as well
        return f"a {type(value).__name__}"
    return text if len(text) <= LONGEST else f"a {type(value).__name__}: {text[:LONGEST]}..."


def _is_tensor(value: object) -> bool:
    """Whether this is a tensor or an array and no class of them; told without torch."""
    return not isinstance(value, type) and hasattr(value, "shape") and hasattr(value, "dtype")


def is_module(value: object) -> bool:
    """Whether this is an nn.Module and no class of them; told without torch."""
    return not isinstance(value, type) and callable(value) and hasattr(value, "named_parameters")


def is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def is_number(value: object) -> bool:
    """Whether this is a finite number that is no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_name(what: str, name: object, form: re.Pattern[str]) -> None:
    if not isinstance(name, str) or not form.fullmatch(name):
        last = "a letter" if form is DIMENSION else "a letter or a digit"
        raise Mistake(f"{what} name {shown(name)}: write lower-case letters, digits and underscores, a letter first and {last} last")
    if name in TAKEN:
        raise Mistake(f"{what} name {name!r}: -k has its own meaning for it; choose another")


def takes(function: Callable[..., object], *arguments: str) -> bool:
    """Whether a function can be called with so many arguments; yes where nobody can know."""
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # written in C
        return True
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def parameters(function: Callable[..., object]) -> str:
    return str(inspect.signature(function))


def check_flags(layer: str, sweep: Mapping[str, object], **flags: object) -> None:
    """Raises Mistake where one is neither True nor False, or asks for rows where there are none."""
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise Mistake(f"layer {layer!r}: {name} is {shown(value)}; write True or False")
    if flags["batch_invariant"] and "batch" not in sweep:
        raise Mistake(f'layer {layer!r}: batch_invariant is True; name the dimension of the rows "batch" in the sweep, or remove it')
