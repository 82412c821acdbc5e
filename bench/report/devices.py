"""Where one device begins to beat another, when a run has several.  Medians of the fastest variants; no interval is claimed for it."""

from collections.abc import Sequence

from . import words
from .panels import Panel


def crossings(parts: Sequence[Panel]) -> list[str]:
    """One sentence per dtype, size and step that the CPU and another device of the run share."""
    groups: dict[tuple[str, tuple[tuple[str, int], ...]], dict[str, Panel]] = {}
    for panel in parts:
        groups.setdefault((panel.dtype, panel.rest), {})[panel.device] = panel
    sentences = []
    for (dtype, rest), panels in groups.items():
        for device in panels:
            if device == "cpu" or "cpu" not in panels:
                continue
            for step in panels[device].steps:
                where = ", ".join([dtype, *([words.size(dict(rest))] if rest else []), step])
                if said := _crossing(panels["cpu"], panels[device], step):
                    sentences.append(f"{where}: {said}")
    return sentences


def _fastest(panel: Panel, step: str) -> dict[int, float]:
    best: dict[int, float] = {}
    for name in panel.variants:
        for tick, row in panel.curve(step, name).items():
            best[tick] = min(row.seconds, best.get(tick, row.seconds))
    return best


def _crossing(cpu: Panel, other: Panel, step: str) -> str:
    host, device = _fastest(cpu, step), _fastest(other, step)
    shared = sorted(host.keys() & device.keys())
    if not shared:
        return ""
    pair = f"the fastest variant on {other.device} against the fastest on cpu"
    ahead = [tick for tick in shared if device[tick] < host[tick]]
    if not ahead:
        return f"{pair} is slower at every {other.axis}."
    gain = words.times(host[shared[-1]] / device[shared[-1]])
    if ahead == shared:
        return f"{pair} is faster at every {other.axis}; {gain} at {shared[-1]}."
    if ahead == shared[-len(ahead) :]:
        return f"{pair} is faster from {other.axis} {ahead[0]} up; {gain} at {shared[-1]}."
    return f"{pair} is faster at {other.axis} {', '.join(map(str, ahead))} only."
