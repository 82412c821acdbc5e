"""What a check says in each of its faces, to the letter: sentence, terminal, Markdown, JUnit, annotations."""

import io
import itertools
import math
import random
import re
from xml.etree import ElementTree

import check_example as make
import pytest
from check_example import check, estimate, row, slower, timed
from markdown_it import MarkdownIt
from msgspec import structs
from rich.console import Console

from layerbench.bench.check.show import annotations, junit, markdown, screen, words
from layerbench.bench.check.show import verdict as spoken
from layerbench.bench.data.check_record import FAILURES, Check, Estimate, Exact, Side, exit_code
from layerbench.bench.text import digits

SLOWER = "softmax-forward-cpu-float32-batch8-width1024-function"
CONTROL_CHARACTERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]")


@pytest.mark.parametrize(
    ("ratio", "low", "high", "text"),
    [
        (1.079, 1.0602, 1.0978, "+7.9 % (+6.0 to +9.8 %)"),
        (1.002, 0.996, 1.008, "+0.2 % (-0.4 to +0.8 %)"),
        (1.0023, 1.0003, 1.0043, "+0.23 % (+0.03 to +0.43 %)"),
        (0.876, 0.865, 0.887, "-12.4 % (-13.5 to -11.3 %)"),
        (1.08, 1.03, 1.13, "+8 % (+3 to +13 %)"),
        (3.2, 2.9, 3.5, "+220 % (+190 to +250 %)"),
        (1.0, 0.98, 1.02, "0.0 % (-2.0 to +2.0 %)"),
        (1.0, 1.0, 1.0, "0.00 % (0.00 to 0.00 %)"),
    ],
)
def test_a_change_has_the_digits_that_its_interval_supports(ratio, low, high, text):
    assert digits.change(Estimate(ratio, low, high, 0.02)) == text


def test_the_page_has_it_in_two_parts_without_plus_signs():
    assert digits.slow_down(estimate(7.9)) == ("7.9 %", "6.0 to 9.8 %")
    assert digits.slow_down(estimate(-12.4, 1.1)) == ("-12.4 %", "-13.5 to -11.3 %")


@pytest.mark.parametrize(
    ("value", "text"), [(0.021, "2.1 %"), (0.0083, "0.83 %"), (0.124, "12 %"), (1.3, "130 %"), (math.inf, ""), (math.nan, "")]
)
def test_the_smallest_detectable_effect_has_two_digits(value, text):
    assert digits.detectable(Estimate(1.0, 0.9, 1.1, value)) == text


def test_what_was_not_measured_is_empty_and_never_0():
    bare = row("unchanged")
    assert digits.change(None) == digits.detectable(None) == words.units(bare) == words.numbers(bare) == ""
    assert digits.slow_down(None) == ("", "")
    assert digits.change(Estimate(1.0, 0.0, math.inf, 0.1)) == ""
    assert words.measured_seconds(bare) is None
    assert words.control(check(control=())) == ""


def test_settings_are_shown_as_they_were_given():
    assert [digits.percent(value) for value in (0.05, 0.005, 0.075, 0.1)] == ["5 %", "0.5 %", "7.5 %", "10 %"]


def test_exact_numbers_that_moved_the_worse_ones_first():
    numbers = (Exact("peak_forward_bytes", 12288, 8192, False), Exact("breaks", 0, 0, False), make.SAVED, Exact("graphs", 1, 3, True))
    shown = "saved 4,096 -> 8,192 bytes, graphs 1 -> 3, peak forward 12,288 -> 8,192 bytes"
    assert words.numbers(row("larger", exact=numbers)) == shown


@pytest.mark.parametrize(
    ("side", "text"),
    [
        (make.BASE, "main (1a2b3c4)"),
        (make.HEAD, "working tree (5d6e7f8 + changes)"),
        (Side("1a2b3c4d", make.BASE.commit, False), "1a2b3c4"),
        (Side("main", "", False), "main"),
    ],
)
def test_a_side(side, text):
    assert words.side(side) == text


