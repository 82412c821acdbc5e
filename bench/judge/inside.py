"""The process of one candidate: loads it, and runs it on numbers that are written while the process is stopped.

Nothing that is said here is believed.  The candidate shares this interpreter and may change all of it; the referee keeps the clock, the
numbers and the truth, stops the process before it looks, and reads the outputs from its memory by itself.
"""

import base64
import importlib.util
import json
import mmap
import os
import pickle
import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

GO = b"g"


class Process:
    """Answers the referee, one line after the other."""

    def __init__(self, fd: int, arena: int, nbytes: int) -> None:
        self._wire = os.fdopen(fd, "r+b", buffering=0)
        self._arena = torch.frombuffer(mmap.mmap(arena, nbytes), dtype=torch.uint8)
        self._module: Callable[..., object] = nn.Identity()
        self._calls: list[list[object]] = []
        self._held: list[object] = []  # what the last block returned: the referee reads it where it lies

    def serve(self) -> None:
        while request := self._wire.readline():
            words = json.loads(request)
            try:
                self._say({"load": self._load, "ready": self._ready}[words.pop("do")](**words))
            except BaseException as error:  # noqa: BLE001  whatever a candidate raises, even SystemExit, is its own
                self._say({"raised": f"{type(error).__name__}: {error}"})
                continue
            if self._calls:
                self._block()

    def _load(
        self, file: str, names: list[str], arguments: str, seed: int, threads: int, state: dict[str, Any], compiled: bool
    ) -> dict[str, object]:
        """Import the file, make the module, give it the weights that it has places for."""
        torch.set_num_threads(threads)
        spec = importlib.util.spec_from_file_location("candidate", file)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules["candidate"] = module
        spec.loader.exec_module(module)
        maker = next((getattr(module, name) for name in names if hasattr(module, name)), None)
        if maker is None:
            raise AttributeError(f"{os.path.basename(file)} has no {' or '.join(names)}")
        torch.manual_seed(seed)
        self._module = maker(*pickle.loads(base64.b64decode(arguments))) if isinstance(maker, type) else maker
        if isinstance(self._module, nn.Module):
            mine = self._module.state_dict()
            if {name: list(tensor.shape) for name, tensor in mine.items()} == {name: each["shape"] for name, each in state.items()}:
                self._module.load_state_dict({name: self._view(each) for name, each in state.items()})
        self._module = torch.compile(self._module) if compiled else self._module
        return {"loaded": True}

    def _ready(self, calls: list[list[Any]]) -> dict[str, object]:
        """Views of where the numbers will be; they are not there yet."""
        self._held = []
        self._calls = [[self._view(each) if isinstance(each, dict) else each for each in call] for call in calls]
        return {"ready": True}

    def _view(self, place: dict[str, Any]) -> Tensor:
        flat = self._arena[place["at"] : place["at"] + place["nbytes"]].view(getattr(torch, place["dtype"]))
        return flat.view(place["shape"])

    def _block(self) -> None:
        """Every call once, as soon as the word comes; then where its outputs lie."""
        calls, self._calls, module, held = self._calls, [], self._module, self._held
        self._wire.read(1)
        try:
            with torch.no_grad():
                for call in calls:
                    held.append(module(*call))
            self._say({"outputs": [[_place(each) for each in _flat(output)] for output in held]})
        except BaseException as error:  # noqa: BLE001  as above
            self._say({"raised": f"{type(error).__name__}: {error}"})

    def _say(self, words: dict[str, object]) -> None:
        self._wire.write(json.dumps(words).encode() + b"\n")


def _flat(output: object) -> Iterable[object]:
    if isinstance(output, list | tuple):
        return [part for each in output for part in _flat(each)]
    if isinstance(output, dict):
        return [part for each in output.values() for part in _flat(each)]
    return [output]


def _place(output: object) -> list[object]:
    """Type, dtype, shape, strides and address of a tensor."""
    if not isinstance(output, Tensor):
        return [type(output).__name__, "", [], [], 0]
    return [type(output).__name__, str(output.dtype)[6:], list(output.shape), list(output.stride()), output.data_ptr()]


if __name__ == "__main__":
    Process(*map(int, sys.argv[1:])).serve()
