"""What a person sees of ways of use: the page's table, the terminal's lines, the words of a check."""

from pathlib import Path

import inprocess
import pytest
from msgspec import structs

from layerbench.bench.analysis import in_use, weak_checks
from layerbench.bench.data.record import Accuracy, Checked, Point, Record
from layerbench.bench.data.uses import Uses
from layerbench.bench.report import render, works
from layerbench.bench.storage import run_file

SUITE = '''
"""A softmax, written well and less well."""
import torch
from torch import nn
from layerbench.bench import Layer, Variant, randn

class NoMaximum(nn.Softmax):
    def forward(self, x):
        e = x.exp()
        return e / e.sum(-1, keepdim=True)

class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = x.softmax(-1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        if not g.is_contiguous():
            raise ValueError("give contiguous gradients")
        (y,) = ctx.saved_tensors
        return y * (g - (y * g).sum(-1, keepdim=True))

class Function(nn.Softmax):
    def forward(self, x):
        return Once.apply(x)

softmax = Layer("softmax", {"batch": (4,), "width": (8,)}, (randn("batch", "width"),), lambda module, size: module(-1),
    {"stock": Variant(nn.Softmax), "no_maximum": Variant(NoMaximum), "function": Variant(Function)}, verify_at=({"batch": 3, "width": 7},))
'''


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory):
    """The run, and what the terminal said."""
    folder = tmp_path_factory.mktemp("works")
    (folder / "soft.py").write_text(SUITE)
    with pytest.MonkeyPatch.context() as patch:
        inprocess.install(patch, folder)
        said: list[str] = []
        patch.setattr("rich.console.Console.print", lambda self, *parts, **_: said.extend(map(str, parts)))
        assert inprocess.layerbench(patch, "run", "--suite", "soft.py", "--step", "forward", "--quiet") == 0
        return run_file.read(run_file.newest(Path("results"))), said


def test_the_run_file_keeps_what_was_found_and_old_ones_are_read_without_it(shown) -> None:
    run, _ = shown
    uses = {record.variant: record.outcome.accuracy.uses for record in run.records}
    assert uses["noise_floor"] is None
    assert uses["function"].limits["second derivatives"] == "not differentiable twice"
    assert "inputs times 100" in uses["no_maximum"].marks
    assert uses["stock"].facts["bits from run to run"] == "same"
    assert Accuracy(()).uses is None


def test_the_terminal_says_limits_in_a_line_for_each_variant_and_the_mark_as_a_warning(shown) -> None:
    _, said = shown
    (line,) = [line for line in said if line.startswith("limits of function: ")]
    assert "transposed gradients (softmax)" in line and "second derivatives (softmax)" in line
    (mark,) = [line for line in said if line.startswith("warning of softmax no_maximum, 1 point: ")]
    assert "same for ordinary values only: with inputs times 100, output: NaN in " in mark


def test_the_page_has_a_row_for_each_variant_and_names_together_what_is_refused_alike(shown) -> None:
    run, _ = shown
    rows = {row.variant: row for row in works.rows(run)}
    assert list(rows) == ["stock", "no_maximum", "function"]
    assert rows["stock"].ways == "reference"
    together = next(ways for ways, what in rows["function"].limits if what == "ValueError: give contiguous gradients")
    assert together.startswith("transposed gradients, expanded gradients, sliced gradients")
    tried = in_use.in_use(run.records)[2]
    assert rows["function"].ways == f"{tried.tried - len(tried.limits)} of {tried.tried}"
    assert [fact.word for fact in rows["function"].facts] == ["same"] * 3
    page = render(run)
    assert "<h2>Works in</h2>" in page and "give contiguous gradients" in page
    assert "same for ordinary values only" in page


def test_without_anything_known_there_is_no_table(shown) -> None:
    run, _ = shown
    old = [
        structs.replace(r, outcome=structs.replace(r.outcome, accuracy=structs.replace(r.outcome.accuracy, uses=None))) for r in run.records
    ]
    bare = structs.replace(run, records=tuple(old))
    assert works.rows(bare) == [] and in_use.lines(bare.records) == []
    assert "<h2>Works in</h2>" not in render(bare)


def checked(layer: str, uses: Uses, dtype: str = "float32") -> Record:
    return Record(Point(layer, {}, dtype, "cpu", "forward"), "triton", Checked(Accuracy((), uses=uses), "not timed"))


def test_of_several_dtypes_a_no_counts_and_layers_are_named_once() -> None:
    first = checked("a", Uses(3, {"deep copy": "refuses"}, facts={"bits": "same"}))
    second = checked("a", Uses(2, facts={"bits": "no: output"}), "float16")
    (found,) = in_use.in_use([first, second])
    assert (found.tried, found.facts, found.limits) == (3, {"bits": "no: output"}, {"deep copy": "refuses"})
    (again,) = in_use.in_use([second, first])
    assert again.facts == {"bits": "no: output"}
    many = [checked(name, Uses(3, {"deep copy": "refuses"})) for name in "abcde"]
    assert in_use.lines(many) == ["limits of triton: deep copy (a, b, c and 2 more layers)"]


def test_what_is_checked_without_a_gpu_is_marked_too() -> None:
    record = checked("a", Uses(3, marks={"inputs times 100": "output: NaN", "a NaN": "output: a number"}))
    assert weak_checks.lines([record]) == [
        "warning of a triton, 1 point: same for ordinary values only: with inputs times 100, output: NaN; and with a NaN"
    ]
