"""What stands on the page equals what stands in the JSON; it is safe, self-contained, and readable by all."""

import json
import math
import re
import subprocess
import sys
from itertools import pairwise

import pytest

from paredown.reports import chart
from paredown.reports.answers import picture
from paredown.reports.read import read


@pytest.fixture
def page(folder, shown):
    return shown(folder.searched().found().winner())


def rows(page, section):
    """Return the cells of each table row in a section."""
    start = next(i for i, e in enumerate(page.elements) if e["tag"] == "section" and e["attrs"].get("id") == section)
    found = []
    for element in page.elements[start + 1 :]:
        if element["tag"] == "section":
            break
        if element["tag"] == "tr":
            found.append([])
        elif element["tag"] in ("td", "th") and found:
            found[-1].append(" ".join(element["text"].split()))
    return found


def test_the_items_of_each_file_sum_to_it_and_the_page_says_so(page):
    table = rows(page, "files")
    sums = [row for row in table if row[0] == "Sum"]
    assert [row[1] for row in sums] == ["321", "1,500"]
    items = [int(row[1].replace(",", "")) for row in table if row[0] in ("weights", "graph", "header")]
    assert [sum(items[:3]), sum(items[3:])] == [321, 1500]
    assert page.text.count("is the file, exactly") == 2
    assert "2 of 300 predictions on test differ" in page.text


def test_items_that_do_not_sum_are_owned_up_to(folder, shown):
    folder.searched().found()
    found = json.loads((folder.path / "found.json").read_text())
    found["best"]["artifacts"][0]["itemised"].pop("graph")
    folder.write("found.json", found)
    assert "is not the file's 321: an item is missing" in shown(folder).text


def test_a_file_that_was_changed_or_removed_is_noticed(folder, shown):
    folder.searched().found()
    (folder.path / "best.pdn").write_bytes(b"other")
    (folder.path / "best.onnx").unlink()
    text = shown(folder).text
    assert "with another checksum" in text
    assert "not on disk when this report was written" in text


def test_the_layer_table_equals_the_result(page):
    table = rows(page, "layers")
    assert ["stem", "conv2d", "1×8×4×4", "80", "4", "25.0 %", "41", "1,152"] in table
    assert table[-1] == ["Sum", "", "", "200", "", "10.0 %", "91", "1,269"]


def test_the_story_says_what_each_step_saved_and_cost(page):
    story = page.all("ol", **{"class": "story"})[0]["text"]
    assert "4,000 bytes" in story
    assert "−3,679 bytes, 12.5× smaller" in story
    assert "−0.0050 (−1 of 200 samples)" in story
    assert "The steps took 3.0 s together, while this candidate itself took 2.5 s" in page.text


def test_the_confusion_matrix_equals_the_json(page):
    table = rows(page, "answers")
    assert table[0] == ["Label", "cat", "dog", "owl", "n", "Right"]
    assert table[1] == ["cat", "90", "4", "·", "94", "95.7 %"]
    assert table[3] == ["owl", "1", "·", "90", "91", "98.9 %"]
    assert "270 of 275 test samples right, 5 wrong" in page.text
    assert page.all("img")[0]["attrs"]["alt"] == "Test sample 17, labelled cat, said dog"


def test_many_classes_get_the_commonest_confusions_in_place_of_the_matrix(folder, shown):
    names = [f"class {n}" for n in range(100)]
    page = shown(folder.searched().found().winner(names))
    assert not page.all("table", **{"class": "matrix"})
    assert rows(page, "answers")[1] == ["class 0", "class 1", "4"]


def test_vectors_have_no_pictures(folder, shown):
    page = shown(folder.searched().asked(shape=(12,)).found().winner(picture=None))
    assert not page.all("img")
    assert "test #17" in page.text


@pytest.mark.parametrize(
    "x", [None, [1, 2], [[[float("nan")]]], [[["a"]]], [[[1, 2], [3]]], [], [[[]]]]
)  # fmt: skip
def test_what_is_no_picture_gives_none(x):
    assert picture(x) == ""


