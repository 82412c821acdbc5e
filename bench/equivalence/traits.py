"""What a layer does beside its numbers: random numbers it takes, memory it shares, hooks it calls, what it changes around itself."""

import gc
import logging
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import torch
from torch import Tensor

from ..subject import make, randomness, states
from .kinds import Trait, Words
from .tolerance import Mismatch
from .use import LeftOut, NotHere, Use, back, device_of

PRINTED = torch._tensor_str.PRINT_OPTS
UNUSUAL = 9  # digits, which nobody sets


# --- random numbers ------------------------------------------------------------------------------------------------------------------


def random_numbers(use: Use) -> Words:
    """Does it draw?  Raises Mismatch where it seeds a generator: then what the program draws after it depends on it."""
    subject = use.subject()
    back(subject, subject.forward())  # what a first call sets up is no concern here
    before, after = [], []
    for start in (use.seed + 1, use.seed + 2, use.seed + 2):
        _seed(start)
        before.append(_generators(use))
        subject.clear_gradients()
        back(subject, subject.forward())
        after.append(_generators(use))
    drawn = [name for name in before[0] if any(now[name] != then[name] for now, then in zip(after, before, strict=True))]
    for name in drawn:
        if after[0][name] == after[1][name] or after[1][name] != after[2][name]:
            raise Mismatch(
                f"it seeds {name}, which is not its own: what a program draws after it is no longer random; use a torch.Generator"
            )
    return {name: "drawn" if name in drawn else "not drawn" for name in before[0]}


def _seed(start: int) -> None:
    randomness.seed(start)
    random.seed(start)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(start)


def _generators(use: Use) -> dict[str, object]:
    """The states of the generators that a program shares, by name."""
    found: dict[str, object] = {"torch's generator": bytes(torch.get_rng_state().numpy())}
    device = device_of(use)
    if device not in ("cpu", "mps"):
        found[f"torch's generator of {device}"] = bytes(torch.get_device_module(device).get_rng_state().numpy())
    found["Python's generator"] = random.getstate()
    if "numpy" in sys.modules:
        _, words, *place = sys.modules["numpy"].random.get_state()
        found["numpy's generator"] = words.tobytes(), place
    return found


# --- memory --------------------------------------------------------------------------------------------------------------------------


def shared_memory(use: Use) -> Words:
    """Whose memory each output lies in, as the layer is and in eval(); and whether its own numbers lie over one another."""
    plain = _memory_of_outputs(use, use.module())
    in_eval = _memory_of_outputs(use, use.module().eval())
    return {name: where if in_eval.get(name, where) == where else f"{where}, in eval() {in_eval[name]}" for name, where in plain.items()}


def _memory_of_outputs(use: Use, module: torch.nn.Module) -> dict[str, str]:
    subject = use.subject(module=module)
    owners = dict(zip(map(_place, subject.inputs), subject.names(), strict=True))
    output, held = subject.forward(), module.state_dict(keep_vars=True)
    own = {_place(tensor) for tensor in held.values()}
    if not states.named_alike(module) and any(_place(y) in own for y in make.tensors(output).values()):
        raise LeftOut("its weights have other names")
    owners |= {_place(tensor): name for name, tensor in held.items()}
    found: dict[str, str] = {}
    for name, y in make.tensors(output).items():
        if y.numel():
            where = f"in the memory of {owners[_place(y)]}" if _place(y) in owners else "in memory of its own"
            over = any(stride == 0 and size > 1 for stride, size in zip(y.stride(), y.shape, strict=True))
            found[name] = where + (" where one number stands for many" if over else "")
            owners.setdefault(_place(y), name)
    return found


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


# --- hooks ---------------------------------------------------------------------------------------------------------------------------


def hooks(use: Use) -> Words:
    """How often the hooks of each submodule are called: an adapter that hangs on one does nothing where it is passed by."""
    subject = use.subject()
    counts: dict[str, int] = {}

    def counting(name: str) -> None:
        def hook(*_: object) -> None:
            counts[name] += 1

        counts[name] = 0
        subject.module.get_submodule(name).register_forward_hook(hook)

    for name, _ in subject.module.named_modules():
        counting(name)
    back(subject, subject.forward())
    return {f"hooks of {name or 'the layer'}": "called" if count else "not called" for name, count in counts.items()}


