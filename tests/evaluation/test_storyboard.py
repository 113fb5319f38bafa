from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image
from sample_folders import VOCABULARY, label, toy_frames, write_manifest, write_samples

from evaluation.__main__ import main
from evaluation.judge import train_judge
from evaluation.storyboard import draw_storyboard, gather
from evaluation.storyboard_html import write_storyboard_html

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
    assert sorted(file.name for file in tmp_path.glob("*board*")) == ["board.png"]


def test_own_story_has_one_row_and_given_frames_are_marked(tmp_path):
    write_samples(tmp_path, stories=1, references=False)
    plain = draw_storyboard(tmp_path, tmp_path / "plain.png")
    write_samples(tmp_path, stories=1, references=False, given=1)
    marked = draw_storyboard(tmp_path, tmp_path / "marked.png")
    assert area(plain, GREY) == 0 and area(plain, PILL) == 0 < area(marked, PILL)


def test_the_picture_stays_of_a_sane_width(tmp_path):
    for count in (1, 16):
        write_samples(tmp_path, colours=[RED] * count, stories=1, size=400)
        picture = Image.open(draw_storyboard(tmp_path, tmp_path / "board.png"))
        assert picture.width <= 2000


def test_words_change_the_picture_and_foreign_letters_are_drawn(tmp_path):
    pictures = []
    for words in ("Short.", "A caption so long that it must be wrapped, " * 3, "Où ça ?",
                  "x" * 300):
        write_samples(tmp_path, stories=1, captions=[words, words])
        pictures.append(Image.open(draw_storyboard(tmp_path, tmp_path / "board.png")).copy())
    assert pictures[1].height > pictures[0].height and pictures[3].height > pictures[0].height
    assert len({picture.tobytes() for picture in pictures}) == 4


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


def test_settings_name_only_what_all_sets_share(tmp_path):
    write_samples(tmp_path / "a", sampler={"steps": 12, "history": True})
    write_samples(tmp_path / "b", sampler={"steps": 12, "history": False})
    _, settings = gather({"a": tmp_path / "a", "b": tmp_path / "b"}, 1)
    assert "steps 12" in settings and "history" not in settings
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
        with pytest.raises(ValueError, match="0001.png cannot be read"):
            write(tmp_path / "a", tmp_path / name)
        assert not (tmp_path / name).exists()


def test_html_is_escaped_and_loads_nothing(tmp_path):
    evil = '<script>alert("1")</script> & "quotes"'
    write_samples(tmp_path, stories=3, captions=[evil, "Fine."], sampler={"name": "<b>"}, given=1)
    page = write_storyboard_html(tmp_path, tmp_path / "board.html", title="<i>T</i>",
                                 notes={"drawn": {"story0": "<u>"}}).read_text("utf-8")
    assert not re.search(r"<(script|b|i|u)>", page)
    assert "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; &quot;quotes&quot;" in page
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) == 3 * 4 and all(s.startswith("data:image/png;base64,") for s in sources)
    assert not re.search(r"https?:|//|url\(|<link|@import|href", re.sub(r'src="[^"]*"', "", page))
    assert page.count('class="given"') == 3


def test_html_shows_all_stories_or_as_many_as_asked(tmp_path):
    write_samples(tmp_path, stories=4)
    assert write_storyboard_html(tmp_path, tmp_path / "all.html").read_text().count("<h2>") == 4
    few = write_storyboard_html(tmp_path, tmp_path / "few.html", stories=2).read_text()
    assert few.count("<h2>") == 2 and "steps 12" in few


def test_command_judges_and_draws(tmp_path, capsys):
    frames, labels = toy_frames(4, seed=0)
    entries = write_samples(tmp_path, stories=2)
    for number, entry in enumerate(entries):
        entry["labels"] = labels[2 * number:2 * number + 2]
        for k, name in enumerate(entry["frames"]):
            Image.fromarray(frames[2 * number + k]).save(tmp_path / name)
    write_manifest(tmp_path, entries)
    (tmp_path / "label_vocabulary.json").write_text(json.dumps(VOCABULARY))
    judge = train_judge(frames, labels, VOCABULARY, 0, False, steps=30, batch_size=8)
    judge.known_error = judge.error(frames, labels)
    judge.save(tmp_path / "judge.safetensors")
    main([f"samples={tmp_path}", f"judge={tmp_path / 'judge.safetensors'}", "stories=1"])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["frame_accuracy"] == 1.0 and metrics["judge_error"]["cast"] == 0.0
    assert metrics["frames"] == 4 and metrics["chance"]["place_accuracy"] == 0.5
    assert "frame_accuracy" in capsys.readouterr().out
    assert "cast 2/2" in (tmp_path / "storyboard.html").read_text("utf-8")
    assert (tmp_path / "storyboard.png").is_file()


def test_command_refuses_what_it_does_not_know(tmp_path):
    write_samples(tmp_path, labels=[label("sea", {}), label("sea", {})])
    for arguments, message in ((["sample=x"], "'sample=x' is not understood"),
                               ([], "samples=DIR is missing"),
                               ([f"samples={tmp_path}", "stories=none"], "stories=none"),
                               ([f"samples={tmp_path}", "judge=gone"], "judge=gone does not")):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            main(arguments)
    assert not (tmp_path / "storyboard.png").exists()