def test_pictures_of_one_two_and_three_channels_are_drawn_and_large_ones_reduced():
    for channels, side in ((1, 4), (2, 4), (3, 4), (3, 300)):
        assert picture([[[9] * side] * side] * channels).startswith("data:image/png;base64,")
    assert len(picture([[[9] * 300] * 300] * 3)) < 2000


def test_counted_and_measured_never_share_a_heading(folder, shown):
    measured = {"latency_ms": 0.0213, "latency_low_ms": 0.02, "latency_high_ms": 0.03, "latency_repeats": 50}
    page = shown(folder.searched().candidate(1, 321, 0.951, trial=False, measured=measured).found())
    section = {e["attrs"]["id"]: e["text"] for e in page.all("section") if "id" in e["attrs"]}
    assert "0.0213 ms, quartiles 0.02 to 0.03 ms, 50 repeats" in " ".join(section["measured"].split())
    assert "162,432" in section["counted"]
    assert "softmax.int" in section["counted"]
    for word in ("latency", " ms", "making"):
        assert word not in section["counted"]
    assert "bit operations" not in section["measured"]


def test_notes_data_notes_and_provenance_are_all_there(page):
    assert ["head.bias", "quantize.learned_step", "too few values to round"] in rows(page, "notes")
    assert "7 of 300 test samples are byte for byte in train too" in page.text
    for said in ("d" * 64, "CC0", "2.13.0", "2026-01-02", "code revision 1"):
        assert said in page.text
    assert "paredown find pets --floor 0.9 --budget 60s" in page.text
    assert "paredown cite" in page.text


def test_the_frontier_is_the_set_that_nothing_beats(folder, page):
    record = read(folder.path)
    assert [t.id for t in record.frontier()] == [f"{1:012x}", f"{0:012x}"]
    drawn = chart.draw(record, 720, 420)
    assert {m.kind for m in drawn.marks} == {"winner", "baseline", "frontier", "candidate"}
    assert drawn.marks[-1].kind == "winner"
    by_id = {m.id: m for m in drawn.marks}
    small, large = by_id[f"{1:012x}"], by_id[f"{0:012x}"]
    assert small.x < large.x
    assert small.y > large.y


def test_up_is_better_where_lower_values_are(folder, shown):
    folder.asked(metric="log_loss")
    for number, value in enumerate((0.5, 0.2)):
        folder.candidate(number, 300 + 100 * number, value, val=folder.quality(value, metric="log_loss"))
    marks = {m.id: m for m in chart.draw(read(folder.path), 720, 420).marks}
    assert marks[f"{1:012x}"].y < marks[f"{0:012x}"].y
    assert "must be at most this" in shown(folder).text


def test_every_mark_lies_inside_the_plot_and_ticks_do_not_crowd(folder):
    folder.asked()
    for number in range(40):
        folder.candidate(number, 1 + number**3, (number % 10) / 10)
    for width, height in ((720, 420), (350, 380)):
        drawn = chart.draw(read(folder.path), width, height)
        assert all(drawn.left <= m.x <= drawn.right and drawn.top <= m.y <= drawn.bottom for m in drawn.marks)
        assert drawn.top <= drawn.floor.at <= drawn.bottom
        gaps = [b.at - a.at for a, b in pairwise(drawn.x_ticks)]
        assert len(drawn.x_ticks) >= 3
        assert min(gaps) >= 50


@pytest.mark.parametrize("sizes", [(292,), (292, 292), (290, 300), (0, 10), (1, 10**9)])
def test_any_range_of_sizes_can_be_drawn(folder, shown, sizes):
    folder.asked()
    for number, size in enumerate(sizes):
        folder.candidate(number, size, 0.9)
    assert len(shown(folder).all("svg", **{"class": "frontier"})) == 2


def test_ticks_and_marks_share_one_logarithmic_scale(folder):
    folder.asked().candidate(0, 321, 0.9).candidate(1, 640, 0.95)
    for width in (350, 720):
        drawn = chart.draw(read(folder.path), width, 400)
        marks = {m.id: m.x for m in drawn.marks}
        known = [(321, marks[f"{0:012x}"]), (640, marks[f"{1:012x}"])]
        slope = (known[1][1] - known[0][1]) / math.log(640 / 321)
        for tick in drawn.x_ticks:
            assert tick.at == pytest.approx(known[0][1] + slope * math.log(float(tick.label) / 321), abs=0.3)
        assert drawn.x_ticks[0].at < known[0][1]