@pytest.mark.parametrize(
    ("whole", "text"),
    [
        (
            check(*(timed("clear", batch=batch) for batch in range(1, 13))),
            "No layer got slower by 5 % or more: 12 benchmarks compared with main (1a2b3c4).",
        ),
        (
            check(timed("clear"), timed("faster", -9.0), row("unchanged"), row("unchanged"), row("new"), threshold=0.075),
            "No layer got slower by 7.5 % or more: 2 benchmarks compared with main (1a2b3c4), 1 faster; not timed: 1 new, 2 unchanged.",
        ),
        (
            check(timed("clear"), timed("inconclusive"), timed("clear"), row("proved")),
            "No layer was found to be slower by 5 % or more: 3 benchmarks compared with main (1a2b3c4), 1 inconclusive; "
            "not timed: 1 proved.",
        ),
        (check(timed("inconclusive")), "Nothing was decided: 1 benchmark compared with main (1a2b3c4), 1 inconclusive."),
        (
            check(slower(7.9), slower(6.1, batch=64), row("wrong"), *[timed("clear")] * 9),
            f"2 of 12 benchmarks got slower, the worst {SLOWER} by 7.9 % (6.0 to 9.8 %); 1 is wrong. "
            "Compared with main (1a2b3c4); the other 9: 9 clear.",
        ),
        (check(slower()), f"1 of 1 benchmark got slower, {SLOWER} by 7.9 % (6.0 to 9.8 %). Compared with main (1a2b3c4)."),
        (
            check(row("larger", exact=(make.SAVED,)), row("missing"), row("missing"), row("different"), row("unchanged")),
            f"2 of 4 benchmarks are missing, the first {SLOWER}; 1 has a reference that computes something else; 1 got larger. "
            "Compared with main (1a2b3c4); the other 1: 1 unchanged. What was removed on purpose passes with --allow-missing.",
        ),
        (
            check(row("larger", exact=(make.SAVED,)), timed("clear")),
            f"1 of 2 benchmarks got larger, {SLOWER} (saved 4,096 -> 8,192 bytes). Compared with main (1a2b3c4); the other 1: 1 clear.",
        ),
        (
            check(*[row("unchanged")] * 12, row("new")),
            "Nothing that could make a layer slower has changed since main (1a2b3c4): 12 benchmarks have the same source; "
            "nothing was measured. Besides: 1 new.",
        ),
        (
            check(row("unchanged"), control=()),
            "Nothing that could make a layer slower has changed since main (1a2b3c4): 1 benchmark has the same source; "
            "nothing was measured.",
        ),
        (
            check(row("proved"), row("proved", step="backward"), row("unchanged")),
            "No layer is wrong: the values of 2 benchmarks were proved, and nothing was timed. Besides: 1 unchanged.",
        ),
        (
            check(slower(), timed("clear"), unreliable="the base against itself differs by 3.1 %."),
            "The machine is unreliable: the base against itself differs by 3.1 %; no verdict on time.",
        ),
        (
            check(slower(), row("wrong"), unreliable="the base against itself differs by 3.1 %"),
            f"1 of 2 benchmarks is wrong, {SLOWER}. Compared with main (1a2b3c4). "
            "The machine is unreliable: the base against itself differs by 3.1 %; no verdict on time.",
        ),
        (check(), "Nothing was compared: no benchmark was selected."),
        (
            check(row("skipped", reason="Triton needs a GPU."), row("skipped", batch=9, reason="Triton needs a GPU")),
            "Nothing was compared: 2 skipped (Triton needs a GPU).",
        ),
        (check(row("new"), row("skipped", reason="no")), "Nothing was compared: 1 new, 1 skipped."),
    ],
)
def test_the_sentence(whole, text):
    assert spoken.sentence(whole) == text


def test_failures_and_the_exit_code_agree_whatever_the_verdicts():
    for verdict, unreliable, strict in itertools.product(words.ORDER, ("", "noise"), (False, True)):
        whole = check(row(verdict), timed("clear"), unreliable=unreliable, strict=strict)
        assert bool(words.failures(whole)) == (exit_code(whole) == 1), verdict
    assert set(words.MEANINGS) - {"no verdict"} == set(words.ORDER) and set(spoken._VERBS) == set(FAILURES)


