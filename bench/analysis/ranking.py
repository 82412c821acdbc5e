"""Who stands where: the state of every point, the best of a row, and where along the sweep a variant wins.  Verdicts in; no statistics."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from ..declare.layer import NOISE_FLOOR

STATES = ("faster", "slower", "undecided", "failed")
MOST_NAMED = 3  # places that are named one by one


def points(table: pd.DataFrame) -> pd.DataFrame:
    """A row per point where something was compared, or failed: point, layer, device, state and winner ("" unless one is faster).

    faster: a variant is faster than the reference beyond the noise; the winner is the fastest of these.
    failed: none is, and the reference or a variant failed or has a time that cannot be true.
    undecided: none is, and of one it cannot be told; or other work wanted the cores that were timed.
    slower: all that were compared are slower than the reference, or the same within the noise.
    """
    rows = []
    for point, group in table[table.variant != NOISE_FLOOR].groupby("point", sort=False):
        state = _state(group)
        if state:
            faster = group[group.verdict == "faster"]
            winner = faster.loc[faster.speedup.idxmax()].variant if state == "faster" else ""
            rows.append({"point": point, "layer": group.iloc[0].layer, "device": group.iloc[0].device, "state": state, "winner": winner})
    return pd.DataFrame(rows, columns=["point", "layer", "device", "state", "winner"])


def _state(group: pd.DataFrame) -> str:
    failed = group.outcome.isin(("failed", "invalid")).any()
    if group.verdict.isna().all():
        return "failed" if failed else ""
    if group.contention.notna().any() or (group.unresolved.notna() | (group.verdict.isna())).all():
        return "undecided"
    if (group.verdict == "faster").any():
        return "faster"
    return "failed" if failed else "undecided" if (group.verdict == "unclear").any() else "slower"


@dataclass(frozen=True)
class Standing:
    """How a variant does in a row of the matrix."""

    state: str
    ratio: float | None


def best(others: Mapping[str, Standing], reference: str) -> str:
    """The fastest of those that are faster; the reference where all that were compared are slower or the same; else "": undecided."""
    faster = {name: other.ratio for name, other in others.items() if other.state == "faster" and other.ratio is not None}
    if faster:
        return max(faster, key=faster.__getitem__)
    states = {other.state for other in others.values()} - {"absent", "skipped", "checked"}
    return reference if states and states <= {"slower", "same"} else ""


def mixed(mean: str, faster: int, slower: int) -> bool:
    """Whether the verdict of a mean hides that the variant does otherwise at a point."""
    return bool((faster and slower) or (faster and mean == "slower") or (slower and mean == "faster"))


def where(rows: pd.DataFrame) -> str:
    """Where a variant wins that is faster at some points and slower at others: along the first dimension that tells, or as a count."""
    faster = int((rows.verdict == "faster").sum())
    if not faster:
        return f"slower on {int((rows.verdict == 'slower').sum())} of {len(rows)}"
    for dimension in rows["size"].iloc[0]:
        found = [(size[dimension], verdict) for size, verdict in zip(rows["size"], rows.verdict, strict=True)]
        places = sorted({place for place, _ in found})
        won = [place for place in places if all(verdict == "faster" for at, verdict in found if at == place)]
        if sum(at in won for at, _ in found) == faster and len(places) > 1:
            if won == places[-len(won) :]:
                return f"wins from {dimension} {won[0]}"
            if won == places[: len(won)]:
                return f"wins up to {dimension} {won[-1]}"
            if len(won) <= MOST_NAMED:
                return f"wins at {dimension} {', '.join(map(str, won))}"
    return f"wins on {faster} of {len(rows)}"