def test_a_hundred_and_fifty_candidates_are_all_to_be_found(folder, shown):
    folder.asked()
    for number in range(150):
        folder.candidate(number, 300 + 7 * number, 0.9 + 0.09 * math.sin(number))
    page = shown(folder.found(trials=150).winner())
    assert len(page.panels) == 150
    wide = page.all("svg", **{"class": "frontier"})[0]
    assert "150 candidates" in wide["attrs"]["aria-label"]
    assert len(page.html) < 1_000_000


def test_a_value_that_is_no_number_does_not_break_the_page(folder, shown):
    folder.searched().candidate(5, 300, 0.5, val=folder.quality(float("nan")))
    folder.candidate(6, 300, 0.5, val=folder.quality(0.5, half=float("inf")))
    page = shown(folder.found())
    assert page.panels[f"{5:012x}"]["facts"][1][1].startswith("–")


NASTY = ("<script>alert(1)</script>", "</script><img src=x onerror=alert(2)>", "猫 ' \" & {{ 7*7 }}", "x" * 400)


def test_nothing_from_the_run_is_read_as_html(folder, shown):
    why = f"data: {NASTY[1]}; try {NASTY[0]}"
    folder.searched().asked(classes=NASTY, model=NASTY[0]).found(reached=False, why=why).winner(NASTY)
    note = {"step": NASTY[0], "layer": NASTY[1], "text": NASTY[2]}
    folder.write(f"candidates/{1:012x}/notes.json", {"notes": [note]})
    page = shown(folder)
    assert len(page.all("script")) == 2
    assert not [e for e in page.elements if any(name.startswith("on") for name in e["attrs"])]
    assert len(page.all("img")) == 1
    for name in NASTY:
        assert name in page.all("body")[0]["text"]
    assert page.panels[f"{1:012x}"]["notes"] == [f"{NASTY[1]}: {NASTY[2]} ({NASTY[0]})"]


def test_the_page_needs_no_network(page):
    for element in page.elements:
        for name in ("src", "href", "data", "action", "xlink:href"):
            value = element["attrs"].get(name) or ""
            assert not re.match(r"(https?:)?//", value)
        assert element["tag"] not in ("link", "iframe", "object", "base")
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|https?://", page.html)
    assert "default-src 'none'" in page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["attrs"]["content"]


def test_the_page_can_be_read_by_all(page):
    assert len(page.all("h1")) == 1
    assert page.all("html")[0]["attrs"]["lang"] == "en"
    levels = [int(e["tag"][1]) for e in page.elements if re.fullmatch(r"h[1-6]", e["tag"])]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(e["attrs"].get("alt") for e in page.all("img"))
    assert all(e["attrs"].get("scope") for e in page.all("th"))
    for svg in page.all("svg"):
        assert svg["attrs"].get("aria-label") or svg["attrs"].get("aria-hidden") == "true"
    marks = [e for e in page.all("g") if "data-id" in e["attrs"]]
    assert all(m["attrs"]["role"] == "button" and m["attrs"]["aria-label"] for m in marks)
    assert sum(m["attrs"]["tabindex"] == "0" for m in marks) == 2
    identified = [e["attrs"]["id"] for e in page.elements if "id" in e["attrs"]]
    assert len(identified) == len(set(identified))


def test_writing_twice_gives_the_same_bytes_and_leaves_nothing_behind(folder, shown):
    first = shown(folder.searched().found().winner()).html
    before = sorted(p.name for p in folder.path.iterdir())
    assert shown(folder).html == first
    assert sorted(p.name for p in folder.path.iterdir()) == before


def test_the_report_imports_no_torch(folder):
    folder.searched().found().winner()
    code = (
        "import sys; from paredown.reports import page; page.write_report(sys.argv[1]); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder.path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
