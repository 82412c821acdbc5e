"""Asks for units in rounds over all open benchmarks, until each benchmark is decided or the time is up.  Then it confirms the flags."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ..data.check_record import Unit
from ..data.record import Point
from ..stats import sequential
from ..stats.sequential import CONFIRMATIONS, LOOKS, Rule, Spread
from . import unit
from .executors import Executor, Fault

CONFIRMATION = 1000  # numbers from here on are the confirmation's: other draws of places and orders


@dataclass(frozen=True)
class Track:
    """What is timed: a variant at a point; base against head, or for the control base against base."""

    point: Point
    variant: str
    control: bool = False

    def __hash__(self) -> int:
        return hash((self.point.id, self.variant, self.control))

    @property
    def sides(self) -> tuple[str, str]:
        return ("base", "base") if self.control else ("base", "head")


@dataclass
class Found:
    """Grows as units come in.  decided: slower (flagged) | faster | clear; a track that is in none of the three is still open."""

    units: dict[Track, list[Unit]] = field(default_factory=dict)
    decided: dict[Track, str] = field(default_factory=dict)
    faults: dict[Track, Fault] = field(default_factory=dict)
    alarms: dict[Track, float] = field(default_factory=dict)  # control -> the difference that it showed
    spread: Spread = field(default_factory=lambda: Spread(sequential.LEAST_SPREAD, 0.0))
    late: bool = False  # the time was up while something was open

    def open(self, tracks: Sequence[Track]) -> list[Track]:
        return [track for track in tracks if track not in self.decided and track not in self.faults]


def search(
    tracks: Sequence[Track],
    control: Sequence[Track],
    executor: Executor,
    rule: Rule,
    in_time: Callable[[], bool],
    done: Callable[[int], None],
) -> Found:
    """Units of every track until it is decided.  The control goes along as long as anything is open.

    done(n): n tracks are still open.
    """
    found = Found({track: [] for track in (*tracks, *control)})
    for number in range(LOOKS[-1]):
        left = found.open(tracks)
        if not left:
            break
        executor.renew(number)
        for track in (*left, *found.open(control)):
            if not in_time():
                found.late = True
                return found
            _take(track, number, executor, found, rule)
        if number + 1 in LOOKS:
            _look(found, tracks, control, rule)
            done(len(found.open(tracks)))
    return found


def _take(track: Track, number: int, executor: Executor, found: Found, rule: Rule) -> None:
    taken = executor.unit(track.point, track.variant, track.sides, number, unit.until(track.point.device, rule.threshold))
    if isinstance(taken, Fault):
        found.faults[track] = taken
    else:
        found.units[track].append(taken)


def _look(found: Found, tracks: Sequence[Track], control: Sequence[Track], rule: Rule) -> None:
    found.spread = sequential.pooled([differences(units) for units in found.units.values()])
    for track in found.open(tracks):
        verdict = sequential.decide(sequential.mean(differences(found.units[track]), found.spread), rule)
        if verdict != "undecided":
            found.decided[track] = verdict
    for track in found.open(control):
        mean = sequential.mean(differences(found.units[track]), found.spread)
        if sequential.alarm(mean, rule):
            found.alarms[track] = mean.value


def confirm(flagged: Sequence[Track], executor: Executor, rule: Rule, before: Found) -> tuple[Mapping[Track, list[Unit]], set[Track]]:
    """New units of fresh processes for what was flagged, and which of it they say again.  What fails there is put with the faults."""
    units: dict[Track, list[Unit]] = {track: [] for track in flagged}
    found, spread = Found(units), sequential.afterwards(before.spread)
    sure: set[Track] = set()
    for number in range(CONFIRMATIONS[-1]):
        left = [track for track in found.open(flagged) if track not in sure]
        if not left:
            break
        if number % executor.per_confirmation == 0:
            executor.restart()
        for track in left:
            _take(track, CONFIRMATION + number, executor, found, rule)
        if number + 1 in CONFIRMATIONS:
            sure |= {track for track in found.open(left) if sequential.confirmed(sequential.mean(differences(units[track]), spread), rule)}
    before.faults |= found.faults
    return units, sure


def differences(units: Sequence[Unit]) -> list[float]:
    return [unit.difference for unit in units]
