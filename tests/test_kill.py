"""kill -9 of a run, or of its worker, at seeded random instants: after --resume nothing is lost, doubled or misshapen.

A handful; validation/kills.py makes a hundred.
"""

from pathlib import Path

import kills

SEEDS = (1, 5)  # the parent, the worker


def test_nothing_is_lost_and_nothing_comes_twice(tmp_path: Path) -> None:
    undisturbed = kills.prepare(tmp_path)
    outcomes = [kills.kill_once(tmp_path, seed, undisturbed) for seed in SEEDS]
    assert [outcome.wrong for outcome in outcomes] == [""] * len(SEEDS)
    assert {outcome.who for outcome in outcomes} == {"parent", "worker"}
    assert max(outcome.left_seconds for outcome in outcomes if outcome.who == "parent") < 2
