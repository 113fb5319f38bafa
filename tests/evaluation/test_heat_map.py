"""History weights as a small picture, in words, and on storyboards."""

from __future__ import annotations

import pytest
from PIL import Image
from sample_folders import write_samples

from evaluation.pictures.heat_map import CELL, PALE, STRONG, draw_heat_map, say_weights
from evaluation.pictures.page import write_storyboard_html
from evaluation.pictures.storyboard import draw_storyboard
from evaluation.samples import read_samples

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
