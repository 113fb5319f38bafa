"""Stories as GIF, strip and PDF."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image
from sample_folders import write_samples

from evaluation.pictures.story_files import StoryFiles, write_story_files

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


def test_what_is_not_there_is_said(tmp_path):
    write_samples(tmp_path, COLOURS[:2])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="formats=movie: use gif, strip, pdf or all"):
        write_story_files(StoryFiles(str(tmp_path), formats="gif,movie"))
    with pytest.raises(ValueError, match="story 'story9' is not in every samples folder"):
        write_story_files(StoryFiles(str(tmp_path), stories="story9"))
    assert sorted(tmp_path.rglob("*")) == before
