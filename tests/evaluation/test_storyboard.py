"""Stories as pictures: storyboards, heat maps, GIF, strip and PDF."""

from __future__ import annotations

import base64
import gc
import io
import re
import weakref
from html import unescape

import numpy as np
import pytest
from PIL import Image, ImageDraw
from PIL.PdfParser import PdfParser
from sample_folders import write_samples

from common import lettering
from common.key_value_arguments import parse
from evaluation.pictures.gallery import draw_gallery
from evaluation.pictures.heat_map import CELL, PALE, STRONG, draw_heat_map, say_weights
from evaluation.pictures.page import write_storyboard_html
from evaluation.pictures.story_files import StoryFiles, write_story_files
from evaluation.pictures.storyboard import draw_storyboard, gather
from evaluation.pictures.strips import draw_page
from evaluation.samples import read_samples

RED, BLUE, GREY, PILL = (200, 30, 30), (30, 30, 200), (120, 120, 120), (47, 111, 222)


def area(path, colour):
    """How many 192x192 frames' worth of pixels have exactly this colour."""
    return np.all(np.asarray(Image.open(path)) == colour, axis=2).sum() / 192**2


def test_frames_appear_with_references_above(tmp_path):
    write_samples(tmp_path, stories=3)
    path = draw_storyboard(tmp_path, tmp_path / "board.png", stories=2)
    assert area(path, RED) == pytest.approx(2, abs=0.05)  # two stories, frame 0
    assert area(path, BLUE) == pytest.approx(2, abs=0.05)
    assert area(path, GREY) == pytest.approx(4, abs=0.1)
    picture = np.asarray(Image.open(path))
    rows = [np.flatnonzero(np.all(picture == colour, 2).any(1))[0] for colour in (GREY, RED)]
    assert rows[0] + 192 <= rows[1]
    write_samples(tmp_path, stories=1, references=False)  # an own story has one row
    assert area(draw_storyboard(tmp_path, path), GREY) == area(path, PILL) == 0
    write_samples(tmp_path, stories=1, references=False, given=1)  # what was given is marked
    assert area(draw_storyboard(tmp_path, path), PILL) > 0
    assert sorted(file.name for file in tmp_path.glob("*board*")) == ["board.png"]


def test_words_change_the_picture_which_stays_of_a_sane_width(tmp_path):
    pictures = []
    long = "A caption so long that it must be wrapped, " * 3
    for words in ("Short.", long, "Où ça ?", "x" * 300):
        write_samples(tmp_path, stories=1, captions=[words, words], size=32)
        pictures.append(Image.open(draw_storyboard(tmp_path, tmp_path / "board.png")).copy())
    assert pictures[1].height > pictures[0].height and pictures[3].height > pictures[0].height
    accented = "e\u0301" * 30  # an accent belongs to its letter
    lines = lettering.wrap(f"A word {accented}", 17, 100)
    assert "".join(lines[1:]) == accented and all(line[0] == "e" for line in lines[1:])
    assert len({picture.tobytes() for picture in pictures}) == 4
    write_samples(tmp_path, colours=[RED] * 16, stories=1, size=200)
    assert Image.open(draw_storyboard(tmp_path, tmp_path / "board.png")).width <= 2000


@pytest.fixture
def only_dejavu(monkeypatch):
    """A machine whose only font is the one that comes with matplotlib."""
    own = lettering._fonts()[-1]
    monkeypatch.setattr(lettering, "_fonts", lambda: [own])
    monkeypatch.setattr(lettering, "_said", set())
    lettering._parts.cache_clear()
    yield
    lettering._parts.cache_clear()