# --- what is around it -----------------------------------------------------------------------------------------------------------------


def surroundings(use: Use) -> Words:
    """Raises Mismatch where a call sets environment variables, changes the filters of warnings, or anything else that is not its own.

    Not the first call, for an import may set such things; and calls may set what they have set before, so the setting itself is seen.
    """
    subject = use.subject()
    modes = [module.training for module in subject.module.modules()]
    back(subject, subject.forward())
    if modes != [module.training for module in subject.module.modules()]:
        raise Mismatch("a call changes train() or eval() of the layer; leave that to the caller")
    kept, ours = list(warnings.filters), ("ignore", None, _Ours, None, 0)
    warnings.filters.insert(0, ours)  # type: ignore[attr-defined]  # it is a list.  Whoever sets a filter puts it before this one
    try:
        with _environment() as names, _settings() as others:
            back(subject, subject.forward())
        changed = list(warnings.filters) != [ours, *kept]
    finally:
        warnings.filters[:] = kept  # type: ignore[index]
    if others:
        raise Mismatch(f"it changes {others[0]} at a call; leave the process as it is")
    if names:
        raise Mismatch(f"it sets the environment variable {names[0]} at every call; leave the process as it is")
    if changed:
        raise Mismatch("it changes the filters of warnings at every call; write  with warnings.catch_warnings()")
    return {}


@contextmanager
def _settings() -> Iterator[list[str]]:
    """What is changed inside, in words; put back.  Settings begin as in a new process, since an earlier call may have changed them."""
    kept = gc.isenabled(), logging.root.manager.disable, sys.getrecursionlimit(), dict(vars(PRINTED))
    gc.enable()
    logging.disable(logging.NOTSET)
    sys.setrecursionlimit(kept[2] + 1)  # one that nobody sets
    PRINTED.precision = UNUSUAL
    changed: list[str] = []
    try:
        yield changed
        changed += ["the garbage collector"] if not gc.isenabled() else []
        changed += ["what is logged"] if logging.root.manager.disable != logging.NOTSET else []
        changed += ["the recursion limit"] if sys.getrecursionlimit() != kept[2] + 1 else []
        changed += ["torch's print options"] if PRINTED.precision != UNUSUAL else []
    finally:
        vars(PRINTED).update(kept[3])
        sys.setrecursionlimit(kept[2])
        logging.disable(kept[1])
        if not kept[0]:
            gc.disable()


class _Ours(Warning):
    """Nobody warns so."""


@contextmanager
def _environment() -> Iterator[list[str]]:
    """The variables that are set or deleted inside, in order."""
    kind, names = type(os.environ), []
    originals = {name: getattr(kind, name) for name in ("__setitem__", "__delitem__")}

    def seen(original: Callable[..., None]) -> Callable[..., None]:
        def change(self: object, key: str, *value: str) -> None:
            names.append(key)
            original(self, key, *value)

        return change

    for name, original in originals.items():
        setattr(kind, name, seen(original))
    try:
        yield names
    finally:
        for name, original in originals.items():
            setattr(kind, name, original)


# --- autocast ------------------------------------------------------------------------------------------------------------------------


def autocast_dtypes(use: Use) -> Words:
    """The dtypes of outputs under torch.autocast in bfloat16; nothing where there are none, for the way of that name says why."""
    if any(tensor.dtype != torch.float32 for tensor in use.drawn[0] if tensor.is_floating_point()):
        raise NotHere("autocast is for float32")
    subject, output = use.subject(), None
    with suppress(RuntimeError, TypeError, ValueError), torch.autocast(device_of(use), torch.bfloat16):
        output = subject.forward()
    return {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in make.tensors(output).items()}


TRAITS = (
    Trait("random numbers", random_numbers),
    Trait("memory of outputs", shared_memory),
    Trait("hooks of submodules", hooks),
    Trait("the process around it", surroundings),
    Trait("dtypes under autocast", autocast_dtypes),
)
