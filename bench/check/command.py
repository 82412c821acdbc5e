"""`layerbench check`: from what was asked for to a `Check`, and its files.  It knows the order of things; each is done elsewhere."""

import contextlib
import os
import re
import shlex
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from msgspec import structs

from ..data.check_record import SCHEMA, Check, Row, Side
from ..data.record import LayerFacts
from ..declare.mistake import Mistake
from ..plan.planning import Selection
from ..process.stages import Stages
from ..stats.sequential import Rule
from ..suite import closure, copies, mount
from ..suite.closure import Closure
from . import base, caches, dependencies, examining, kept, neighbours, pairing, rounds, submodules, verdicts, worktrees
from .executors import Executor
from .mounting import Opened, Trees, opened
from .pairing import Benchmark, Plan
from .rounds import Track
from .verdicts import Timed

Say = Callable[[str], None]


@dataclass(frozen=True)
class Order:
    """What the user asked for."""

    against: str
    tip: bool
    suite: str
    selection: Selection
    threads: int
    budget_seconds: float
    threshold: float
    tolerance: float
    strict: bool
    everything: bool
    control: bool
    cache: Path | None
    isolate: bool
    allow_missing: bool
    allow_different: bool
    hang_seconds: float
    command: str


class Edited(Exception):
    """The working tree changed while it was checked.  Carries one sentence."""


def check(order: Order, tell: Say) -> Check:
    """Check the working tree against a commit.  Raises Mistake and Edited.  tell(what): what is being done now."""
    begun, started = time.monotonic(), datetime.now(UTC)
    stages = Stages(lambda stage, _: None)

    def say(what: str) -> None:
        stages(what.split()[0].rstrip(":"), "")
        tell(what)

    say("reading both sides")
    head = mount.locate(order.suite)
    root = worktrees.repository(head)
    chosen_base = base.base(root, order.against, order.tip)
    commit = chosen_base.commit
    sides = (Side(chosen_base.ref, commit, False), Side("working tree", worktrees.head_commit(root), worktrees.dirty(root)))
    with worktrees.checked_out(root, commit) as worktree:
        trees = Trees(root, worktree, head, worktrees.base_path(root, worktree, head, commit))
        sources = _sources(trees)
        apart = _apart(order, trees, sources)
        with caches.held(worktree, order.cache, {"base": worktree, "head": root}, sources) as folders, contextlib.ExitStack() as stack:
            say(f"importing both sides{'; extensions are built first, which may take minutes' if any(folders.builders.values()) else ''}")
            before, importing = folders.built(), time.monotonic()
            ready = stack.enter_context(opened(trees, order.threads, apart, folders.variables, order.hang_seconds))
            imported = time.monotonic()  # and extensions built: that is no part of the budget
            built = caches.note(folders.built() - before, imported - importing)
            chosen = _plan(order, trees, ready, sources, submodules.missing(root, commit))
            proved = examining.proved(chosen.proved, root, order.threads, order.hang_seconds, say)
            codes = {layer.name: sources["base"][str(_absolute(layer))].digest for layer in ready.layers["base"]}
            executor = kept.remembering(ready.executor, order.cache, codes, ready.environment)
            with neighbours.noticed((each.point.device for each in chosen.measured), say) as (telling, seen):
                rows, control, alarm = _measure(order, chosen, executor, imported + order.budget_seconds, telling)
            rows += proved
            wanted = dependencies.differences(root, commit)
            found = (chosen_base.note, built, neighbours.note(seen), dependencies.note(root, commit, wanted), *_notes(ready))
            notes = tuple(filter(None, found))
        _stood_still(trees, sources, {each.file for each in (*chosen.measured, *chosen.proved)})
    return Check(
        schema=SCHEMA,
        name=started.strftime("%Y%m%d-%H%M%S"),
        started=started.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - begun, 3),
        command=order.command,
        suite=order.suite,
        base=sides[0],
        head=sides[1],
        threshold=order.threshold,
        tolerance=order.tolerance,
        strict=order.strict,
        isolated=ready.isolated,
        environment=ready.environment,
        rows=tuple(rows),
        control=tuple(control),
        unreliable=alarm,
        notes=notes,
        dependencies=tuple(wanted),
        stages={stage: round(seconds, 1) for stage, seconds in stages.take().items()},
    )