def test_scripts_are_drawn_or_the_package_that_has_them_is_named(only_dejavu, recwarn):
    draw = ImageDraw.Draw(Image.new("RGB", (400, 50)))
    for text in ("Où ça ?", "Луна", "القطة لونا", "Luna 😀"):
        lettering.write(draw, 0, 0, text, 17, "white")
    assert not recwarn.list
    for text, says in (("他挥手", r"'他' \(cjk\), so boxes .* the package fonts-noto-cjk"),
                       ("ok 🎉", "the package fonts-symbola")):  # fmt: skip
        with pytest.warns(UserWarning, match=says):
            lettering.write(draw, 0, 0, text, 17, "white")
    recwarn.clear()
    lettering.write(draw, 0, 0, "ピップ and 他", 17, "white")  # said before
    assert not recwarn.list


def test_what_the_model_does_not_read_of_a_caption_is_marked(tmp_path):
    words = ["Luna and Bruno run.", "She waves."]
    write_samples(tmp_path, stories=1, captions=words, captions_read=[8, None])
    strips, _ = gather(tmp_path)
    assert strips[0].captions == ["Luna and […not read: Bruno run.]", "She waves."]
    page = write_storyboard_html(tmp_path, tmp_path / "board.html").read_text("utf-8")
    assert "<p>Luna and […not read: Bruno run.]</p>" in page


def test_several_sets_are_stacked_and_matched_by_story(tmp_path):
    masked = (10, 200, 90)
    write_samples(tmp_path / "a", stories=3)
    write_samples(tmp_path / "b", colours=[masked, masked], stories=2)
    folders = {"with history": tmp_path / "a", "history masked": tmp_path / "b"}
    path = draw_storyboard(folders, tmp_path / "board.png", stories=6)
    assert area(path, masked) == pytest.approx(4, abs=0.1)  # only the two shared stories
    assert area(path, RED) == pytest.approx(2, abs=0.05)
    strips, _ = gather(folders, ["story1"], {"with history": {"story1": "cast 2/2"}})
    assert [row.name for row in strips[0].rows] == ["reference", "with history", "history masked"]
    assert [row.note for row in strips[0].rows] == ["", "cast 2/2", ""]
    assert strips[0].heading == "story1  ·  seed 5"
    write_samples(tmp_path / "c", sampler={"steps": 12, "history": False})
    _, settings = gather({"a": tmp_path / "a", "c": tmp_path / "c"}, 1)
    assert "steps 12" in settings and "history" not in settings  # only what all share
    assert "checkpoint abcdef012345" in settings and "1 of 2 stories" in settings


def test_what_cannot_be_shown_is_said(tmp_path):
    write_samples(tmp_path / "a")
    write_samples(tmp_path / "b", captions=["Other.", "Other."])
    with pytest.raises(ValueError, match="'story9' is not in every samples folder"):
        gather(tmp_path / "a", ["story9"])
    with pytest.raises(ValueError, match="no story to show"):
        gather(tmp_path / "a", 0)
    with pytest.raises(ValueError, match="other captions in 'b'"):
        gather({"a": tmp_path / "a", "b": tmp_path / "b"}, 1)
    (tmp_path / "a" / "story0" / "0001.png").write_bytes(b"no picture")
    for write, name in ((draw_storyboard, "board.png"), (write_storyboard_html, "board.html")):
        with pytest.raises(ValueError, match="0001.png cannot be used"):
            write(tmp_path / "a", tmp_path / name)
        assert not (tmp_path / name).exists()


def test_html_is_escaped_and_loads_nothing(tmp_path):
    evil = '<script>alert("1")</script> & "quotes"'
    write_samples(tmp_path, stories=3, captions=[evil, "Fine."], sampler={"name": "<b>"}, given=1)
    page = write_storyboard_html(
        tmp_path, tmp_path / "board.html", notes={"drawn": {"story0": "<u>"}}
    ).read_text("utf-8")
    assert not re.search(r"<(script|b|i|u)>", page)
    assert evil not in page and unescape(page).count(evil) == 3 * 3  # two rows' pictures, caption
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) == 3 * 4 and all(s.startswith("data:image/") for s in sources)
    assert not re.search(r"https?:|//|url\(|<link|@import|href", re.sub(r'src="[^"]*"', "", page))
    assert page.count('class="given"') == 3