def test_only_what_was_compared_and_decided_is_green():
    """Whatever rows come together: exit code 0 never hides that nothing was decided, and what was not compared is said first."""
    dice = random.Random(0)
    kinds = [*words.ORDER]
    for _ in range(2_000):
        chosen = [timed(kind) if kind in words.TIMED else row(kind, reason="because") for kind in dice.choices(kinds, k=dice.randint(0, 4))]
        whole = check(*chosen)
        verdicts = {each.verdict for each in chosen}
        if exit_code(whole) != 0:
            continue
        assert not verdicts & set(FAILURES)
        assert verdicts & {"faster", "clear", "proved", "unchanged"}, verdicts
        assert "inconclusive" not in verdicts or verdicts & {"faster", "clear", "proved"}, verdicts
        if missed := [each for each in chosen if each.verdict == "not compared"]:
            assert spoken.sentence(whole).startswith(f"{words.plural(len(missed), 'benchmark')} w"), spoken.sentence(whole)


def test_what_was_not_compared_is_said_first_with_its_cause():
    whole = check(
        timed("clear"),
        row("not compared", reason="at the base, layers/a.py, line 3: the file does not import: ImportError: x"),
        row("not compared", batch=9, reason="at the base, layers/a.py, line 3: the file does not import: ImportError: x"),
    )
    said = "2 benchmarks were not compared: at the base, layers/a.py, line 3: the file does not import: ImportError: x. No layer got slower"
    assert spoken.sentence(whole).startswith(said)
    assert exit_code(whole) == 0


def test_whatever_comes_together_the_sentence_counts_what_was_not_compared_and_what_stayed_open():
    dice = random.Random(1)
    for _ in range(2_000):
        kinds = dice.choices([*words.ORDER], k=dice.randint(1, 5))
        chosen = [timed(kind) if kind in words.TIMED else row(kind, reason=f"because of {kind}") for kind in kinds]
        said = spoken.sentence(check(*chosen))
        for kind in {"inconclusive", "new", "skipped"} & set(kinds):
            assert f"{kinds.count(kind)} {kind}" in said, said
        if "not compared" in kinds:
            assert re.search(
                rf"({kinds.count('not compared')} benchmarks? w\w+|Nothing was compared: .*) ?not compared.*because of not", said
            ), said


def test_of_several_causes_each_has_its_number_the_most_frequent_first():
    causes = ("x is gone", "y died", "y died", "z", "u")
    said = spoken.sentence(check(timed("clear"), *(row("not compared", batch=number, reason=why) for number, why in enumerate(causes))))
    assert said.startswith("5 benchmarks were not compared: 2 since y died; 1 since x is gone; 1 since z; and 1 other cause. No layer got")
    alone = spoken.sentence(check(*(row("not compared", batch=number, reason=why) for number, why in enumerate(causes[:3]))))
    assert alone == "Nothing was compared: 3 not compared (2 since y died; 1 since x is gone)."


@pytest.mark.parametrize(
    ("percent", "seconds", "said"),
    [
        (10.0, 20.0, "About --budget 90s would tell: it takes 16 units, and there were 4."),
        (40.0, 20.0, "A quieter machine, or a larger --threshold, would tell: 32 units, as many as are ever taken, would not."),
        (10.0, 0.0, ""),
    ],
)
def test_where_nothing_was_decided_it_is_no_pass_and_a_budget_that_would_do_is_named(percent, seconds, said):
    found = Estimate(1.1, 1.08, 1.13, percent / 100)
    open_ = structs.replace(row("inconclusive"), units=make.units(10.0, 4), estimate=found)
    whole = structs.replace(check(open_), seconds=20.0, stages={"timing": seconds} if seconds else {})
    assert exit_code(whole) == 4
    assert spoken.sentence(whole) == f"Nothing was decided: 1 benchmark compared with main (1a2b3c4), 1 inconclusive.{said and ' '}{said}"


def test_where_the_time_was_up_before_the_first_look_a_budget_is_named_too():
    open_ = [structs.replace(row("inconclusive", batch=batch), units=make.units(0.0, 2)) for batch in (1, 2)]
    whole = structs.replace(check(*open_), seconds=20.0, control=(make.control(),))
    said = "Nothing was compared: 2 inconclusive. About --budget 30s would tell: nothing is decided before there are 4 units of each."
    assert (exit_code(whole), spoken.sentence(whole)) == (4, said)


