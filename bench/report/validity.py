"""Whether a run's numbers can be trusted, and what they may be compared with: the strip under the verdict.  It judges no variant."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from ..analysis import summary
from ..data.change import Change
from ..data.record import Run
from . import changes, words

WIDE_FLOOR = 0.05  # above this a noise floor hides differences that people care about
BUSY = 0.5  # load per core before the run began


@dataclass(frozen=True)
class Fact:
    label: str
    value: str
    doubt: str = ""  # why this fact weakens the numbers; empty: it does not
    more: str = ""  # the tooltip


def strip(run: Run, table: pd.DataFrame, compared: Sequence[Change]) -> list[Fact]:
    machine = run.environment
    devices = [f"{device.kind}: {device.name}" if device.kind != "cpu" else device.name for device in machine.devices]
    versions = " · ".join(f"{name} {machine.versions[name]}" for name in ("torch", "triton") if name in machine.versions)
    return [
        Fact("Device", " + ".join(devices) or machine.cpu, more=f"{machine.cpu}, {machine.cores} cores, {machine.system}"),
        Fact("Versions", versions or "not recorded", "" if versions else "versions are unknown"),
        _commit(run),
        _threads(run, table),
        _floor(table),
        _sampling(run, table),
        _baseline(run, compared),
    ]


def _commit(run: Run) -> Fact:
    machine = run.environment
    if not machine.commit:
        return Fact("Commit", "none", "outside a git repository: the code cannot be found again")
    name = f"{machine.commit[:8]} {machine.branch}".strip()
    if machine.dirty:
        return Fact("Commit", f"{name} + changes", "uncommitted changes: the commit alone does not give these numbers")
    return Fact("Commit", name, more="the working tree was clean")


def _threads(run: Run, table: pd.DataFrame) -> Fact:
    machine = run.environment
    busy = machine.load > BUSY * machine.cores
    doubt = f"load {machine.load:.1f} when the run began: other work may have been going on" if busy else ""
    if crowded := table[table.contention.notna()].point.nunique():
        doubt = f"other work wanted the same cores on {words.plural(crowded, 'point')}: nothing is ranked there"
    return Fact(
        "Threads", f"{machine.threads} of {words.plural(machine.cores, 'core')}", doubt, f"load {machine.load:.2f} when the run began"
    )


def _floor(table: pd.DataFrame) -> Fact:
    floors = table.groupby("point").noise_floor.max().dropna()
    if not len(floors):
        return Fact("Noise floor", "none", "no second copy of the reference was measured")
    middle, highest = float(floors.median()), float(floors.max())
    value = (
        words.percent(middle)
        if words.percent(middle) == words.percent(highest)
        else f"{words.percent(middle)}, worst {words.percent(highest)}"
    )
    wide = int((floors > WIDE_FLOOR).sum())
    doubt = f"above {words.percent(WIDE_FLOOR)} on {words.plural(wide, 'point')}: differences below it cannot be seen" if wide else ""
    return Fact("Noise floor", value, doubt, "median over the points: how far two copies of the reference differ")


def _sampling(run: Run, table: pd.DataFrame) -> Fact:
    timed, short, _ = summary.precision(table)
    if not timed:
        return Fact("Sampling", "nothing measured", "no time was taken in this run")
    if not run.interleaved:
        return Fact("Sampling", "one after the other", "variants were not interleaved: drift of the machine is not cancelled")
    ended = (
        f"the time budget ended {words.whole(short)} of {words.plural(timed, 'point')} before every ratio was known to {words.PRECISION}"
    )
    return Fact("Sampling", "interleaved", more=ended)


def _baseline(run: Run, compared: Sequence[Change]) -> Fact:
    key = run.environment.machine
    if not compared:
        return Fact("Baseline", "none given", more=f"this machine's key is {key}; times may be compared with runs that carry the same key")
    moved = sum(change.verdict in words.BAD for change in compared)
    value = "nothing worse" if not moved else f"{words.whole(moved)} worse"
    doubt = "see the table of changes" if moved else ""
    return Fact("Baseline", f"{value} of {words.whole(len(compared))}", doubt, changes.HOW)
