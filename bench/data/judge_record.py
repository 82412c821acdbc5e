"""The data of a judgement: what the referee says of each candidate.  Codes do not change from version to version; sentences may."""

from msgspec import Struct

SCHEMA = 1


class Speed(Struct, frozen=True):
    """How many times faster than another: ratio with its 95 % interval, the noise floor, and the verdict on it."""

    against: str  # the reference, or torch.compile of it
    ratio: float
    low: float
    high: float
    floor: float
    verdict: str  # faster | slower | same | unclear


class Verdict(Struct, frozen=True):
    """On one candidate.

    code     "" where it is right; else what is wrong: wrong, wrong-shape, wrong-dtype, wrong-outputs, raises, cannot-load, died, too-slow,
             too-large, not-a-plain-tensor, shared-output, no-such-memory, speaks-out-of-turn, more-cores, helper-process, too-short.
    outcome  right | wrong | refused | undecided.
    """

    candidate: str
    outcome: str
    code: str = ""
    why: str = ""
    accuracy: float = 0.0  # the worst share of what is allowed that an output was off
    speeds: tuple[Speed, ...] = ()
    seconds: float = 0.0  # of a call: the median
    reference_seconds: float = 0.0
    turn_seconds: float = 0.0  # of a call of a candidate that does nothing, which is part of both
    rounds: int = 0
    calls: int = 0  # in a block
    looked_at: int = 0  # timed calls of which the outputs were checked


class Judgement(Struct, frozen=True):
    """All candidates of a problem.  apart: what keeps a candidate's process from the rest."""

    schema: int
    problem: str
    sizes: dict[str, int]
    apart: str
    seconds: float
    verdicts: tuple[Verdict, ...]


WRONG = ("wrong", "wrong-shape", "wrong-dtype", "wrong-outputs", "raises", "cannot-load", "died")  # the others are refused
UNDECIDED = ("too-short", "too-large")


def outcome(code: str) -> str:
    return "right" if not code else "wrong" if code in WRONG else "undecided" if code in UNDECIDED else "refused"


def exit_code(judgement: Judgement) -> int:
    """0 every candidate is right and was judged · 1 one is wrong or refused · 4 nothing could be decided."""
    outcomes = {each.outcome for each in judgement.verdicts}
    if outcomes & {"wrong", "refused"}:
        return 1
    return 4 if outcomes == {"undecided"} else 0