def test_a_commit_against_itself_is_told():
    """As a push to main that is checked against main: no reader shall take it for a comparison."""
    same = structs.replace(make.HEAD, commit=make.BASE.commit, dirty=False)
    said = "Base and head are one commit, main (1a2b3c4), so nothing can have changed (name an earlier one, as HEAD~1): 1 benchmark has the"
    assert spoken.sentence(check(row("unchanged"), head=same)).startswith(said)
    for other in (structs.replace(same, dirty=True), make.HEAD):
        assert spoken.sentence(check(row("unchanged"), head=other)).startswith("Nothing that could make a layer slower has changed")


def test_rows_are_ordered_failures_first_and_the_worst_of_them_first():
    rows = words.ordered(make.every())
    assert [each.verdict for each in rows] == [
        *("wrong", "missing", "different", "slower", "slower", "larger", "inconclusive", "faster"),
        *("clear", "clear", "proved", "new", "skipped", "unchanged", "unchanged"),
    ]
    assert [each.estimate.ratio for each in rows if each.verdict == "slower"] == [1.23, 1.079]
    quick = words.ordered([timed("faster", -3.0), timed("faster", -30.0)])
    assert [round(each.estimate.ratio, 2) for each in quick] == [0.7, 0.97]


def test_a_row_in_one_line():
    whole = make.example()
    said = {f"{each.verdict} {each.point.size['batch']}": words.message(whole, each) for each in whole.rows}
    assert said["slower 8"] == "slower: +7.9 % (+6.0 to +9.8 %) against main (1a2b3c4), smallest detectable slow-down 2.1 %, 8 + 6 units"
    assert said["slower 64"].endswith("8 + 6 units; saved 4,096 -> 8,192 bytes, graphs 1 -> 3")
    assert said["wrong 8"] == "wrong: weight grad is off by 0.0031, allowed 4.8e-07"
    assert said["missing 8"] == "missing: only the base has it"
    assert said["unchanged 8"] == "unchanged: the same source on both sides, so not measured"
    whole = make.example(unreliable="noise")
    assert words.message(whole, slower()).startswith("no verdict: +7.9 % (+6.0 to +9.8 %) against main (1a2b3c4)")


def test_the_control_is_the_one_furthest_from_nothing():
    assert words.control(check()) == "+0.2 % (-0.4 to +0.8 %)"
    several = check(control=(make.control(0.2), make.control(-1.1), make.control(0.9)))
    assert words.control(several) == "-1.1 % (-1.7 to -0.5 %), the furthest from 0 of 3"


def test_the_machine():
    shown = "AMD EPYC 7B13, 2 cores, 1 thread; Python 3.11.7, torch 2.13.0, triton 3.7.0; "
    assert words.machine(check()) == shown + "both sides in one process"
    assert words.machine(check(isolated="another torch")) == shown + "each side in processes of its own: another torch"


def printed(whole: Check, width: int = 160) -> str:
    to = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    screen.print_check(to, whole)
    return "\n".join(line.rstrip() for line in to.file.getvalue().splitlines())


def small() -> Check:
    """One row of each kind that the faces treat differently."""
    return check(
        slower(exact=(make.SAVED,)),
        row("missing", layer="layer_norm", variant="stock"),
        row("wrong", layer="gelu", reason="off by 0.1 | <b>"),
        timed("inconclusive", 3.1, 32, 4.2, 0.089, layer="linear"),
        row("unchanged", layer="relu"),
        notes=("another run was measuring on cpu",),
    )


WIDE = """\
1 of 4 benchmarks got slower, softmax-forward-cpu-float32-batch8-width1024-function by 7.9 % (6.0 to 9.8 %); 1 is wrong; 1 is missing. Compared with main
(1a2b3c4); the other 2: 1 inconclusive, 1 unchanged. What was removed on purpose passes with --allow-missing.
note: another run was measuring on cpu
control: base against itself +0.2 % (-0.4 to +0.8 %)
verdict       benchmark                                                               change  detectable  units  exact numbers
wrong         gelu-forward-cpu-float32-batch8-width1024-function
missing       layer_norm-forward-cpu-float32-batch8-width1024-stock
slower        softmax-forward-cpu-float32-batch8-width1024-function  +7.9 % (+6.0 to +9.8 %)       2.1 %  8 + 6  saved 4,096 -> 8,192 bytes
inconclusive  linear-forward-cpu-float32-batch8-width1024-function         +3 % (-1 to +7 %)       8.9 %     32
Change: time of the head against the base, above 0 is slower, with its 95 % interval. Detectable: the smallest slow-down that so many units find 95 times in
100. Units: fresh pairs of instances, + those that confirmed. Threshold: 5 %.
the other 1 benchmark: 1 unchanged
wrong gelu-forward-cpu-float32-batch8-width1024-function: off by 0.1 | <b>
missing layer_norm-forward-cpu-float32-batch8-width1024-stock: only the base has it"""  # noqa: E501  as wide as a log


