"""Energy from the option to the page: what is asked of a worker, what a record holds, and how a terminal and a page say it."""

import io
from pathlib import Path
from types import SimpleNamespace

import inprocess
import pytest
from emulated import POWER_LIMIT, Device
from msgspec import structs
from rich.console import Console
from runs import at, run, took
from torch import nn, ones

from layerbench.bench import report
from layerbench.bench.analysis import energy
from layerbench.bench.analysis.frame import tidy
from layerbench.bench.cell.cell import Cell
from layerbench.bench.cell.session import Session
from layerbench.bench.data.record import Energy, Measured, OnDevice, Point, Run
from layerbench.bench.machine import nvml
from layerbench.bench.process.protocol import Answer, Describe, Described, Finished, Measure, Request
from layerbench.bench.report import words
from layerbench.bench.run import journal
from layerbench.bench.storage import run_file
from layerbench.bench.subject import make
from layerbench.bench.terminal import overview
from layerbench.bench.timing import sustained
from layerbench.bench.timing.clock import FakeClock
from layerbench.bench.timing.device_clock import DeviceClock
from layerbench.bench.timing.measure import Limit

WHY = "this device does not count its energy"


def on_gpu(device: float, found: Energy | str | None, called: float = 0.0, mhz: int = 1980) -> Measured:
    made = took(device)
    seen = OnDevice((1e-5,) * 4, (called or device,) * 4, mhz=(mhz,) * 4)
    return structs.replace(made, timing=structs.replace(made.timing, clock="device", device=seen), energy=found)


def held(seconds: float = 1.61e-3, mhz: int = 1470, power_limited: bool = True) -> Energy:
    return Energy(0.28, 680.0, seconds, 700, mhz, power_limited)


def whole() -> Run:
    stock, less = on_gpu(1.38e-3, held()), on_gpu(1.0e-3, Energy(0.21, 200.0, 1.0e-3, 1000, 1980, power_limited=False))
    return run(at(8, device="cuda", stock=stock, triton=less, noise_floor=stock, compile=on_gpu(1e-3, WHY)))


# --- what it means ---------------------------------------------------------------------------------------------------------------


def test_energy_is_held_against_the_references() -> None:
    stock, triton, copy = energy.metered(whole())
    assert (stock.record.variant, triton.record.variant, copy.record.variant) == ("stock", "triton", "noise_floor")
    assert triton.ratio == pytest.approx(0.75) and copy.ratio == 1.0
    assert str(stock.ratio) == "nan"


def test_a_burst_that_is_not_sustained_is_told_with_what_held_it() -> None:
    found = energy.burst(on_gpu(1.38e-3, held()))
    assert found
    assert found.sentence(words.seconds) == "1.38 ms in a burst, 1.61 ms sustained: held at 1470 of 1980 MHz by the power limit"
    other = energy.burst(on_gpu(1.38e-3, held(power_limited=False)))
    assert other and other.sentence(words.seconds) == "1.38 ms in a burst, 1.61 ms sustained: held at 1470 of 1980 MHz"


@pytest.mark.parametrize(
    "outcome",
    [
        on_gpu(1.38e-3, held(1.44e-3)),  # within 5 %
        on_gpu(1.38e-3, held(mhz=1950)),  # the clock did not fall
        on_gpu(1.38e-3, held(), called=1.6e-3),  # bound by launches: as slow as called
        on_gpu(1.38e-3, held(mhz=0)),  # nobody knows
        on_gpu(1.38e-3, held(), mhz=0),
        on_gpu(1.38e-3, WHY),
        took(1.38e-3),
    ],
)
def test_no_burst_is_told_where_the_times_are_alike_or_the_clock_is_not_to_blame(outcome: Measured) -> None:
    assert energy.burst(outcome) is None


# --- how it is said --------------------------------------------------------------------------------------------------------------


def printed(found: Run) -> str:
    to = Console(file=io.StringIO(), width=160)
    overview.print_run(to, found, tidy(found))
    assert isinstance(to.file, io.StringIO)
    return "\n".join(" ".join(line.split()) for line in to.file.getvalue().splitlines())


