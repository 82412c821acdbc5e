"""What a worker says of two mounted sides: whether they may live in one process, and why not.  In this process, nothing is timed."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from toy_repository import write

from layerbench.bench.check.reference_change import difference
from layerbench.bench.check.side.session import Sides
from layerbench.bench.data.check_record import Facts
from layerbench.bench.data.record import Failed, Point
from layerbench.bench.process.check_messages import DescribedSides, DescribeSides, Examine, Examined, Sketched, SketchReference

LAYER = """
import os
import torch
from torch import nn
from layerbench.bench import Layer, Variant, randn

class Plain(nn.SiLU):
    def forward(self, x):
        return x * x.sigmoid()

silu = Layer("silu", {"batch": (4,)}, (randn("batch", 8),), lambda module, size: module(),
    {"stock": Variant(nn.SiLU), "plain": Variant(Plain)})
"""
OPERATOR = """
@torch.library.custom_op("layerbench_tests::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return 2 * x
"""
POINT = Point("silu", {"batch": 4}, "float32", "cpu", "forward")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """A suite may leave settings behind; no other test shall meet them."""
    precision, benchmark = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    yield
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.benchmark = benchmark
    os.environ.pop("LAYERBENCH_TESTS", None)


def sides(folder: Path, base: str, head: str) -> tuple[Sides, DescribedSides]:
    roots = {side: str(write(folder / side, {"layers/silu.py": text})) for side, text in (("base", base), ("head", head))}
    session = Sides(lambda stage, variant: None)
    answer = session.answer(DescribeSides({side: f"{root}/layers" for side, root in roots.items()}, roots, 0))
    assert isinstance(answer, DescribedSides)
    return session, answer


@pytest.mark.parametrize(
    ("base", "head", "said"),
    [
        ("", "", ""),
        (OPERATOR.replace("twice", "once"), "", ""),  # a name of its own: what is registered stays
        (OPERATOR, OPERATOR, "importing head registers the operator layerbench_tests::twice, which the other side has registered too"),
        ("", "torch.backends.cudnn.benchmark = True", "importing head changes torch's flag cudnn.benchmark from off to on"),
        ("os.environ['LAYERBENCH_TESTS'] = '1'", "", "importing base changes the environment variable LAYERBENCH_TESTS"),
        ("", "torch.set_float32_matmul_precision('high')", "importing head changes the float32 matmul precision from highest to high"),
    ],
)
def test_why_two_sides_may_not_share_a_process(base: str, head: str, said: str, tmp_path: Path) -> None:
    assert sides(tmp_path, LAYER + base, LAYER + head)[1].apart == said


def test_alone_a_side_keeps_the_settings_that_it_makes(tmp_path: Path) -> None:
    root = str(write(tmp_path, {"layers/silu.py": LAYER + "torch.set_float32_matmul_precision('high')"}))
    answer = Sides(lambda stage, variant: None).answer(DescribeSides({"head": f"{root}/layers"}, {"head": root}, 0))
    assert isinstance(answer, DescribedSides)
    assert (answer.apart, torch.get_float32_matmul_precision()) == ("", "high")


def test_a_file_that_does_not_import_is_told_by_its_side_and_the_others_are_there(tmp_path: Path) -> None:
    _, answer = sides(tmp_path, LAYER + "\nraise RuntimeError('half written')", LAYER)
    why = "layers/silu.py, line 14: the file does not import: RuntimeError: half written"
    assert answer.broken == {"base": {"layers/silu.py": why}, "head": {}}
    assert (answer.layers["base"], [each.name for each in answer.layers["head"]]) == ((), ["silu"])


def test_the_head_is_verified_and_weighed_and_references_are_compared(tmp_path: Path) -> None:
    session, _ = sides(tmp_path, LAYER, LAYER.replace("x * x.sigmoid()", "x * x.sigmoid() * 1.01"))
    head, base = (session.answer(Examine(side, POINT, ("plain",))) for side in ("head", "base"))
    assert isinstance(head, Examined) and isinstance(base, Examined)
    assert isinstance(head.facts["plain"], Failed) and head.facts["plain"].stage == "verify"
    assert isinstance(base.facts["plain"], Facts)
    assert base.facts["plain"].memory.live_bytes == 4 * 8 * 4
    then, now = (session.answer(SketchReference(side, POINT)) for side in ("base", "head"))
    assert isinstance(then, Sketched) and isinstance(now, Sketched)
    assert (difference(then, now), then.tensors["output"].shape) == ("", (4, 8))


def test_alone_the_base_stands_in_its_own_tree_and_its_files_are_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(
        tmp_path / "base",
        {"layers/silu.py": LAYER + "from pathlib import Path\nWORDS = Path('words.txt').read_text()", "words.txt": "at the base"},
    )
    write(tmp_path / "head", {"words.txt": "at the head"})
    monkeypatch.chdir(tmp_path / "head")
    session = Sides(lambda stage, variant: None)
    answer = session.answer(DescribeSides({"base": f"{root}/layers"}, {"base": str(root)}, 0, here=str(root)))
    assert isinstance(answer, DescribedSides)
    assert answer.layers["base"][0].file == str(root / "layers/silu.py")
    (module,) = {
        sys.modules[name] for name in sys.modules if name.endswith(".suite.silu") and sys.modules[name].__file__.startswith(str(root))
    }  # type: ignore[union-attr]
    assert module.WORDS == "at the base"