def test_a_wide_terminal():
    assert printed(small()) == WIDE


def test_why_each_side_has_its_own_process_is_said():
    said = printed(check(isolated="ops.py is imported by its plain name"), 100).splitlines()
    assert "each side in processes of its own: ops.py is imported by its plain name" in said


def test_a_narrow_terminal():
    assert (
        printed(small(), 80)
        == """\
1 of 4 benchmarks got slower,
softmax-forward-cpu-float32-batch8-width1024-function by 7.9 % (6.0 to 9.8 %); 1
is wrong; 1 is missing. Compared with main (1a2b3c4); the other 2: 1
inconclusive, 1 unchanged. What was removed on purpose passes with
--allow-missing.
note: another run was measuring on cpu
control: base against itself +0.2 % (-0.4 to +0.8 %)
wrong         gelu-forward-cpu-float32-batch8-width1024-function
missing       layer_norm-forward-cpu-float32-batch8-width1024-stock
slower        softmax-forward-cpu-float32-batch8-width1024-function
              +7.9 % (+6.0 to +9.8 %), detectable 2.1 %, units 8 + 6
              saved 4,096 -> 8,192 bytes
inconclusive  linear-forward-cpu-float32-batch8-width1024-function
              +3 % (-1 to +7 %), detectable 8.9 %, units 32
Change: time of the head against the base, above 0 is slower, with its 95 %
interval. Detectable: the smallest slow-down that so many units find 95 times in
100. Units: fresh pairs of instances, + those that confirmed. Threshold: 5 %.
the other 1 benchmark: 1 unchanged
wrong gelu-forward-cpu-float32-batch8-width1024-function: off by 0.1 | <b>
missing layer_norm-forward-cpu-float32-batch8-width1024-stock: only the base has
it"""
    )


def test_a_terminal_where_nothing_moved():
    assert (
        printed(make.passing(), 100)
        == """\
No layer got slower by 5 % or more: 12 benchmarks compared with main (1a2b3c4); not timed: 1
unchanged.
control: base against itself +0.2 % (-0.4 to +0.8 %)
all 13 benchmarks: 12 clear, 1 unchanged"""
    )


def test_where_the_time_went_is_said_and_that_some_took_more_than_the_fewest_units():
    stages = {"reading": 0.2, "importing": 6.2, "verifying": 1.1, "timing": 69.0}
    last = printed(check(timed("clear", number=4), timed("inconclusive", number=32, batch=64), stages=stages)).splitlines()[-1]
    assert last == "took 83 s: 69 s timing, 6 s importing, 1 s verifying; 1 benchmark took more than 4 units"


def test_equal_reasons_are_said_once():
    rows = [row("skipped", batch=batch, reason="Triton needs a GPU") for batch in (1, 8, 64)]
    last = printed(check(*rows, timed("clear"))).splitlines()[-1]
    assert last == "skipped softmax-forward-cpu-float32-batch1-width1024-function and 2 more: Triton needs a GPU"


@pytest.mark.parametrize("width", [80, 160])
def test_no_line_is_wider_than_the_terminal_and_none_obeys_a_foreign_code(width):
    shown = printed(make.hostile(), width)
    assert max(map(len, shown.splitlines())) <= width
    assert not CONTROL_CHARACTERS.search(shown.replace("\n", ""))
    assert "</td><script>hacked(1)</script>|`x` ]]>" in shown.replace("\n", " ")


