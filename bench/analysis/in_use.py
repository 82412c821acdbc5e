"""What variants do in use, beside being the same layer: one entry per layer, device and variant, over all dtypes."""

from collections.abc import Iterable
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
    return [
        f"limits of {variant}: " + ", ".join(f"{way} ({_named(list(layers))})" for way, layers in ways.items())
        for variant, ways in found.items()
    ]


def _named(layers: list[str]) -> str:
    more = len(layers) - SHOWN
    return ", ".join(layers) if more <= 1 else f"{', '.join(layers[:SHOWN])} and {more} more layers"
