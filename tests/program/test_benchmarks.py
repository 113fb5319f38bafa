"""Benchmarks that train, draw and judge, at their smallest: every step, and a table at the end."""

from __future__ import annotations

import sys

import pytest

from benchmarks import causal_story, new_characters
from datasets.cartoon.world import LABEL_VOCABULARY
from evaluation.networks.judge import Judge, JudgeNetwork

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def judge_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("judge") / "judge.safetensors"
    Judge(JudgeNetwork(LABEL_VOCABULARY), LABEL_VOCABULARY).save(path)
    return path


NAME = "it's dö mo"  # a folder's


def table(printed: str, first_head: str) -> list[list[str]]:
    """The cells of what was printed from the row on that begins with this head."""
    lines = printed[printed.index(f"| | {first_head}") :].splitlines()
    rows = (line.strip("|").split("|") for line in lines if line.startswith("| "))
    return [[cell.strip() for cell in row] for row in rows]


def test_an_add_on_is_trained_drawn_and_judged(
    shrinking, judge_file, tmp_path, monkeypatch, capsys
):
    kept = "+ spatial + history weights"
    monkeypatch.setattr(causal_story, "VARIANTS", {kept: causal_story.VARIANTS[kept]})
    out, small = tmp_path / NAME, [word for word in shrinking if not word.startswith("ckpt_dir=")]
    samples = out / "samples" / "spatial-history-weights-seed0"
    samples.mkdir(parents=True)
    (samples / "notes.txt").write_text("mine")
    (out / "judge.safetensors").write_bytes(judge_file.read_bytes())
    sizes = ["--out", str(out), "--steps", "2", "--stories", "2", "--seeds", "1"]
    monkeypatch.setattr(sys, "argv", ["causal_story", *sizes, *small])
    causal_story.main()
    heads, cells, *hits = table(capsys.readouterr().out, "seeds")
    assert "place_accuracy" in heads and "weather_accuracy" not in heads
    assert cells[0] == kept and len(cells) == len(heads) and hits
    assert (out / "spatial-history-weights-seed0.json").is_file()
    assert (samples / "notes.txt").read_text() == "mine"
    assert not [*out.rglob("*.ckpt")]  # many runs would fill the disk
    sizes[sizes.index("--stories") + 1] = "3"
    monkeypatch.setattr(sys, "argv", ["causal_story", *sizes, "--tables", *small])
    with pytest.raises(SystemExit, match="error: .* was made with .*give the same, or another"):
        causal_story.main()  # the table of other runs


def test_new_characters_are_learnt_drawn_and_judged(
    shrinking, trained, tmp_path, monkeypatch, capsys
):
    out, small = tmp_path / NAME, [word for word in shrinking if not word.startswith("ckpt_dir=")]
    out.mkdir()
    (base := out / "base.ckpt").symlink_to(trained)
    labels = new_characters.VOCABULARY
    Judge(JudgeNetwork(labels), labels).save(out / "judge.safetensors")
    sizes = ["--out", str(out), "--base", str(base), "--stories", "2", "--seeds", "0"]
    words = ["--only", "5 pictures, class words", *small, "max_steps=1", "decoder_steps=0"]
    monkeypatch.setattr(sys, "argv", ["new_characters", *sizes, *words])
    new_characters.main()
    heads, cells = table(capsys.readouterr().out, "seeds")
    assert cells[:2] == ["5 pictures, class words", "1"] and len(cells) == len(heads)
