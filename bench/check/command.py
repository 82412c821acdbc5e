"""`layerbench check`: from what was asked for to a `Check`, and its files.  It knows the order of things; each is done elsewhere."""

import contextlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
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
from ..suite import closure, mount
from . import base, caches, dependencies, examining, kept, neighbours, pairing, renaming, rounds, sources, submodules, verdicts, worktrees
from .executors import Executor
from .mounting import Opened, Trees, opened
from .pairing import Benchmark, Plan
from .renaming import Renamed
from .rounds import Track
from .sources import Sources
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
    with worktrees.checked_out(root, commit) as worktree, sources.found_as_in_a_worker():
        trees = Trees(root, worktree, head, worktrees.base_path(root, worktree, head, commit))
        code = sources.sources(trees)
        copied = tuple(sources.installed_copies(trees, code))
        apart = sources.apart(trees, code, order.isolate, order.everything)
        likely = renaming.pairs(*(renaming.declared(sources.layer_files(suite)) for suite in (trees.head, trees.base)))
        with caches.held(worktree, order.cache, {"base": worktree, "head": root}, code) as folders, contextlib.ExitStack() as stack:
            say(f"importing both sides{'; extensions are built first, which may take minutes' if any(folders.builders.values()) else ''}")
            before, importing = folders.built(), time.monotonic()
            ready = stack.enter_context(opened(trees, order.threads, apart, folders.variables, order.hang_seconds, likely))
            imported = time.monotonic()  # and extensions built: that is no part of the budget
            built = caches.note(folders.built() - before, imported - importing)
            lost = submodules.missing(root, commit)
            ready, renamed = examining.renamed(ready, likely, order.selection)
            ready = replace(ready, broken=sources.explained(ready.broken, trees, code, lost))
            chosen = _plan(order, trees, ready, code, lost, renamed)
            proved = examining.proved(chosen.proved, root, order.threads, order.hang_seconds, say)
            codes = {layer.name: code["base"][str(_absolute(layer))].digest for layer in ready.layers["base"]}
            executor = kept.remembering(ready.executor, order.cache, codes, ready.environment)
            with neighbours.noticed((each.point.device for each in chosen.measured), say) as (telling, seen):
                rows, control, alarm = _measure(order, chosen, executor, imported + order.budget_seconds, telling)
            rows += proved
            wanted = dependencies.differences(root, commit)
            said = (chosen_base.note, built, neighbours.note(seen), dependencies.note(root, commit, wanted), *map(str, renamed), *copied)
            notes = tuple(note for note in (*said, *_notes(ready)) if note)
        sources.stood_still(trees, code, {each.file for each in (*chosen.measured, *chosen.proved)})
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


def _plan(order: Order, trees: Trees, ready: Opened, code: Sources, lost: Mapping[str, str], renamed: Sequence[Renamed]) -> Plan:
    """lost: submodules that the base has not, and why."""
    files = {side: {layer.name: _absolute(layer) for layer in ready.layers[side]} for side in ("base", "head")}
    roots = {"base": trees.worktree, "head": trees.root}
    places = {name: str(file.relative_to(roots[side])) for side in files for name, file in files[side].items()}
    changed = {
        name
        for name, file in files["head"].items()
        if order.everything or name not in files["base"] or closure.changed(code["base"][str(files["base"][name])], code["head"][str(file)])
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
        besides = [*torn, *(f"{each.old} is called {each.new} at the head" for each in renamed)]
        raise Mistake(f"{mistake}; besides, {besides[0]}" if besides else str(mistake)) from None
    return replace(chosen, settled=tuple(_torn(row, ready, lost) for row in chosen.settled))


def _torn(row: Row, ready: Opened, lost: Mapping[str, str]) -> Row:
    """A layer that only one side has may be in a file that does not import on the other."""
    if row.verdict == "missing" and (why := ready.broken["head"].get(row.file)):
        place = re.match(r"(.+?), line (\d+)", why)  # of the error, which may be in another file
        file, line = (place[1], int(place[2])) if place else (row.file, 1)
        return structs.replace(row, verdict="import error", file=file, line=line, reason=f"at the head, {why}")
    if row.verdict == "new" and (why := ready.broken["base"].get(row.file)):
        return structs.replace(row, verdict="not compared", reason=f"at the base, {why}")
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
