"""`layerbench run torch.nn:SiLU --against mine:fast --input 8x512`: a first number without a layer file."""

from pathlib import Path

import inprocess
import pytest

from layerbench.bench.analysis import frame
from layerbench.bench.cli import first_file
from layerbench.bench.data.record import Failed
from layerbench.bench.declare.mistake import Mistake
from layerbench.bench.storage import run_file
from layerbench.bench.suite import mount

MINE = """
import torch
from torch import nn

class Fast(nn.RMSNorm):
    def forward(self, x):
        return x * (x.square().mean(-1, keepdim=True) + torch.finfo(x.dtype).eps).rsqrt() * self.weight

class Wrong(nn.RMSNorm):
    def forward(self, x):
        return x * (x.square().mean(-1, keepdim=True) + torch.finfo(x.dtype).eps).rsqrt()

def silu(x):
    return x * x.sigmoid()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine_of_first_file.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    inprocess.install(monkeypatch, tmp_path, lambda variant, number: 1e-3 if variant != "fast" else 5e-4)
    return tmp_path


def test_modules_of_which_one_is_wrong(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    against = [f"--against=mine_of_first_file:{name}(16)" for name in ("Fast", "Wrong")]
    words = ("run", "torch.nn:RMSNorm(16)", *against, "--input", "8x16", "--step", "forward", "--device", "cpu")
    assert inprocess.layerbench(monkeypatch, *words) == 1
    assert "results/rmsnorm_against_fast_against_wrong.py is the layer file, to go on from" in capsys.readouterr().err
    run = run_file.read(run_file.newest(folder / "results"))
    rows = frame.tidy(run).set_index("variant")
    assert rows.loc["fast"].verdict == "faster" and rows.loc["fast"].speedup == pytest.approx(2)
    failed = next(record.outcome for record in run.records if record.variant == "wrong")
    assert isinstance(failed, Failed) and failed.reason.startswith("output: off by")
    assert rows.loc["fast"].point == "rmsnorm-forward-cpu-float32-batch8"


def test_the_file_that_is_written(tmp_path: Path) -> None:
    file = Path(first_file.write("torch.nn.functional:silu", ["pkg/mine.py:silu", "mine:Kernel(4, eps=1e-6)"], ["8x512", "8:10"], tmp_path))
    assert file.name == "silu_against_silu_2_against_kernel.py"
    assert file.read_text() == (
        '"""silu against silu_2 against kernel: written by  layerbench run --against;  go on from here, as docs/layers-api.md says."""\n'
        "\nfrom functools import partial\n\nimport torch.nn.functional\nimport pkg.mine\nimport mine\n"
        "from layerbench.bench import Layer, Variant, integers, randn\n\nsilu = Layer(\n"
        '    "silu",\n    sweep={"batch": (8,)},\n    inputs=(randn("batch", 512), integers("batch", below=10),),\n    variants={\n'
        '        "silu": Variant(torch.nn.functional.silu),\n        "silu_2": Variant(pkg.mine.silu),\n'
        '        "kernel": Variant(partial(mine.Kernel, 4, eps=1e-06)),\n    },\n)\n'
    )


def test_the_shortest_file_can_be_mounted(tmp_path: Path) -> None:
    file = first_file.write("torch.nn:SiLU", ["torch.nn.functional:silu"], ["8x512"], tmp_path)
    (declared,) = mount.mount(file)
    assert list(declared.layer.variants) == ["silu", "silu_2"] and "partial" not in Path(file).read_text()


WRONG = [
    (("", ["mine:Fast"], ["8"]), "--against: name the reference, too, as  layerbench run 'torch.nn:RMSNorm(512)' --against"),
    (("torch.nn:SiLU", ["mine:Fast"], []), "--against: say what it is called with, as  --input 8x512;"),
    (("torch.nn:SiLU", [], ["8"]), "--input 8: it goes with --against, as  layerbench run"),
    (("torch.nn", ["mine:Fast"], ["8"]), "torch.nn: write a module and a class or a function in it, as torch.nn:SiLU"),
    (("torch.nn:SiLU", ["mine:Fast("], ["8"]), "mine:Fast(: write a module and a class or a function in it"),
    (("torch.nn:SiLU", ["mi ne:Fast"], ["8"]), "mi ne:Fast: write a module and a class or a function in it"),
    (("torch.nn:SiLU", ["mine:Fast"], ["8,512"]), "--input 8,512: write a shape, as 8x512, or 8x128:50257 for whole numbers below 50257"),
    (("torch.nn:SiLU", ["mine:Fast"], ["8x0"]), "--input 8x0: write a shape"),
]


@pytest.mark.parametrize(("words", "said"), WRONG)
def test_words_that_cannot_be_read(words: tuple[str, list[str], list[str]], said: str, tmp_path: Path) -> None:
    with pytest.raises(Mistake) as caught:
        first_file.write(*words, tmp_path)
    assert str(caught.value).startswith(said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--against", "mine:silu", "--input", "8", "--suite", "mine.py", "torch.nn:SiLU"),
            "--suite mine.py: --against makes a suite of its",
        ),
        (("torch.nn:SiLU",), "torch.nn:SiLU: say what to hold it against, as  --against mine:Fast --input 8x512;"),
        (("torch.nn:SiLU", "--resume", "--against", "mine:silu"), "--resume takes everything from the journal: remove --against"),
    ],
)
def test_words_that_do_not_go_together(
    words: tuple[str, ...], said: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inprocess.layerbench(monkeypatch, "run", *words) == 2
    assert said in capsys.readouterr().err