def test_a_terminal_has_a_short_table_the_bursts_and_why_there_is_none() -> None:
    text = printed(whole())
    assert "softmax forward float32 batch=8 stock 280 mJ 680 W 1.61 ms" in text
    assert "softmax forward float32 batch=8 triton 210 mJ 0.75x 200 W 1.00 ms" in text
    assert "softmax-forward-cuda-float32-batch8 stock: 1.38 ms in a burst, 1.61 ms sustained: held at 1470 of 1980 MHz" in text
    assert f"no energy, 1 point: {WHY}" in text
    assert "noise_floor" not in text
    assert "nergy" not in printed(run(at(stock=took(2.0), triton=took(1.0))))


def test_the_page_has_the_table_where_it_was_measured_and_the_clock_in_the_details(tmp_path: Path) -> None:
    text = report.write(whole(), tmp_path / "index.html").read_text()
    cells = "".join(f"<td>{cell}" for cell in ("forward", "float32", "batch 8", "triton"))
    assert f"<tr>{cells}<td class=n>210 mJ<td class=n>0.75×<td class=n>200 W<td class=n>1.00 ms<td class=n>1980 MHz<td>" in text
    assert "1470 MHz, power limit<td>1.38 ms in a burst, 1.61 ms sustained: held at 1470 of 1980 MHz by the power limit" in text
    assert "second copy of the reference<td class=n>280 mJ<td class=n>1.00×" in text
    assert f"No energy of 1 record: {WHY}" in text
    plain = report.render(run(at(stock=took(2.0), triton=took(1.0))))
    assert "energy-softmax" not in plain and "<dt>Energy" not in plain
    assert words.clock(OnDevice((), (), mhz=(1545, 0, 1260))) == "The device ran at 1260–1545 MHz."
    assert words.clock(OnDevice((), (), mhz=(1980, 1980))) == "The device ran at 1980 MHz."
    limited = OnDevice((), (), mhz=(1980, 1470, 1470), power_limited=2)
    assert words.clock(limited) == "The device ran at 1470–1980 MHz, after 2 of 3 samples under its power limit."
    assert words.clock(OnDevice((), (), mhz=(0, 0))) == words.clock(None) == ""


def test_a_run_file_keeps_it_and_one_from_before_is_read(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    run_file.write(whole(), path)
    assert run_file.read(path) == whole()
    before = run(at(stock=took(2.0), triton=took(1.0)))
    run_file.write(before, path)
    path.write_text(path.read_text().replace('"energy": null, ', "").replace(', "energy": null', ""))
    assert "energy" not in path.read_text()
    assert run_file.read(path) == before


def test_the_command_of_a_point_measures_its_energy_again() -> None:
    asked = structs.replace(whole(), command="layerbench run --energy")
    assert words.command(asked, asked.records[0].point).endswith(" --energy")
    assert "--energy" not in words.command(whole(), whole().records[0].point)


# --- how it is asked for ---------------------------------------------------------------------------------------------------------

SUITE = '''"""A linear layer."""
from torch import nn
from layerbench.bench import Layer, Variant, randn

linear = Layer("linear", {"batch": (2,)}, (randn("batch", 8),), lambda module, size: module(8, 8), {"stock": Variant(nn.Linear)})
'''


POINT = Point("linear", {"batch": 2}, "float32", "cpu", "forward")


def session(folder: Path) -> Session:
    (folder / "mine.py").write_text(SUITE)
    made = Session(lambda stage, variant: None, lambda device: FakeClock(inprocess.same_cost), inprocess.no_roof)
    assert isinstance(made.answer(Describe(str(folder / "mine.py"), 1)), Described)
    return made


@pytest.mark.parametrize("wanted", [True, False])
def test_every_variant_and_the_second_copy_are_metered_after_the_timing_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    stages: list[str] = []
    monkeypatch.setattr("layerbench.bench.cell.passes.sustained", lambda call, device: held())
    layer = session(tmp_path)._layers["linear"]
    cell = Cell(layer, POINT, ("stock",), {}, lambda stage, variant: stages.append(f"{stage} {variant}"))
    found = cell.measure("forward", FakeClock(inprocess.same_cost), Limit(0.1), None, metered=Device() if wanted else None)
    assert {name: made.energy for name, made in found.items() if isinstance(made, Measured)} == dict.fromkeys(
        ("stock", "noise_floor"), held() if wanted else None
    )
    passes = [stage for stage in dict.fromkeys(each.partition(" ")[0] for each in stages) if stage in ("time", "energy", "recheck")]
    assert passes == (["time", "energy", "recheck"] if wanted else ["time", "recheck"])


@pytest.mark.parametrize("wanted", [True, False])
def test_the_device_that_the_clock_times_is_the_one_that_is_metered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool) -> None:
    device, seen = Device(), []
    monkeypatch.setattr(Cell, "measure", lambda self, *how: seen.append(how[-1]) or {})
    made = session(tmp_path)
    made._clock = lambda kind: DeviceClock(device)
    made.answer(Measure(POINT, ("stock",), 0.1, "", energy=wanted))
    assert seen == [device if wanted else None]


