"""A judgement in a terminal: a line for each candidate, and why where it is not right; or the whole of it as JSON for a program."""

import msgspec
from rich.console import Console
from rich.text import Text

from ..data.judge_record import Judgement, Verdict
from ..text.ratio import ratio

STYLES = {"right": "bold", "wrong": "bold red", "refused": "bold red", "undecided": "yellow"}


def as_json(judgement: Judgement) -> str:
    return msgspec.json.format(msgspec.json.encode(judgement)).decode()


def print_judgement(console: Console, judgement: Judgement) -> None:
    for each in judgement.verdicts:
        console.print(Text(f"{each.candidate}: {_sentence(each)}", style=STYLES[each.outcome]))
        if each.rounds:
            console.print(Text(_facts(each)))
    sizes = ", ".join(f"{name}={value}" for name, value in judgement.sizes.items())
    console.print(Text(f"{judgement.problem}{f' at {sizes}' if sizes else ''}; {judgement.seconds:.0f} s"))
    console.print(Text(f"apart: {judgement.apart}", style="dim"))


def _sentence(verdict: Verdict) -> str:
    if verdict.outcome != "right":
        return f"{verdict.outcome} ({verdict.code}): {verdict.why}"
    if not verdict.speeds:
        return "right, not timed"
    speed = verdict.speeds[0]
    told = {"faster": "faster than", "slower": "slower than", "same": "as fast as"}.get(speed.verdict, "not to be told apart in time from")
    return f"right, {told} {speed.against}: {ratio(speed.ratio)}x ({ratio(speed.low)} to {ratio(speed.high)})"


def _facts(verdict: Verdict) -> str:
    mine, reference, turn = (f"{seconds * 1e6:.3g} us" for seconds in (verdict.seconds, verdict.reference_seconds, verdict.turn_seconds))
    return (
        f"  a call {mine}, the reference's {reference}, of which {turn} are the turn itself; noise floor {verdict.speeds[0].floor:.1%}; "
        f"{verdict.rounds} rounds of {verdict.calls} calls, outputs of {verdict.looked_at} timed calls looked at; "
        f"off by {verdict.accuracy:.0%} of what is allowed"
    )
