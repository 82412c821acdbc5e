"""Warnings about a run's ratios, one line each: checks that could not have failed, code that was not run."""

from collections.abc import Iterable

from ..data.record import Checked, Measured, Record


def lines(records: Iterable[Record]) -> list[str]:
    """One line per layer and weak check, and per variant and warning, with how many points it is about."""
    found: dict[tuple[str, str], set[str]] = {}
    warned: dict[tuple[str, str], set[str]] = {}
    for record in records:
        if isinstance(record.outcome, Measured | Checked):
            for warning in record.outcome.accuracy.warnings:
                found.setdefault((record.point.layer, warning), set()).add(record.point.id)
        for warning in of_variant(record):
            warned.setdefault((f"{record.point.layer} {record.variant}", warning), set()).add(record.point.id)
    weak = [f"weak check of {layer}, {_points(points)}: {warning}" for (layer, warning), points in found.items()]
    return weak + [f"warning of {name}, {_points(points)}: {warning}" for (name, warning), points in warned.items()]


def of_variant(record: Record) -> tuple[str, ...]:
    """What is said of a variant: its own warnings, and that it is the same layer for ordinary values only."""
    accuracy = getattr(record.outcome, "accuracy", None)
    return (*getattr(record.outcome, "warnings", ()), *(accuracy.uses.mark if accuracy and accuracy.uses else ()))


def _points(points: set[str]) -> str:
    return f"{len(points)} point{'s' if len(points) > 1 else ''}"