SUMMARY = """\
<!-- layerbench check -->
### Regression check: failed

**1 of 4 benchmarks got slower, softmax-forward-cpu-float32-batch8-width1024-function by 7.9 % (6.0 to 9.8 %); 1 is wrong; 1 is missing. Compared with main (1a2b3c4); the other 2: 1 inconclusive, 1 unchanged. What was removed on purpose passes with --allow-missing.**

- another run was measuring on cpu
- control: base against itself +0.2 % (-0.4 to +0.8 %)
- smallest slow-down that could have been seen, by benchmark: 2.1 % to 8.9 % (<code>linear-forward-cpu-float32-batch8-width1024-function</code>)

| benchmark | verdict | change (95 % interval) | smallest detectable | units | exact numbers, reason |
|---|---|---:|---:|---:|---|
| <code>gelu-forward-cpu-float32-batch8-width1024-function</code> | wrong |  |  |  | off by 0.1 &#124; &#60;b&#62; |
| <code>layer&#95;norm-forward-cpu-float32-batch8-width1024-stock</code> | missing |  |  |  | only the base has it |
| <code>softmax-forward-cpu-float32-batch8-width1024-function</code> | slower | +7.9 % (+6.0 to +9.8 %) | 2.1 % | 8 + 6 | saved 4,096 -&#62; 8,192 bytes |

<details><summary>The other 2 benchmarks: 1 inconclusive, 1 unchanged</summary>

| benchmark | verdict | change (95 % interval) | smallest detectable | units | exact numbers, reason |
|---|---|---:|---:|---:|---|
| <code>linear-forward-cpu-float32-batch8-width1024-function</code> | inconclusive | +3 % (-1 to +7 %) | 8.9 % | 32 |  |
| <code>relu-forward-cpu-float32-batch8-width1024-function</code> | unchanged |  |  |  |  |

</details>

base main (1a2b3c4), head working tree (5d6e7f8 + changes); AMD EPYC 7B13, 2 cores, 1 thread; Python 3.11.7, torch 2.13.0, triton 3.7.0; both sides in one process
"""  # noqa: E501  a row of a table is one line


def test_a_markdown_summary():
    assert markdown.summary(small()) == SUMMARY


def test_strict_has_open_rows_in_the_table_of_the_summary():
    rows = (timed("clear"), timed("inconclusive", layer="linear"))
    assert markdown.summary(check(*rows)).index("| inconclusive |") > markdown.summary(check(*rows)).index("<details>")
    strict = markdown.summary(check(*rows, strict=True))
    assert strict.index("| inconclusive |") < strict.index("<details>")
    assert strict.startswith("<!-- layerbench check -->\n### Regression check: inconclusive\n")


def test_the_summary_says_what_was_not_compared_a_line_for_each_cause():
    apart = [row("not compared", batch=batch, reason="the base lacks a_b") for batch in range(5)]
    more = [row("skipped", reason="needs a GPU"), row("new")]
    head, _, _ = markdown.summary(check(timed("clear"), *apart, *more)).partition("<details>")
    (cause,) = [line for line in head.splitlines() if line.startswith("- 5 not compared: the base lacks a&#95;b (<code>softmax-forward-")]
    assert cause.count("<code>") == 3 and cause.endswith("</code> and 2 more)")
    assert "- 1 skipped: needs a GPU (<code>" in head and "- 1 new: only the head has it (<code>" in head
    many = [row("not compared", batch=batch, reason=f"cause {batch}") for batch in range(30)]
    assert "- 20 more causes are in the page\n" in markdown.summary(check(*many))


def test_the_summary_says_nothing_of_what_could_be_seen_on_an_unreliable_machine():
    assert "could have been seen: 1.2 %\n" in markdown.summary(check(timed("clear")))
    assert "could have been seen" not in markdown.summary(check(timed("clear"), unreliable="the base differs from itself"))
    assert "could have been seen" not in markdown.summary(check(row("unchanged")))


def test_a_client_finds_the_summary_by_its_first_line_and_no_reader_sees_it():
    shown = markdown.summary(make.example())
    assert shown.startswith(f"{markdown.MARK}\n") and shown.count(markdown.MARK) == 1
    rendered = MarkdownIt("gfm-like", {"linkify": False}).render(shown)
    assert "layerbench check" not in re.sub(r"<!--.*?-->", "", rendered)
    assert rendered.count("<table>") == 2 and rendered.count("<li>") == 5
    assert rendered.count("<tr>") == 2 + len(make.every())


