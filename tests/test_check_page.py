"""The page of a regression check: its text, its pictures to the pixel, its size, and what a browser makes of it (skipped without one)."""

import base64
import hashlib
import html.parser
import io
import itertools
import re
import time

import check_example as make
import pytest
from check_example import EVIL, check, estimate, row, slower, timed
from PIL import Image

from layerbench.bench.check.show import dots, page
from layerbench.bench.data.check_record import Exact, Unit

SLOWER = "softmax-forward-cpu-float32-batch8-width1024-function"
AXIS = dots.Axis(-4.0, 12.0, 5.0, 0.5)  # 19 pixels per percent, 0 at 84


def unit(percent: float) -> Unit:
    return Unit(dots.math.log1p(percent / 100), 1e-5, 1e-5, 3, 100, 0)


class Reader(html.parser.HTMLParser):
    """The tags, and the text of every row of the first table, cell by cell; pictures as [] or their own text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.tables = 0
        self.deep = 0

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.tables += tag == "table"
        self.deep += tag == "svg"
        if self.tables == 1 and tag == "tr":
            self.rows.append([])
        elif self.tables == 1 and tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self.deep -= tag == "svg"
        self.tables += tag == "table"  # what follows is no longer the first

    def handle_data(self, data):
        if self.tables == 1 and self.rows and self.rows[-1] and not self.deep:
            self.rows[-1][-1] += data.strip()


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    return reader


def title(text: str) -> str:
    return re.search(r"<title>(.*?)</title>", text)[1]


def test_the_table_has_every_benchmark_the_worst_first_and_empty_cells_where_nothing_was_measured():
    head, *rows = read(page.render(make.example())).rows
    assert head == ["benchmark", "verdict", "", "slower by", "95 % interval", "smallest detectable", "units", "exact numbers, reason"]
    assert [cells[1] for cells in rows] == [
        *("✗wrong", "✗missing", "≠different", "▼slower", "▼slower", "▲larger", "?inconclusive", "▲faster"),
        *("=clear", "=clear", "proved", "new", "skipped", "unchanged", "unchanged"),
    ]
    by_name = {cells[0]: cells[1:] for cells in rows}
    assert by_name[SLOWER] == ["▼slower", "", "7.9 %", "6.0 to 9.8 %", "2.1 %", "8 + 6", ""]
    larger = "softmax-forward-cpu-float32-batch64-width1024-function"
    assert by_name[larger][2:] == ["23.0 %", "21.1 to 24.9 %", "2.1 %", "8 + 6", "saved 4,096 -> 8,192 bytes, graphs 1 -> 3"]
    assert by_name["layer_norm-forward-cpu-float32-batch8-width1024-function"][2:] == [
        *("-12.4 %", "-13.5 to -11.3 %", "1.2 %", "8", "peak backward 12,288 -> 8,192 bytes")
    ]
    assert by_name["gelu-forward-cpu-float32-batch8-width1024-stock"] == ["unchanged", "", "", "", "", "", ""]
    assert by_name["linear-forward-cpu-float32-batch8-width1024-triton"][-1] == "Triton needs a GPU"


def test_only_rows_that_fail_look_like_failures():
    text = page.render(make.example())
    assert sorted(re.findall(r'<tr class="is-(\w+) fails">', text)) == ["different", "larger", "missing", "slower", "slower", "wrong"]
    text = page.render(make.example(unreliable="noise"))
    assert sorted(re.findall(r'<tr class="is-([\w ]+) fails">', text)) == ["different", "larger", "missing", "wrong"]
    assert text.count('<tr class="is-no verdict">') == 6 + 1  # with the control


def test_the_first_screen_has_the_sentence_the_notes_and_what_was_compared():
    whole = make.example()
    text = page.render(whole)
    worst = f"{SLOWER.replace('batch8', 'batch64')} by 23.0\u00a0% (21.1 to 24.9\u00a0%)"
    assert f"<h1>2 of 11 benchmarks got slower, the worst {worst}; 1 is wrong; 1 is missing; " in text
    assert '<p class="rest">Compared with main (1a2b3c4); the other 9: 1 inconclusive, ' in text
    assert "<b>Note</b> another run was measuring on cpu" in text
    assert title(text) == "failed: regression check 20261124-020000 - layerbench"
    assert {fact.label: fact.value for fact in page.strip(whole)} == {
        "Result": "failed, exit 1",
        "Base": "main (1a2b3c4)",
        "Head": "working tree (5d6e7f8 + changes)",
        "Device": "AMD EPYC 7B13",
        "Versions": "torch 2.13.0 · triton 3.7.0",
        "Threads": "1 of 2 cores",
        "Control": "+0.2 % (-0.4 to +0.8 %)",
        "Processes": "one for both sides",
    }


def test_what_weakens_the_numbers_is_said():
    assert [fact.label for fact in page.strip(make.example()) if fact.doubt] == ["Head"]
    machine = make.environment(load=1.9)
    whole = check(timed("clear"), control=(), isolated="the base wants torch 2.9", environment=machine, head=make.BASE)
    doubts = {fact.label: fact.doubt for fact in page.strip(whole) if fact.doubt}
    assert list(doubts) == ["Threads", "Control", "Processes"]
    assert doubts["Processes"] == "the base wants torch 2.9"
    assert doubts["Control"].startswith("the base was not timed against itself")
    assert not any(fact.doubt for fact in page.strip(check(row("unchanged"), control=(), head=make.BASE)))
    shown = {fact.label: fact for fact in page.strip(check(timed("clear"), unreliable="the base against itself differs by 3.1 %"))}
    assert shown["Result"].value == "no verdict, exit 4"
    assert shown["Control"].doubt == "the base against itself differs by 3.1 %"


def test_a_check_without_rows_or_times_has_no_table_or_no_axis():
    text = page.render(check(control=()))
    assert "No benchmark was selected." in text and "<table" not in text
    text = page.render(check(row("unchanged"), control=()))
    assert "slower →" not in text and "a confirming unit" not in text and text.count("<tr") == 2


def test_round_dots_search_and_square_dots_confirm_from_top_to_bottom():
    drawn = dots.picture(row("slower", units=(unit(0), unit(2)), confirmation=(unit(4),), estimate=estimate(4, 2)), AXIS)
    assert '<path class="u" d="M84 5h0M122 13h0"/><path class="c" d="M160 21h0"/>' in drawn
    assert '<path class="i" d="M122.0 28H198.0M160.0 24v8"/>' in drawn
    assert title(drawn) == "Change in %; units: +0.0, +2.0; confirming units: +4.0"
    assert drawn.count('<use href="#guides"/>') == 1


def test_what_lies_beyond_the_axis_is_an_arrow_at_its_edge():
    drawn = dots.picture(row("slower", units=(unit(40), unit(-30)), estimate=estimate(40, 2)), AXIS)
    assert '<path class="e" d="M316 2l3 3 -3 3M4 18l-3 3 3 3"/>' in drawn
    assert '<path class="i" d="M312.0 28H312.0M314 23l5 5 -5 5"/>' in drawn
    assert 'class="u"' not in drawn


def test_without_units_there_is_no_picture():
    assert dots.picture(row("unchanged"), AXIS) == ""


def test_the_lines_are_at_nothing_the_tolerance_and_the_threshold():
    drawn = dots.guides(AXIS)
    assert re.findall(r'class="(\w+)" d="M([\d.]+) 0V34"', drawn) == [("zero", "84.0"), ("tolerance", "93.5"), ("threshold", "179.0")]


def test_the_axis_says_which_side_is_slower_and_has_round_ticks():
    drawn = dots.scale(AXIS)
    assert re.findall(r">([^<>]+)</text>", drawn) == ["← faster", "slower →", "0\u00a0%", "5\u00a0%", "10\u00a0%"]
    assert title(drawn) == "Change of time per call, from -4 to 12 %; right is slower"


def test_the_axis_holds_the_threshold_and_is_not_stretched_by_one_row():
    quiet = dots.axis([row("clear", units=(unit(0.1),))], 0.05, 0.005)
    assert (quiet.low, quiet.high) == pytest.approx((-3.0, 7.0))
    wide = dots.axis([row("slower", units=(unit(300), unit(-60)), estimate=estimate(250, 80))], 0.05, 0.005)
    assert (wide.low, wide.high) == (-20.0, 20.0)
    assert dots.axis([], 0.05, 0.005).high == pytest.approx(7.0)


def test_nothing_is_loaded_and_only_its_own_script_may_run():
    text = page.render(make.example())
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src &#39;none&#39;; script-src &#39;sha256-{digest}&#39;;" in text
    links = [value for _, attributes in read(text).tags for name, value in attributes.items() if name in ("src", "href")]
    assert set(links) == {"#benchmarks", "#guides"}
    assert not re.search("https?:", text) and "url(" not in text


@pytest.mark.parametrize("unreliable", ["", EVIL])
def test_hostile_names_stay_text(unreliable):
    text = page.render(make.hostile(unreliable=unreliable))
    reader = read(text)
    tags = [tag for tag, _ in reader.tags]
    assert tags.count("script") == 1 and "a" in tags and "img" not in tags
    assert [attributes["href"] for tag, attributes in reader.tags if tag == "a"] == ["#benchmarks"]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", text)
    assert reader.rows[1][0].startswith("</td><script>hacked(1)</script>|`x` ]]> %0A::error:: a b[31m")
    assert "<script>hacked" not in text


def test_ten_thousand_rows_are_below_5_mb_and_10_s():
    whole = make.many(10_000)
    began = time.perf_counter()
    text = page.render(whole)
    assert time.perf_counter() - began < 10
    assert len(text.encode()) < 5_000_000
    assert text.count('<tr class="is-clear') == 10_000 + 1
    assert text.count('<path class="u" d="M') == page.PICTURES + 1 + 1  # the control and the key have one each
    assert "The first 2\u202f000 benchmarks have a picture" in text


def test_the_page_is_written_where_it_was_asked_for(tmp_path):
    file = tmp_path / "reports" / "x" / "index.html"
    assert page.write(make.hostile(), file) == file
    assert file.read_text(encoding="utf-8") == page.render(make.hostile())


@pytest.fixture
def visit(open_page, tmp_path):
    """Opens the page of a check."""
    numbers = itertools.count()
    return lambda whole, **options: open_page(page.write(whole, tmp_path / f"{next(numbers)}.html"), **options)


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("whole", [make.example(), make.hostile(unreliable=EVIL)], ids=["example", "hostile"])
def test_nothing_sticks_out(visit, width, whole):
    opened = visit(whole, viewport={"width": width, "height": 800})
    assert opened.evaluate("document.documentElement.scrollWidth") == width


def test_the_sentence_the_strip_and_the_worst_row_are_on_the_first_screen(visit):
    opened = visit(make.example())
    for selector in ("h1", ".strip", "#benchmarks tbody tr:first-child"):
        box = opened.locator(selector).bounding_box()
        assert box["y"] + box["height"] <= 800, selector


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_dots_and_lines_are_seen_on_the_paper(visit, scheme):
    opened = visit(make.example(), color_scheme=scheme)
    svg = opened.locator("#benchmarks .is-slower svg").nth(1)
    strokes = {name: svg.locator(f".{name}").evaluate("el => getComputedStyle(el).stroke") for name in ("u", "c", "i")}
    paper = opened.locator(".checks").first.evaluate("el => getComputedStyle(el).backgroundColor")
    assert paper not in strokes.values() and len(set(strokes.values())) == 2  # the bar has the colour of what it was taken from
    whole = make.example()
    axis = dots.axis([*whole.rows, *whole.control], whole.threshold, whole.tolerance)
    faster = opened.locator("#benchmarks .is-faster svg")  # its dots are far from the lines
    image = Image.open(io.BytesIO(faster.screenshot())).convert("RGB")
    drawn = [{image.getpixel((int(x) + dx, y)) for dx in (-1, 0, 1, 2) for y in range(2, 32)} for x in (60, axis.x(0), axis.x(5))]
    assert [len(colours) > 1 for colours in drawn] == [False, True, True], drawn


def test_a_click_on_a_heading_sorts_by_number(visit):
    opened = visit(check(*(timed("clear", percent, batch=place) for place, percent in enumerate((0.5, -0.2, 12.1, 3.4), 1)), slower()))
    head = opened.locator("#benchmarks th", has_text="slower by")
    head.locator("button").focus()
    opened.keyboard.press("Enter")
    column = "rows => rows.map(row => row.cells[3].textContent)"
    assert opened.locator("#benchmarks tbody tr").evaluate_all(column) == ["-0.2 %", "0.5 %", "3.4 %", "7.9 %", "12.1 %"]
    assert head.get_attribute("aria-sort") == "ascending"


def test_without_scripts_and_in_print_every_row_is_there(visit):
    bare = visit(make.example(), java_script_enabled=False)
    assert all(each.is_visible() for each in bare.locator("#benchmarks tbody tr").all())
    opened = visit(make.example())
    opened.emulate_media(media="print")
    assert opened.locator("#benchmarks tbody tr:visible").count() == 15


def test_numbers_of_a_phone_say_what_they_are(visit):
    opened = visit(check(slower(exact=(Exact("graphs", 1, 3, True),))), viewport={"width": 390, "height": 800})
    before = "el => getComputedStyle(el, '::before').content"
    cells = opened.locator("#benchmarks tbody td.n")
    assert cells.evaluate_all(f"all => all.map({before})") == [*('"slower by "', '"95 % interval "', '"smallest detectable "', '"units "')]
    assert opened.locator("#benchmarks .scale").is_visible()
