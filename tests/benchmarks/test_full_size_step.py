"""The full-size step's program, on a minute model: it trains, and refuses what cannot be."""

from __future__ import annotations

import sys

import pytest

from benchmarks import full_size_step
from benchmarks.random_parts import Sizes

MINUTE = Sizes((32, 32, 32, 32), (8, 8), (32, 1, 2), (32, 1, 2), 32, 16, 8, 100, 100)


def run(monkeypatch, *words):
    monkeypatch.setitem(full_size_step.SIZES, "sd15", MINUTE)
    words = ["full_size_step", "--image_size", "16", "pororo.max_length=8", *words]
    monkeypatch.setattr(sys, "argv", words)
    full_size_step.main()


def test_a_step_moves_weights_and_says_what_it_took(monkeypatch, capsys):
    run(monkeypatch, "init_lr=0.1")
    shown = capsys.readouterr().out
    assert "weights moved" in shown and "peak" in shown and "nan" not in shown


def test_wrong_keys_end_in_one_line(monkeypatch):
    with pytest.raises(SystemExit, match="^error: 'batchsize' is not a key"):
        run(monkeypatch, "batchsize=1")
