"""Run files: valid pytest-benchmark JSON with our records under one extra key.

The raw samples stand once, in benchmarks[i].stats.data, as seconds per call; a record refers to its benchmark by number.
"""

import json
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from pytest_benchmark.stats import Stats

from ..analysis import frame
from ..data.record import SCHEMA, Measured, Record, Run
from ..declare.mistake import Mistake
from ..text import invocation
from . import output

KEY = "layerbench"
PYTEST_BENCHMARK = "5.3.1"  # whose format this is

LONGEST_SECONDS = 1e9  # of a call that anybody has waited for


def write(run: Run, path: Path) -> None:
    """Write a run file: to a new file beside it first, so that a crash leaves the old one or the new one.  Raises Mistake if it cannot."""
    output.guarded(partial(output.folder, path.parent), path.parent)
    output.guarded(lambda: output.replace(json.dumps(_document(run), allow_nan=False), path), path.parent)


def read(path: Path) -> Run:
    """Read a run file.  Raises Mistake where it is missing, cut short, not ours, or of a newer schema."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise Mistake(f"cannot read {path}: {error.strerror}; give the path of a run file, as results/NAME.json") from error
    try:
        document = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise Mistake(f"{path}: not a whole JSON file ({error}); if its run was cut short, run again") from error
    if not isinstance(document, dict) or not isinstance(document.get(KEY), dict):
        raise Mistake(f"{path}: not a run of layerbench: the key {KEY!r} is missing; give a file that `layerbench run` wrote")
    ours = document[KEY]
    schema = ours.get("schema")
    if not isinstance(schema, int) or schema > SCHEMA:
        raise Mistake(f"{path}: its schema is {schema}, this layerbench reads up to {SCHEMA}; {invocation.NEWER}")
    try:
        for record in ours["records"]:
            timing = record["outcome"].get("timing")
            if timing is not None:
                timing["seconds"] = _benchmark_at(document, timing.pop("benchmark"))["stats"]["data"]
        run = msgspec.convert(ours, Run)
        _check_samples(run)
        return run
    except (msgspec.ValidationError, KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise Mistake(f"{path}: damaged: {type(error).__name__}: {error}; take it from a backup, or run again") from error


def _check_samples(run: Run) -> None:
    """Raises ValueError where a measurement has no samples, or one that is no time; where records do not fit each other, or the layers."""
    for record in run.records:
        if isinstance(record.outcome, Measured):
            timing = record.outcome.timing
            if not timing.seconds or timing.calls_per_sample < 1:
                raise ValueError(f"{record.id} has no samples")
            if not all(0 < seconds < LONGEST_SECONDS for seconds in timing.seconds):
                raise ValueError(f"{record.id} has a sample that is not a time above 0")
            if len(timing.order) != len(timing.seconds):
                raise ValueError(f"{record.id} has {len(timing.seconds)} samples and {len(timing.order)} places of them in time")
    rounds: dict[str, set[int]] = {}
    for record in run.records:
        if isinstance(record.outcome, Measured):
            rounds.setdefault(record.point.id, set()).add(len(record.outcome.timing.seconds))
    if run.interleaved and (odd := [point for point, numbers in rounds.items() if len(numbers) > 1]):
        raise ValueError(f"{odd[0]} has variants with more samples than others, though they were timed in turns")
    ids = [record.id for record in run.records]
    if twice := sorted({id_ for id_ in ids if ids.count(id_) > 1}) if len(set(ids)) < len(ids) else []:
        raise ValueError(f"{twice[0]} is there twice")
    known = {layer.name for layer in run.layers}
    if strange := [record.point.layer for record in run.records if record.point.layer not in known]:
        raise ValueError(f"layer {strange[0]} is not among its layers")


def _benchmark_at(document: dict[str, Any], number: int) -> Any:
    if number < 0:
        raise IndexError("benchmark number below 0")
    return document["benchmarks"][number]


def newest(folder: Path) -> Path:
    """The run file written last in a folder.  Raises Mistake where there is none."""
    runs = (path for path in folder.glob("*.json") if not path.name.endswith(output.CHECK_SUFFIX))
    files = sorted(runs, key=lambda path: path.stat().st_mtime)
    if not files:
        raise Mistake(f"no run file in {folder}/; type  {invocation.command()} run  first, or give the path of a run file")
    return files[-1]


def _document(run: Run) -> dict[str, Any]:
    table = frame.tidy(run).set_index("id")
    benchmarks: list[dict[str, Any]] = []
    records = []
    for record in run.records:
        plain = msgspec.to_builtins(record)
        if isinstance(record.outcome, Measured):
            plain["outcome"]["timing"]["benchmark"] = len(benchmarks)
            del plain["outcome"]["timing"]["seconds"]
            benchmarks.append(_benchmark(record, record.outcome, table.loc[record.id].to_dict()))
        records.append(plain)
    environment = run.environment
    return {
        "machine_info": {
            "node": environment.machine,
            "machine": environment.system,
            "system": environment.system.partition(" ")[0],
            "release": environment.system.partition(" ")[2],
            "python_version": environment.python,
            "cpu": {"brand_raw": environment.cpu, "count": environment.cores},
        },
        "commit_info": {
            "id": environment.commit or "unversioned",
            "time": None,
            "author_time": None,
            "dirty": environment.dirty,
            "project": "layerbench",
            "branch": environment.branch or "(unknown)",
        },
        "benchmarks": benchmarks,
        "datetime": run.started,
        "version": PYTEST_BENCHMARK,
        KEY: msgspec.to_builtins(msgspec.structs.replace(run, records=())) | {"records": records},
    }


def _benchmark(record: Record, outcome: Measured, row: dict[str, Any]) -> dict[str, Any]:
    point = record.point
    extra = {name: row[name] for name in ("speedup", "speedup_low", "speedup_high", "noise_floor") if math.isfinite(row[name])}
    return {
        "group": point.id,
        "name": record.id,
        "fullname": f"{point.layer}::{record.id}",
        "params": {"variant": record.variant, "step": point.step, "device": point.device, "dtype": point.dtype, **point.size},
        "param": record.id,
        "extra_info": extra | {"verdict": row["verdict"]} if extra else {},
        "options": {
            "disable_gc": True,
            "timer": f"layerbench {outcome.timing.clock} clock",
            "min_rounds": len(outcome.timing.seconds),
            "max_time": 0,
            "min_time": 0,
            "warmup": True,
        },
        "stats": _stats(outcome.timing.seconds, outcome.timing.calls_per_sample),
    }


def _stats(seconds: Sequence[float], calls_per_sample: int) -> dict[str, Any]:
    """pytest-benchmark's own statistics of the samples; `data` holds the samples themselves, in their order."""
    stats: Any = Stats()  # type: ignore[no-untyped-call]  # pytest-benchmark has no types
    for each in seconds:
        stats.update(each)
    return stats.as_dict() | {"data": list(seconds), "iterations": calls_per_sample}