def test_markdown_of_hostile_names_has_no_markup_of_theirs():
    shown = markdown.summary(make.hostile())
    for found in ("<script", "`", "[link]", ":+1:", "_i_", "</td>", "http://", "\x1b"):
        assert found not in shown, found
    assert set(re.findall(r"</?\w+>", shown)) == {"<code>", "</code>", "<details>", "</details>", "<summary>", "</summary>"}
    tables = [line for line in shown.splitlines() if line.startswith("|")]
    assert len(tables) == 6 + 2 * 2 and {line.count("|") for line in tables} == {7}
    assert "&#60;script&#62;hacked(1)&#60;/script&#62;&#124;&#96;x&#96; &#93;&#93;&#62; %0A&#58;&#58;error&#58;: a b&#91;31m" in shown


@pytest.mark.parametrize("verdict", ["clear", "wrong"])
@pytest.mark.parametrize("limit", [4_000, 64_000])
def test_ten_thousand_rows_stay_under_the_limit_and_those_left_out_are_counted(verdict, limit):
    shown = markdown.summary(make.many(10_000, verdict), limit)
    kept, left_out = shown.count("| <code>layer"), int(re.search(r"result file: ([\d,]+) rows", shown)[1].replace(",", ""))
    assert limit * 0.95 < len(shown.encode()) <= limit
    assert kept + left_out == 10_000 and kept > 10
    assert shown.endswith("both sides in one process\n")


def test_the_fold_gives_way_before_what_moved():
    rows = make.many(3_000).rows + make.many(200, "wrong").rows
    shown = markdown.summary(check(*rows))
    assert shown.count("| wrong |") == 200 and 0 < shown.count("| clear |") < 3_000


def test_markdown_stays_under_the_limit_whatever_the_reasons():
    rows = [row("wrong", reason="é" * 5_000) for _ in range(300)]
    assert len(markdown.summary(check(*rows, notes=("ö" * 2_000,) * 50)).encode()) <= 64_000


def parsed(whole: Check) -> ElementTree.Element:
    """The one testsuite, after what holds for every file: it parses from UTF-8, and the counts are right."""
    root = ElementTree.fromstring(junit.write(whole).encode("utf-8"))
    assert root.tag == "testsuites" and [child.tag for child in root] == ["testsuite"]
    suite = root[0]
    assert [child.tag for child in suite] == ["properties"] + ["testcase"] * (len(suite) - 1)
    cases = suite.findall("testcase")
    assert int(suite.get("tests")) == len(cases)
    for plural, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(suite.get(plural)) == len(suite.findall(f"testcase/{tag}")), plural
    assert {child.tag for case in cases for child in case} <= {"failure", "error", "skipped", "system-out"}
    assert all(len(case) == 1 and case.get("classname") and case.get("name") for case in cases)
    return suite


def said(suite: ElementTree.Element) -> list[tuple[str, str]]:
    """What each testcase came to, and the layer's name."""
    return [(case[0].tag, case.get("classname")) for case in suite.findall("testcase")]


def test_junit_has_a_real_failure_for_each_row_that_fails():
    suite = parsed(make.example())
    assert dict(suite.items()) == {
        "name": "layerbench check",
        "tests": "15",
        "failures": "6",
        "errors": "0",
        "skipped": "2",
        "time": "83.000",
        "timestamp": "2026-11-24T02:00:00",
    }
    assert [name for tag, name in said(suite) if tag == "failure"] == ["rms_norm", "relu", "group_norm", "softmax", "softmax", "dropout"]
    assert [name for tag, name in said(suite) if tag == "skipped"] == ["swiglu", "linear"]
    case = next(case for case in suite.findall("testcase") if case.get("name") == SLOWER)
    message = "slower: +7.9 % (+6.0 to +9.8 %) against main (1a2b3c4), smallest detectable slow-down 2.1 %, 8 + 6 units"
    assert dict(case[0].items()) == {"message": message, "type": "slower"} and case[0].text == message
    assert (case.get("file"), case.get("line"), case.get("classname")) == ("layers/softmax.py", "12", "softmax")
    expected = sum(4 * 3 * 100 * (unit.base_seconds + unit.head_seconds) for unit in make.units(7.9) + make.units(7.9, 6, seed=2))
    assert case.get("time") == f"{expected:.3f}" and 0.33 < expected < 0.37


