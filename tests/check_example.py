"""Builds example checks with every verdict for tests.  The numbers are invented: plausible, deterministic, and never measured."""

import math
import random

from fixture_run import environment

from layerbench.bench.data.check_record import SCHEMA, Check, Estimate, Exact, Row, Side, Unit
from layerbench.bench.data.record import Point

BASE = Side("main", "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d", False)
HEAD = Side("working tree", "5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f80", True)
EVIL = "</td><script>hacked(1)</script>|`x` ]]> %0A::error:: a\nb\x1b[31m\x00 \ud800\u202e [link](http://x) :+1: _i_"
SAVED = Exact("saved_bytes", 4096, 8192, True)


def estimate(percent: float, half: float = 1.9, detectable: float = 0.021) -> Estimate:
    """A change in percent with an interval of `half` to either side."""
    return Estimate(1 + percent / 100, 1 + (percent - half) / 100, 1 + (percent + half) / 100, detectable)


def units(percent: float, number: int = 8, noise: float = 1.5, process: int = 0, seed: int = 1) -> tuple[Unit, ...]:
    """Units around a change, each 3 super-cycles of 100 calls at 10 microseconds."""
    dice = random.Random(seed)
    made = []
    for _ in range(number):
        difference = math.log(1 + percent / 100) + dice.gauss(0, noise / 100)
        made.append(Unit(difference, 1e-5, 1e-5 * math.exp(difference), 3, 100, process))
    return tuple(made)


def row(verdict: str, layer: str = "softmax", step: str = "forward", batch: int = 8, variant: str = "function", **changes: object) -> Row:
    point = Point(layer, {"batch": batch, "width": 1024}, "float32", "cpu", step)
    return Row(**({"point": point, "variant": variant, "file": f"layers/{layer}.py", "line": 12, "verdict": verdict} | changes))


def slower(percent: float = 7.9, **changes: object) -> Row:
    """Flagged by eight units and confirmed by six."""
    values = {"units": units(percent), "confirmation": units(percent, 6, process=3, seed=2), "estimate": estimate(percent)}
    return row("slower", **(values | changes))


def timed(verdict: str, percent: float = 0.3, number: int = 8, half: float = 0.6, detectable: float = 0.012, **changes: object) -> Row:
    measured = units(percent, number, half, seed=len(str(changes)) + number)
    return row(verdict, units=measured, estimate=estimate(percent, half, detectable), **changes)


def control(percent: float = 0.2, half: float = 0.6) -> Row:
    return timed("clear", percent, half=half, variant="stock")


def every() -> tuple[Row, ...]:
    """Every verdict, two of some, in no order."""
    return (
        timed("clear", batch=1, exact=(Exact("graphs", 1, 1, False),)),
        row("unchanged", layer="gelu", variant="stock"),
        timed("inconclusive", 3.1, 32, 4.2, 0.089, layer="linear"),
        slower(),
        row("wrong", layer="rms_norm", reason="weight grad is off by 0.0031, allowed 4.8e-07"),
        row("skipped", layer="linear", variant="triton", reason="Triton needs a GPU"),
        timed("faster", -12.4, half=1.1, layer="layer_norm", exact=(Exact("peak_backward_bytes", 12288, 8192, False),)),
        row("missing", layer="relu", variant="compile"),
        row("new", layer="swiglu"),
        timed("clear", -0.4, layer="gelu", step="backward"),
        slower(23.0, batch=64, exact=(SAVED, Exact("graphs", 1, 3, True))),
        row("different", layer="group_norm", variant="stock", reason="output differs from the base's reference by 0.21"),
        timed("larger", 0.9, layer="dropout", exact=(SAVED,)),
        row("proved", layer="linear", variant="triton", step="backward", reason="values proved under Triton's interpreter"),
        row("unchanged", layer="gelu", variant="compile"),
    )


def check(*rows: Row, **changes: object) -> Check:
    values = {
        "schema": SCHEMA,
        "name": "20261124-020000",
        "started": "2026-11-24T02:00:00+00:00",
        "seconds": 83.0,
        "command": "layerbench check --against main",
        "suite": "layerbench.layers",
        "base": BASE,
        "head": HEAD,
        "threshold": 0.05,
        "tolerance": 0.005,
        "strict": False,
        "isolated": "",
        "environment": environment(),
        "rows": rows,
        "control": (control(),),
    }
    return Check(**(values | changes))


def example(**changes: object) -> Check:
    return check(*every(), **({"notes": ("another run was measuring on cpu",)} | changes))


def passing(**changes: object) -> Check:
    rows = [timed("clear", 0.1 * batch, batch=batch) for batch in range(1, 13)]
    return check(*rows, row("unchanged", layer="gelu"), **changes)


def many(number: int, verdict: str = "clear") -> Check:
    """Timed rows, all of one verdict, eight units each."""
    same = units(0.3)
    middle = estimate(0.3, 0.6, 0.012)
    return check(*(row(verdict, layer=f"layer{i:05}", units=same, estimate=middle) for i in range(number)))


def hostile(**changes: object) -> Check:
    """Everything that may come from outside is markup, control codes and worse."""
    point = Point(EVIL, {EVIL: 1}, EVIL, EVIL, EVIL)
    numbers = (Exact(EVIL, 1, 2, True),)
    values = {"units": units(7.9), "estimate": estimate(7.9), "exact": numbers, "reason": EVIL}
    verdicts = ("slower", "wrong", "inconclusive", "skipped", "clear")
    rows = tuple(Row(point, EVIL, EVIL, 1, verdict, **values) for verdict in verdicts)
    rows += (Row(point, EVIL, EVIL, 1, EVIL, EVIL),)
    machine = environment(machine=EVIL, cpu=EVIL, branch=EVIL, commit=EVIL, versions={"torch": EVIL}, flags={EVIL: EVIL}, devices=())
    names = {"name": EVIL, "started": EVIL, "command": EVIL, "suite": EVIL, "base": Side(EVIL, EVIL, True), "head": Side(EVIL, EVIL, True)}
    outside = {"environment": machine, "notes": (EVIL,), "isolated": EVIL, "unreliable": ""}
    return check(*rows, **(names | outside | changes))