# --- what changed --------------------------------------------------------------------------------------------------------------------


def _sources(trees: Trees) -> dict[str, dict[str, Closure]]:
    """Side -> layer file, as a path -> what its code consists of."""
    return {"head": _code(trees.head, trees.root, trees), "base": _code(trees.base, trees.worktree, trees)}


def _code(suite: Path | None, root: Path, trees: Trees) -> dict[str, Closure]:
    files = [] if suite is None else [suite] if suite.is_file() else sorted(suite.glob("[!_]*.py"))
    return {str(file): each for file, each in closure.closures(root, files, trees.root).items()}


def _stood_still(trees: Trees, sources: Mapping[str, Mapping[str, Closure]], files: Collection[str]) -> None:
    """Raises Edited where the code of a file, relative to the root, is another now: fresh processes may have read the later one."""
    then, now = sources["head"], _code(trees.head, trees.root, trees)
    for file in sorted(files):
        path = str(trees.root / file)
        if path in then and (path not in now or closure.changed(then[path], now[path])):
            raise Edited(f"the code of {file} changed while it was being checked, so the times are of neither version; check again")


def _apart(order: Order, trees: Trees, sources: Mapping[str, Mapping[str, Closure]]) -> str:
    """Why the sides must not share a process, as far as the sources tell.  Code that both have is not timed, so it may do as it likes."""
    for file, each in sources["head"].items():
        if found := closure.elsewhere(each, Path(file), trees.root):
            raise Mistake(
                f"{Path(file).name} imports {found[0]}, which this Python takes from {found[1]} and not from {trees.root}, so both sides "
                "would run that copy; install it in editable form, as  python -m pip install --editable "
                + shlex.quote(os.path.relpath(trees.root / copies.project(trees.root, each.files, found[0].split(".")[-1])))
            )
    if order.isolate:
        return "--isolate"
    digests = [{each.digest for each in sources[side].values()} for side in ("base", "head")]
    shared = set() if order.everything else digests[0] & digests[1]
    for side in ("head", "base"):
        for file, each in sources[side].items():
            if each.digest not in shared and each.absolute:
                return (
                    f"{Path(file).name} imports {each.absolute[0]} by its plain name, and a process can hold only one module of that name"
                )
            if each.digest not in shared and (file := caches.builds(trees.root if side == "head" else trees.worktree, each)):
                return f"{file} builds an extension, and a process can hold only one of its name"
            if each.digest not in shared and each.everything:
                return f"what the code reaches cannot be told: {each.everything}"
    return ""


def _plan(order: Order, trees: Trees, ready: Opened, sources: Mapping[str, Mapping[str, Closure]], lost: Mapping[str, str]) -> Plan:
    """lost: submodules that the base has not, and why."""
    files = {side: {layer.name: _absolute(layer) for layer in ready.layers[side]} for side in ("base", "head")}
    roots = {"base": trees.worktree, "head": trees.root}
    places = {name: str(file.relative_to(roots[side])) for side in files for name, file in files[side].items()}
    changed = {
        name
        for name, file in files["head"].items()
        if order.everything
        or name not in files["base"]
        or closure.changed(sources["base"][str(files["base"][name])], sources["head"][str(file)])
    }
    head, base = ready.layers["head"], ready.layers["base"]
    torn = [why for side in ("head", "base") for why in ready.broken[side].values()]
    for file, why in ready.broken["head"].items():
        if file not in {places[layer.name] for layer in base}:  # then no benchmark would stand for it
            raise Mistake(f"at the head, {why}; the base has no layers of it to compare with")
    if not head and not base:
        raise Mistake(f'--suite {order.suite}: no Layer found on either side; write at module level for example  x = Layer("x", ...)')
    try:
        chosen = pairing.pair(head, base, ready.environment.devices, order.selection, places, changed, order.allow_missing)
    except Mistake as mistake:  # what was asked for may be declared where nothing can be imported
        raise Mistake(f"{mistake}; besides, {torn[0]}" if torn else str(mistake)) from None
    return replace(chosen, settled=tuple(_torn(row, ready, lost) for row in chosen.settled))