def test_notes_stand_under_their_frames(tmp_path):
    write_samples(tmp_path, stories=2)
    notes = {"drawn": {"story0": ["all right", "wrong: <place>"], "story1": ["", "A word."]}}
    beside = {"drawn": {"story0": "cast 2/2 · place 1/2"}}
    plain = Image.open(draw_storyboard(tmp_path, tmp_path / "plain.png", notes=beside))
    path = draw_storyboard(tmp_path, tmp_path / "noted.png", notes=beside, frame_notes=notes)
    noted = Image.open(path)
    assert noted.height > plain.height
    page = write_storyboard_html(tmp_path, tmp_path / "board.html", frame_notes=notes).read_text()
    assert page.count("<figcaption>") == 3 and "wrong: &lt;place&gt;" in page
    few = write_storyboard_html(tmp_path, tmp_path / "few.html", stories=1).read_text()
    assert (page.count("<h2>"), few.count("<h2>")) == (2, 1) and "steps 12" in few


def test_pages_are_lighter_than_their_pictures_and_look_the_same(tmp_path):
    write_samples(tmp_path, stories=1, references=False)
    random = np.random.default_rng(0)
    smooth = Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).resize((128, 128))
    frame = (np.asarray(smooth) + random.normal(0, 2, (128, 128, 3))).clip(0, 255).astype(np.uint8)
    Image.fromarray(frame).save(path := tmp_path / "story0" / "0000.png")
    page = write_storyboard_html(tmp_path, tmp_path / "board.html").read_text()
    packed = base64.b64decode(re.search(r'src="data:image/webp;base64,([^"]*)"', page)[1])
    assert len(packed) < path.stat().st_size / 3
    shown = np.asarray(Image.open(io.BytesIO(packed)).convert("RGB")).astype(int)
    assert np.abs(shown - frame).mean() < 4


@pytest.mark.parametrize("scores, ranks", [
    ([0.2, None, 0.9], {"story0": "worst", "story2": "best"}),
    ([None, 0.5, None], {"story1": "worst"}), ([None] * 3, {}),
])  # fmt: skip
def test_only_stories_with_a_score_are_worst_or_best(tmp_path, scores, ranks):
    write_samples(tmp_path, stories=3)
    counts = np.array([[[score or 0, score is not None], [0, 0]] for score in scores])
    draw_gallery(read_samples(tmp_path), {"clip_t": counts}, None, tmp_path, {"metrics": {}}, 3)
    page = (tmp_path / "storyboard.html").read_text("utf-8")
    titles = re.findall(r"<h2>(story\d).*?</h2>(.*?)(?=<h2>|$)", page, re.S)
    found = {name: re.search(r"<span>(worst|best)\b", text) for name, text in titles}
    assert {name: rank[1] for name, rank in found.items() if rank} == ranks


WEIGHTS = [[0, 0, 0], [1, 0, 0], [0.25, 0.75, 0]]


def test_cells_are_as_dark_as_the_weights():
    picture = draw_heat_map(WEIGHTS)
    assert picture.size == (2 * CELL, 2 * CELL)
    near, far = 3, CELL + 3
    assert picture.getpixel((near, near)) == STRONG
    assert picture.getpixel((far, near)) == (255, 255, 255)
    quarter, most = picture.getpixel((near, far)), picture.getpixel((far, far))
    assert quarter[0] == round(PALE[0] + (STRONG[0] - PALE[0]) / 4) and most[0] < quarter[0]


def test_words_name_the_largest_weight():
    assert say_weights(WEIGHTS) == (
        "frame 2 looked at frame 1 (1.00), frame 3 looked at frame 2 (0.75)"
    )


def test_storyboards_show_the_weights_that_a_manifest_has(tmp_path):
    sizes = []
    for weights in (None, [[0, 0], [1.0, 0]]):
        write_samples(tmp_path, stories=1, history_weights=weights)
        board = Image.open(draw_storyboard(tmp_path, tmp_path / "board.png"))
        page = write_storyboard_html(tmp_path, tmp_path / "board.html").read_text("utf-8")
        strong = sum(count for count, colour in board.getcolors(1 << 24) if colour == STRONG)
        sizes.append((strong > 50, "frame 2 looked at frame 1 (1.00)" in page))
    assert sizes == [(False, False), (True, True)]


