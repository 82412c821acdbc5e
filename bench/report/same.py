"""Is each variant the same layer, and what does it hold for backward?  A row per layer and device, over all sizes and dtypes; no markup."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..data.record import LayerFacts, Run
from . import panels, words


@dataclass(frozen=True)
class Cell:
    look: str  # verified | checked | failed | skipped | absent
    word: str
    held: str  # for backward; "" where no memory was weighed
    note: str  # the tooltip


@dataclass(frozen=True)
class Row:
    layer: str
    device: str
    cells: tuple[Cell, ...]  # as the columns of the matrix


def rows(run: Run, table: pd.DataFrame, names: Sequence[str]) -> list[Row]:
    """Rows in the order of the run, a cell for every name."""
    facts = {layer.name: layer for layer in run.layers}
    found: dict[tuple[str, str], list[Any]] = {}
    for row in panels.rows(table):
        found.setdefault((row.layer, row.device), []).append(row)
    return [Row(layer, device, tuple(_cell(facts[layer], members, name) for name in names)) for (layer, device), members in found.items()]


def _cell(layer: LayerFacts, members: Sequence[Any], name: str) -> Cell:
    mine = [row for row in members if row.variant == name]
    if not mine:
        return Cell("absent", "no variant", "", layer.absent.get(name, "not in this run"))
    failed = [row for row in mine if row.outcome == "failed"]
    if failed:
        return Cell("failed", "✗ failed", "", f"failed at {failed[0].stage}: {failed[0].reason}")
    slacks = [row.slack for row in mine if row.slack is not None]
    if not slacks:
        return Cell("skipped", mine[0].outcome, "", mine[0].reason or "")
    proved = all(row.outcome == "checked" for row in mine)
    word, note = f"✓ {words.percent(max(slacks))}", f"largest error: {words.percent(max(slacks))} of what is allowed"
    return Cell("checked" if proved else "verified", word, _held(layer, members, name), note + ("; not timed here" if proved else ""))


def _held(layer: LayerFacts, members: Sequence[Any], name: str) -> str:
    """What is held for backward, as a share of what the reference holds at the same size; of the reference itself in bytes."""
    held = {_cell_of(row): row.saved_bytes for row in members if row.variant == name and row.saved_bytes is not None}
    stock = {_cell_of(row): row.saved_bytes for row in members if row.variant == layer.reference and row.saved_bytes is not None}
    if not held:
        return ""
    if name == layer.reference:
        return _span([words.count_bytes(value) for value in (min(held.values()), max(held.values()))])
    shares = [held[place] / stock[place] for place in held if stock.get(place)]
    if shares:
        return _span([words.share(value) for value in (min(shares), max(shares))])
    return "0 B" if not any(held.values()) else _span([words.count_bytes(value) for value in (min(held.values()), max(held.values()))])


def _cell_of(row: Any) -> tuple[str, str]:
    return row.dtype, words.size(row.size)


def _span(ends: Sequence[str]) -> str:
    low, high = ends
    return low if low == high else f"{low} – {high}"