def test_junit_says_that_an_unchanged_benchmark_passed_unmeasured():
    suite = parsed(check(row("unchanged"), timed("clear")))
    case = suite.findall("testcase")[1]
    assert case.get("time") is None
    assert (case[0].tag, case[0].text) == ("system-out", "unchanged: the same source on both sides, so not measured")


def test_junit_fails_inconclusive_rows_only_under_strict():
    rows = (timed("inconclusive"), timed("clear", layer="gelu"))
    assert said(parsed(check(*rows))) == [("system-out", "softmax"), ("system-out", "gelu")]
    assert said(parsed(check(*rows, strict=True))) == [("failure", "softmax"), ("system-out", "gelu")]


def test_junit_of_an_unreliable_machine_has_an_error_and_no_verdict_on_time():
    rows = (slower(), timed("inconclusive", layer="gelu"), row("wrong", layer="relu"), row("unchanged", layer="linear"))
    suite = parsed(check(*rows, strict=True, unreliable="the base against itself differs by 3.1 %"))
    assert said(suite) == [
        ("failure", "relu"),
        ("skipped", "softmax"),
        ("skipped", "gelu"),
        ("system-out", "linear"),
        ("error", "layerbench check"),
    ]
    case = suite.findall("testcase")[-1]
    assert case.get("name") == "control" and case[0].get("type") == "unreliable"
    assert case[0].text.endswith("The machine is unreliable: the base against itself differs by 3.1 %; no verdict on time.")


def test_junit_of_nothing_is_an_error_not_a_pass():
    suite = parsed(check())
    assert (suite.get("tests"), suite.get("errors"), suite.get("failures")) == ("1", "1", "0")
    assert suite.find("testcase/error").text == "Nothing was compared: no benchmark was selected."
    assert said(parsed(check(row("new")))) == [("skipped", "softmax"), ("error", "layerbench check")]


def test_junit_of_hostile_names_is_well_formed_and_keeps_the_words():
    text = junit.write(make.hostile())
    assert not CONTROL_CHARACTERS.search(text.replace("\n", ""))
    suite = parsed(make.hostile())
    names = [case.get("classname") for case in suite.findall("testcase")]
    assert set(names) == {"</td><script>hacked(1)</script>|`x` ]]> %0A::error:: a b[31m [link](http://x) :+1: _i_"}


def test_annotations():
    assert annotations.lines(check(slower(), timed("clear"), timed("inconclusive", 3.1, 32, 4.2, 0.089, layer="linear"))) == [
        f"::error file=layers/softmax.py,line=12,title={SLOWER} slower::slower: +7.9 %25 (+6.0 to +9.8 %25) against main (1a2b3c4), "
        "smallest detectable slow-down 2.1 %25, 8 + 6 units",
        "::warning file=layers/linear.py,line=12,title=linear-forward-cpu-float32-batch8-width1024-function inconclusive::"
        "inconclusive: +3 %25 (-1 to +7 %25) against main (1a2b3c4), smallest detectable slow-down 8.9 %25, 32 units",
    ]


def test_open_rows_are_errors_under_strict_and_no_list_of_warnings():
    rows = [timed("inconclusive", batch=batch) for batch in range(1, 11)]
    kinds = [
        [line.split()[0] for line in annotations.lines(check(*rows[:number], strict=strict))]
        for number, strict in ((9, 0), (10, 0), (10, 1))
    ]
    assert kinds == [["::warning"] * 9, [], ["::error"] * 10]


def test_a_check_without_a_verdict_is_an_error_of_no_file():
    assert annotations.lines(check(slower(), unreliable="noise")) == [
        "::error title=Regression check::The machine is unreliable: noise; no verdict on time."
    ]
    assert annotations.lines(check()) == ["::error title=Regression check::Nothing was compared: no benchmark was selected."]
    assert annotations.lines(make.passing()) == []


def test_annotations_of_hostile_names_are_one_command_each():
    found = annotations.lines(make.hostile())
    assert [line.split()[0] for line in found] == ["::error", "::error", "::warning"]
    for line in found:
        assert not CONTROL_CHARACTERS.search(line) and "\n" not in line
        properties = line.partition(" ")[2].split("::", 1)[0]
        assert [part.partition("=")[0] for part in properties.split(",")] == ["file", "line", "title"]
        assert "%250A%3A%3Aerror%3A%3A" in properties