def test_on_the_cpu_nothing_is_metered(tmp_path: Path) -> None:
    answer = session(tmp_path).answer(Measure(POINT, ("stock",), 0.1, "", energy=True))
    assert isinstance(answer, Finished)
    assert [made.outcome.energy for made in answer.records if isinstance(made.outcome, Measured)] == [None, None]


def test_a_real_step_on_an_emulated_counter(tmp_path: Path) -> None:
    """The loop calls what is measured: a training step of a real module, its gradients cleared each time."""
    device, module = Device(), nn.Linear(4, 4)
    subject = make.subject("stock", module, (ones(2, 4),), (ones(2, 4),))
    module.register_forward_hook(lambda *_: device.kernel(20e-3, 5e-6))
    found = sustained.sustained(make.call(subject, "training"), device)
    assert isinstance(found, Energy) and found.seconds == pytest.approx(10e-3, rel=0.01)
    assert module.bias.grad is not None and module.bias.grad.tolist() == [2.0] * 4  # of one call, not of a hundred
    assert sustained.sustained(make.call(subject, "backward"), device) == sustained.WITH_FORWARD


def test_the_option_says_so_where_nothing_can_be_metered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(SUITE)
    inprocess.install(monkeypatch, tmp_path)
    assert inprocess.layerbench(monkeypatch, "run", "--suite", "mine.py", "--energy", "--dry-run", "--device", "cpu") == 0
    assert "--energy: no point of this run is on a GPU" in capsys.readouterr().err


@pytest.mark.parametrize("wanted", [True, False])
def test_the_option_reaches_the_worker_and_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool) -> None:
    (tmp_path / "mine.py").write_text(SUITE)
    inprocess.install(monkeypatch, tmp_path)
    asked: list[bool] = []
    answer = inprocess.InProcess.answer

    def heard(self: inprocess.InProcess, request: Request) -> Answer:
        if isinstance(request, Measure):
            asked.append(request.energy)
            (path,) = (tmp_path / "results").glob("*.journal")
            assert journal.read(path)[0].order.energy == wanted
        return answer(self, request)

    monkeypatch.setattr(inprocess.InProcess, "answer", heard)
    words = ["run", "--suite", "mine.py", "--step", "forward", "--device", "cpu", *["--energy"] * wanted]
    assert inprocess.layerbench(monkeypatch, *words) == 0
    assert asked == [wanted]


# --- the driver ------------------------------------------------------------------------------------------------------------------


class NVMLError(Exception):
    pass


def driver(reasons: int = 0, millijoules: int | None = None) -> SimpleNamespace:
    """NVML as the module pynvml shows it."""

    def counter(handle: object) -> int:
        if millijoules is None:
            raise NVMLError
        return millijoules

    return SimpleNamespace(
        NVML_CLOCK_SM=1,
        NVMLError=NVMLError,
        nvmlDeviceGetCurrentClocksEventReasons=lambda handle: reasons,
        nvmlDeviceGetClockInfo=lambda handle, which: 1470,
        nvmlDeviceGetTotalEnergyConsumption=counter,
    )


@pytest.mark.parametrize(
    ("reasons", "throttled", "power_limited"),
    [(0x00, "", False), (0x04, "", True), (0x24, "too hot (software)", True), (0x80, "power brake", False)],
)
def test_the_power_limit_is_seen_and_is_no_throttling(reasons: int, throttled: str, power_limited: bool) -> None:
    assert nvml.Nvml(driver(reasons), None).look() == nvml.Health(1470, throttled, power_limited)


def test_the_counter_is_in_joules_or_says_why_it_is_none() -> None:
    assert nvml.Nvml(driver(millijoules=12_345), None).joules() == 12.345
    assert nvml.Nvml(driver(), None).joules() == WHY
    assert nvml.Unknown().joules() == "not known: install nvidia-ml-py to have clocks, power and energy"


def test_the_emulated_power_limit_is_a_regime_too() -> None:
    assert Device(slow=lambda now: (1.5, POWER_LIMIT)).look() == nvml.Health(1320, "", power_limited=True)
