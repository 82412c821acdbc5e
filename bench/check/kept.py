"""What a check learns of the base and keeps for the next one, in the folder of `--cache`: never a time.

Whether the base's variants are right, the bytes they hold and the graphs they come to follow from its code, the versions and the machine.
So does what its reference computes.  The digest of all of that is the name of a file; who asks again is answered from it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from ..data.check_record import Facts, Unit
from ..data.record import Environment, Point
from ..process.check_messages import Examine, Examined, Sketched, SketchReference
from ..storage import output
from .executors import Executor, Fault
from .unit import Until

A = TypeVar("A", Examined, Sketched)


@dataclass(frozen=True)
class Remembering:
    """An executor that asks the base once.  codes: layer -> digest of its code at the base."""

    inner: Executor
    folder: Path
    codes: Mapping[str, str]
    where: str  # the machine, the versions and the harness, as one text

    @property
    def per_confirmation(self) -> int:
        return self.inner.per_confirmation

    def examine(self, request: Examine) -> Examined | Fault:
        if known := self._known(request, Examined):
            return known
        answer = self.inner.examine(request)
        if isinstance(answer, Examined) and all(isinstance(each, Facts) for each in answer.facts.values()):
            self._keep(request, answer)
        return answer

    def sketch(self, request: SketchReference) -> Sketched | Fault:
        if known := self._known(request, Sketched):
            return known
        answer = self.inner.sketch(request)
        if isinstance(answer, Sketched) and not answer.reason:
            self._keep(request, answer)
        return answer

    def unit(self, point: Point, variant: str, sides: tuple[str, str], number: int, until: Until) -> Unit | Fault:
        return self.inner.unit(point, variant, sides, number, until)

    def renew(self, number: int) -> None:
        self.inner.renew(number)

    def restart(self) -> None:
        self.inner.restart()

    def _known(self, request: Examine | SketchReference, kind: type[A]) -> A | None:
        """None where it is not there, or where somebody has cut the file short."""
        if request.side != "base" or not (file := self._file(request)).is_file():
            return None
        try:
            return msgspec.json.decode(file.read_bytes(), type=kind)
        except (OSError, msgspec.DecodeError):
            return None

    def _keep(self, request: Examine | SketchReference, answer: A) -> None:
        if request.side == "base":
            output.replace(msgspec.json.encode(answer).decode(), self._file(request))

    def _file(self, request: Examine | SketchReference) -> Path:
        text = "\n".join([self.where, self.codes[request.point.layer], msgspec.json.encode(request, order="sorted").decode()])
        return self.folder / "base" / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def remembering(executor: Executor, folder: Path | None, codes: Mapping[str, str], environment: Environment) -> Executor:
    """The executor itself where there is no folder.  Raises Mistake where the folder cannot be made."""
    if not folder:
        return executor
    output.guarded(partial(output.folder, folder), folder, "--cache")
    return Remembering(executor, folder, codes, _where(environment))


def _where(found: Environment) -> str:
    """All that an answer depends on beside the layer's code; the harness's is among the versions."""
    settings = sorted({**found.versions, **found.flags}.items())
    return f"{found.machine} {found.system} {found.python} {found.threads} {settings} {found.devices}"
