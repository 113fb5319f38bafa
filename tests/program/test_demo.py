"""The demo's command: words are checked at once, and nothing of the user's is lost."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from datasets.cartoon.world import LABEL_VOCABULARY
from demo import __main__ as demo
from demo import loop
from evaluation.networks.judge import Judge, JudgeNetwork
from evaluation.samples import SamplesFolder, read_samples

BLANK = np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    "word, says",
    [("max_stepz=1", "'max_stepz' is not a key .* did you mean max_steps?"),
     ("max_steps", "'max_steps' is not of the form")],
)  # fmt: skip
def test_words_are_checked_before_anything_is_imported(tmp_path, monkeypatch, word, says):
    monkeypatch.setitem(sys.modules, "demo.loop", None)
    with pytest.raises(SystemExit, match=f"^error: {says}"):
        demo.main(["--out", str(tmp_path / "dö mo"), word])


def test_what_is_the_users_in_its_folders_is_said_before_training(tmp_path, monkeypatch):
    settings = {"seed": 0, "given": 0, "checkpoint": "", "sampler": {}}
    SamplesFolder(tmp_path / "history", settings).add("one", ["One."], [BLANK])
    (tmp_path / "history" / "one" / "notes.txt").write_text("mine")
    monkeypatch.setattr(loop, "train", None)
    with pytest.raises(SystemExit, match="error: .*one/notes.txt is there, but manifest.jsonl"):
        demo.main(["--out", str(tmp_path)])


@pytest.mark.long
def test_it_draws_in_three_ways_and_removes_what_it_drew_before_alone(
    shrinking, tmp_path, monkeypatch
):
    def make_judge(path, world):
        judge = Judge(JudgeNetwork(LABEL_VOCABULARY), LABEL_VOCABULARY)
        judge.save(path)
        return judge

    monkeypatch.setattr(loop, "make_judge", make_judge)
    out = tmp_path / "dö mo"
    (out / "history").mkdir(parents=True)
    (out / "history" / "notes.txt").write_text("mine")
    small = [word for word in shrinking if not word.startswith("ckpt_dir=")]
    for stories, seed in (("3", "seed=0"), ("2", "seed=1")):
        demo.main(["--out", str(out), "--stories", stories, *small, "max_steps=1", seed])
        counts = [len(read_samples(out / way).stories) for way in loop.WAYS]
        assert counts == [int(stories), 1, 1]
    assert (out / "history" / "notes.txt").read_text() == "mine"
    for name in ("storyboard.png", "storyboard.html", "metrics.json", "checkpoints/demo/last.ckpt"):
        assert (out / name).is_file()
    assert "wrong: " in (out / "storyboard.html").read_text()  # by a judge that learnt nothing
