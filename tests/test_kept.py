"""What a check keeps of a base for the next one: found again where nothing that it depends on has changed, and never a time."""

from pathlib import Path

import pytest
from check_example import environment

from layerbench.bench.check import kept, unit
from layerbench.bench.check.executors import Executor, Fault
from layerbench.bench.data.check_record import Facts, Unit
from layerbench.bench.data.record import Environment, Failed, Memory, Point
from layerbench.bench.declare.mistake import Mistake
from layerbench.bench.process.check_messages import Examine, Examined, Sketch, Sketched, SketchReference

POINT = Point("silu", {"batch": 1}, "float32", "cpu", "forward")
EXAMINE = Examine("base", POINT, ("stock", "plain"))
FACTS = Facts(Memory(1, 2, 3, 4), None)


class Counting:
    """Answers, and counts how often it was asked."""

    per_confirmation = 2

    def __init__(self, fact: Facts | Failed = FACTS) -> None:
        self.fact, self.asked = fact, 0

    def examine(self, request: Examine) -> Examined | Fault:
        self.asked += 1
        return Examined(dict.fromkeys(request.variants, self.fact))

    def sketch(self, request: SketchReference) -> Sketched | Fault:
        self.asked += 1
        return Sketched("inputs", {"output": Sketch((2, 3), 0.5, (0.1, 0.2))})

    def unit(self, point: Point, variant: str, sides: tuple[str, str], number: int, until: unit.Until) -> Unit | Fault:
        self.asked += 1
        return Unit(0.0, 1e-3, 1e-3, 8, 4, 0)

    def renew(self, number: int) -> None:
        pass

    def restart(self) -> None:
        pass


def remembering(inner: Executor, folder: Path, code: str = "a", machine: Environment | None = None) -> Executor:
    return kept.remembering(inner, folder, {"silu": code}, machine or environment())


def test_what_was_learned_of_a_base_is_not_asked_again(tmp_path: Path) -> None:
    inner = Counting()
    first = [remembering(inner, tmp_path).examine(EXAMINE), remembering(inner, tmp_path).sketch(SketchReference("base", POINT))]
    again = [remembering(inner, tmp_path).examine(EXAMINE), remembering(inner, tmp_path).sketch(SketchReference("base", POINT))]
    assert (first, inner.asked) == (again, 2)


@pytest.mark.parametrize(
    "other",
    [
        {"code": "b"},
        {"machine": environment(threads=2)},
        {"machine": environment(versions={"torch": "2.14.1"})},
        {"machine": environment(machine="another")},
    ],
    ids=["code", "threads", "torch", "machine"],
)
def test_and_is_asked_again_where_anything_else_is_another(other: dict[str, object], tmp_path: Path) -> None:
    inner = Counting()
    remembering(inner, tmp_path).examine(EXAMINE)
    remembering(inner, tmp_path, **other).examine(EXAMINE)  # type: ignore[arg-type]
    remembering(inner, tmp_path).examine(Examine("base", POINT, ("stock",)))
    assert inner.asked == 3


def test_the_head_a_failure_and_a_time_are_never_kept(tmp_path: Path) -> None:
    inner = Counting()
    for _ in range(2):
        remembering(inner, tmp_path).examine(Examine("head", POINT, ("stock",)))
        remembering(inner, tmp_path).unit(POINT, "stock", ("base", "base"), 0, unit.Until(0.1))
    failing = Counting(Failed("verify", "output: off by 1"))
    for _ in range(2):
        remembering(failing, tmp_path).examine(EXAMINE)
    assert (inner.asked, failing.asked) == (4, 2)
    assert not list(tmp_path.rglob("*.json"))


def test_a_file_that_was_cut_short_is_written_anew(tmp_path: Path) -> None:
    inner = Counting()
    remembering(inner, tmp_path).examine(EXAMINE)
    (file,) = tmp_path.rglob("*.json")
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    assert remembering(inner, tmp_path).examine(EXAMINE) == Examined(dict.fromkeys(EXAMINE.variants, FACTS))
    assert (inner.asked, file.read_bytes()) == (2, whole)


def test_a_folder_that_cannot_be_made_is_a_mistake_that_names_the_option(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    with pytest.raises(Mistake, match="give another folder with --cache"):
        remembering(Counting(), tmp_path / "file" / "cache")
