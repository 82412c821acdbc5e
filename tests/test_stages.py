"""Seconds by stage, by a clock that the test moves."""

from layerbench.bench.process.stages import Stages


def test_a_stage_lasts_until_the_next_begins_and_those_of_one_name_add_up() -> None:
    told: list[tuple[str, str]] = []
    now = [100.0]
    stages = Stages(lambda stage, variant: told.append((stage, variant)), lambda: now[0])
    now[0] += 7.0  # before the first stage: nobody's
    for stage, variant, seconds in (("make", "a", 1.0), ("verify", "a", 2.0), ("make", "b", 0.5)):
        stages(stage, variant)
        now[0] += seconds
    assert stages.take() == {"make": 1.5, "verify": 2.0}
    assert told == [("make", "a"), ("verify", "a"), ("make", "b")]
    now[0] += 5.0
    assert stages.take() == {}
