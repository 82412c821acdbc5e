"""Mounts both sides: in one worker if they can share it, else in a worker for each, with the reason.  Reports files that do not import."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..data.record import Environment, LayerFacts
from ..process.check_messages import DescribedSides, DescribeSides
from ..process.handle import Worker
from .executors import Apart, Executor, Together
from .renaming import Renamed


@dataclass(frozen=True)
class Trees:
    """Where the sides lie.  base is None where the suite is not in the base's tree."""

    root: Path
    worktree: Path
    head: Path
    base: Path | None


@dataclass(frozen=True)
class Opened:
    """layers: side -> its layers.  broken: side -> file -> why it does not import.  isolated: why the sides are apart; "": they are not."""

    executor: Executor
    layers: Mapping[str, tuple[LayerFacts, ...]]
    broken: Mapping[str, Mapping[str, str]]
    environment: Environment
    isolated: str


@contextmanager
def opened(
    trees: Trees,
    threads: int,
    apart: str,
    variables: Callable[[tuple[str, ...]], Mapping[str, str]],
    hang_seconds: float,
    likely: Sequence[Renamed] = (),
) -> Iterator[Opened]:
    """Both sides, ready to be asked; their workers end on the way out.

    apart      why the sides must not share a process; "" where nobody knows a reason yet.
    variables  sides -> what the environment of a worker that has them is.
    likely     layers of the base that can also be asked for by the names that they may have at the head.
    """
    workers: list[Worker] = []

    def worker(*sides: str) -> Worker:
        workers.append(Worker(_first(trees, sides, threads, likely), variables(sides), hang_seconds))
        return workers[-1]

    try:
        found: Opened | str = apart if apart or not trees.base else _together(worker)
        if isinstance(found, str):
            for each in workers:
                each.close()
            found = _apart(trees, worker, found)
        yield found
    finally:
        for each in workers:
            each.close()


def _first(trees: Trees, sides: tuple[str, ...], threads: int, likely: Sequence[Renamed]) -> DescribeSides:
    suites = {"base": str(trees.base), "head": str(trees.head)}
    roots = {"base": str(trees.worktree), "head": str(trees.root)}
    alone = len(sides) == 1
    core = max(os.sched_getaffinity(0)) if alone and threads == 1 and hasattr(os, "sched_getaffinity") else -1
    moved = (str(trees.root), str(trees.worktree)) if sides == ("base",) else None
    renamed = {each.new: each.old for each in likely}
    here = str(_counterpart(trees)) if moved else ""
    chosen = ({side: suites[side] for side in sides}, {side: roots[side] for side in sides})
    return DescribeSides(*chosen, threads, core, moved, renamed, here)


def _counterpart(trees: Trees) -> Path:
    """The folder of the base's tree that the user stands in, as far as he stands in the tree: files may be named from there."""
    here = Path.cwd().resolve()
    there = trees.worktree / here.relative_to(trees.root) if here.is_relative_to(trees.root) else here
    return there if there.is_dir() else trees.worktree


def _together(worker: Callable[..., Worker]) -> Opened | str:
    """Both in one process, or why not.  A file that does not import beside the other side may do so alone."""
    both = worker("base", "head")
    described = both.restart()
    assert isinstance(described, DescribedSides)
    apart = described.apart
    for side, torn in described.broken.items():
        if torn and not apart:
            single = worker(side)
            alone = single.restart()
            single.close()
            assert isinstance(alone, DescribedSides)
            fixed = [why for file, why in torn.items() if file not in alone.broken[side]]
            apart = f"beside the other side, {fixed[0]}" if fixed else ""
    return apart or Opened(Together(both), described.layers, described.broken, described.environment, "")


def _apart(trees: Trees, worker: Callable[[str], Worker], why: str) -> Opened:
    layers: dict[str, tuple[LayerFacts, ...]] = {"base": (), "head": ()}
    broken: dict[str, dict[str, str]] = {"base": {}, "head": {}}
    executor = Apart(worker)
    found = []
    for side in ("base", "head") if trees.base else ("head",):
        described = executor.workers[side].restart()
        assert isinstance(described, DescribedSides)
        found.append(described)
        layers |= described.layers
        broken |= described.broken
    return Opened(executor, layers, broken, found[-1].environment, why)