def test_weights_of_another_shape_are_refused(tmp_path):
    for weights in ([[0, 0], [1]], [[0, 0], [2, 0]], [[0, 0], ["x", 0]]):
        write_samples(tmp_path, stories=1, history_weights=weights)
        with pytest.raises(ValueError, match="'history_weights' .* sample again"):
            read_samples(tmp_path)


COLOURS = ((200, 30, 30), (30, 30, 200), (30, 160, 30), (90, 90, 90))


def test_each_story_becomes_a_gif_and_a_strip_and_a_page(tmp_path):
    write_samples(tmp_path / "samples", COLOURS, stories=3)
    files = write_story_files(
        StoryFiles(str(tmp_path / "samples"), stories="story0,story2", seconds=0.5)
    )
    assert sorted(path.name for path in files) == [
        "0000_story0.gif", "0000_story0.png", "0001_story2.gif", "0001_story2.png", "stories.pdf",
    ]  # fmt: skip
    assert {path.parent for path in files} == {tmp_path / "samples" / "story_files"}
    with Image.open(files[0]) as gif:
        assert gif.n_frames == 4 and gif.info["duration"] == 500
        for k, colour in enumerate(COLOURS):
            gif.seek(k)
            shown = np.array(gif.convert("RGB")).reshape(-1, 3)
            assert (np.abs(shown - np.array(colour)) < 8).all()
    with Image.open(files[1]) as strip:  # the four in a row: each colour left of the next
        pixels = np.array(strip.convert("RGB")).astype(int)
    columns = [
        np.nonzero((np.abs(pixels - colour).sum(2) == 0).sum(0) > 100)[0] for colour in COLOURS
    ]
    assert all(here.max() < there.min() for here, there in zip(columns, columns[1:], strict=False))
    pdf = files[-1].read_bytes()
    assert pdf.startswith(b"%PDF") and len(re.findall(rb"/Type /Page\b", pdf)) == 2


def test_a_page_is_written_before_the_next_is_drawn(tmp_path, monkeypatch):
    write_samples(tmp_path, COLOURS[:1], stories=7, size=8)
    pages, alive = [], []

    def draw(strip):
        page = draw_page(strip)
        pages.append(weakref.ref(page))
        alive.append(sum(one() is not None for one in pages))
        return page

    monkeypatch.setattr("evaluation.pictures.strips.draw_page", draw)
    gc.disable()
    try:
        (path,) = write_story_files(parse(StoryFiles, [f"samples={tmp_path}", "formats=pdf"]))
    finally:
        gc.enable()
    assert len(alive) == 7 and max(alive) <= 2
    with PdfParser(path) as pdf:
        assert len(pdf.pages) == 7 and pdf.info.Title == "Stories"
    assert [one.name for one in path.parent.iterdir()] == ["stories.pdf"]


def test_all_is_a_word_for_formats_and_stories(tmp_path):
    write_samples(tmp_path, COLOURS[:2])
    words = [f"samples={tmp_path}", "formats=all", "stories=all", "seconds=327.5"]
    assert len(write_story_files(parse(StoryFiles, words))) == 5


def test_what_is_not_there_is_said(tmp_path):
    write_samples(tmp_path, COLOURS[:2])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="formats=movie: use gif, strip, pdf or all"):
        write_story_files(StoryFiles(str(tmp_path), formats="gif,movie"))
    with pytest.raises(ValueError, match="story 'story9' is not in every samples folder"):
        write_story_files(StoryFiles(str(tmp_path), stories="story9"))
    with pytest.raises(ValueError, match="seconds=328 is too long .*: give 327.5 or less"):
        write_story_files(StoryFiles(str(tmp_path), seconds=328))
    assert sorted(tmp_path.rglob("*")) == before