def _torn(row: Row, ready: Opened, lost: Mapping[str, str]) -> Row:
    """A layer that only one side has may be in a file that does not import on the other."""
    if row.verdict == "missing" and (why := ready.broken["head"].get(row.file)):
        place = re.match(r"(.+?), line (\d+)", why)  # of the error, which may be in another file
        file, line = (place[1], int(place[2])) if place else (row.file, 1)
        return structs.replace(row, verdict="import error", file=file, line=line, reason=f"at the head, {why}")
    if row.verdict == "new" and (why := ready.broken["base"].get(row.file)):
        return structs.replace(row, verdict="not compared", reason="; ".join((f"at the base, {why}", *lost.values())))
    if row.verdict == "new" and (path := next((path for path in lost if row.file.startswith(f"{path}/")), "")):
        return structs.replace(row, verdict="not compared", reason=lost[path])
    return row


def _absolute(layer: LayerFacts) -> Path:
    return Path.cwd() / layer.file


def _notes(ready: Opened) -> list[str]:
    return [f"{side}: {why}" for side in ("head", "base") for why in ready.broken[side].values()]


# --- measuring -----------------------------------------------------------------------------------------------------------------------


def _measure(order: Order, chosen: Plan, executor: Executor, deadline: float, say: Say) -> tuple[list[Row], list[Row], str]:
    """Rows of the benchmarks, rows of the control, and the control's alarm."""
    facts = examining.facts(chosen.measured, executor, say)
    different = {} if order.allow_different else examining.differences(chosen.measured, executor, say)
    early = {
        each.id: verdicts.before_timing(each, *facts[each.id], different.get(examining.kind(each.point), "")) for each in chosen.measured
    }
    timing = [each for each in chosen.measured if early[each.id] is None]
    control = chosen.control if order.control and timing else ()
    timed = _time(timing, control, executor, Rule(order.threshold, order.tolerance, max(1, len(timing))), deadline, say)
    rows = [early[each.id] or verdicts.timed_row(each, *facts[each.id], timed) for each in chosen.measured]
    rows = verdicts.with_what_forward_left(rows)
    alarm = verdicts.unreliable(timed)
    rows = [verdicts.without_time(row) for row in rows] if alarm else rows
    return rows + list(chosen.settled), [verdicts.control_row(each, timed) for each in control], alarm


def _time(
    benchmarks: Sequence[Benchmark], control: Sequence[Benchmark], executor: Executor, rule: Rule, deadline: float, say: Say
) -> Timed:
    """The search, then the confirmation of what it flagged, which may go beyond the budget: a flag is not left standing."""
    tracks = [Track(each.point, each.variant) for each in benchmarks]
    again = [Track(each.point, each.variant, control=True) for each in control]
    say(f"timing {len(tracks)} benchmarks")
    found = rounds.search(
        tracks, again, executor, rule, lambda: time.monotonic() < deadline, lambda left: say(f"timing: {left} of {len(tracks)} open")
    )
    flagged = [track for track, verdict in found.decided.items() if verdict == "slower"]
    flagged = [] if found.alarms else flagged
    if flagged:
        say(f"confirming {len(flagged)} in fresh processes")
    confirmation, sure = rounds.confirm(flagged, executor, rule, found)
    return Timed(found, confirmation, frozenset(sure), rule)
