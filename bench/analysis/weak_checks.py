"""The checks of a run that could not have failed, in one line each: said wherever its ratios are."""

from collections.abc import Iterable

from ..data.record import Checked, Measured, Record


def lines(records: Iterable[Record]) -> list[str]:
    """One line per layer and weak check, with how many points it is about."""
    found: dict[tuple[str, str], set[str]] = {}
    for record in records:
        if isinstance(record.outcome, Measured | Checked):
            for warning in record.outcome.accuracy.warnings:
                found.setdefault((record.point.layer, warning), set()).add(record.point.id)
    return [
        f"weak check of {layer}, {len(points)} point{'s' if len(points) > 1 else ''}: {warning}"
        for (layer, warning), points in found.items()
    ]
