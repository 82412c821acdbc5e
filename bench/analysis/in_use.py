"""What variants do in use, beside being the same layer: one entry per layer, device and variant, over all dtypes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..data.record import Record

SHOWN = 3  # layers that a line names


@dataclass(frozen=True)
class InUse:
    """limits, facts and refused as in data.record.Uses, of all dtypes together: in the facts a "no" of any."""

    layer: str
    device: str
    variant: str
    tried: int
    limits: dict[str, str]
    facts: dict[str, str]
    refused: dict[str, str]


def in_use(records: Iterable[Record]) -> list[InUse]:
    """In the order of the records; without those that were not asked."""
    found: dict[tuple[str, str, str], InUse] = {}
    for record in records:
        accuracy = getattr(record.outcome, "accuracy", None)
        if not accuracy or not accuracy.uses:
            continue
        key = (record.point.layer, record.point.device, record.variant)
        uses, old = accuracy.uses, found.get(key, InUse(*key, 0, {}, {}, {}))
        facts = old.facts | {name: what for name, what in uses.facts.items() if what != "same" or name not in old.facts}
        limits = uses.limits | uses.marks | old.limits
        found[key] = InUse(*key, max(old.tried, uses.tried), limits, facts, uses.refused | old.refused)
    return list(found.values())


def lines(records: Iterable[Record]) -> list[str]:
    """One line per variant: where it does not do what the reference does, and in which layers."""
    found: dict[str, dict[str, dict[str, None]]] = {}
    for each in in_use(records):
        for way in each.limits:
            found.setdefault(each.variant, {}).setdefault(way, {})[each.layer] = None
    return [f"limits of {variant}: {'; '.join(_grouped(ways))}" for variant, ways in found.items()]


def _grouped(ways: Mapping[str, Mapping[str, None]]) -> list[str]:
    """Ways that the same layers have together: transposed inputs, sliced inputs (softmax)."""
    together: dict[tuple[str, ...], list[str]] = {}
    for way, layers in ways.items():
        together.setdefault(tuple(layers), []).append(way)
    return [f"{', '.join(names)} ({_named(list(layers))})" for layers, names in together.items()]


def _named(layers: list[str]) -> str:
    more = len(layers) - SHOWN
    return ", ".join(layers) if more <= 1 else f"{', '.join(layers[:SHOWN])} and {more} more layers"
