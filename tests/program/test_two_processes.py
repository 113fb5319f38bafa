"""Several devices, as two processes on one CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from outcomes import behind, read, same
from two_processes import SAME, draw_for_each_story

import train

pytestmark = pytest.mark.long
SCRIPT = Path(__file__).with_name("two_processes.py")
HOW = (
    "gpu_ids=[0,1]", "cartoon.stories={train:12,val:3,test:5}", "num_stories=-1", "batch_size=2",
    "max_epochs=2", "accumulate_grad_batches=2", "save_every_minutes=0", "num_workers=1",
    "classifier_free_rate=0.5", "sample_every_n_epochs=2", "logger=csv", "freeze_blip=false",
    "stochastic_depth=0.5", "frames_per_micro_batch=4", "gradient_checkpointing=true",
)  # fmt: skip


@pytest.fixture(scope="module")
def outcome(shrinking, tmp_path_factory):
    """The folder that two processes filled, and what each of them saw."""
    folder = tmp_path_factory.mktemp("two")
    words = [*shrinking, *HOW, f"ckpt_dir={folder}", f"cartoon.data_dir={folder}"]
    words += [f"sample_output_dir={folder / 'samples'}"]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), str(folder), *words]
    done = subprocess.run(
        command, cwd=SCRIPT.parents[2], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    seen = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]
    return folder, seen


def test_each_process_trains_on_its_share_with_draws_of_its_own(outcome):
    _, seen = outcome
    for epoch in range(2):
        stories = [
            index for rank in seen for (e, _), batch, _ in rank["batches"][:6] if e == epoch
            for index in batch
        ]  # fmt: skip
        assert sorted(stories) == [f"train-{index:05d}" for index in range(12)]
    for one, other in zip(*(rank["batches"] for rank in seen), strict=True):
        assert one[0] == other[0]
        assert all(a != b for a, b in zip(one[2][:2], other[2][:2], strict=True))
    dropped = [[draws[2] for *_, draws in rank["batches"]] for rank in seen]
    assert dropped[0] != dropped[1]


def test_the_schedule_counts_real_steps_and_logs_once(outcome):
    folder, _ = outcome
    whole = read(folder / "whole" / "last.ckpt")
    assert behind(whole) == (2, 4)  # three batches an epoch for each, two of them a step
    rates = whole["lr_schedulers"][0]["_last_lr"]
    assert rates and rates == pytest.approx([0] * len(rates), abs=1e-9)
    assert len(list(folder.glob("whole/logs/*/metrics.csv"))) == 1
    previews = sorted(path.name for path in folder.glob("whole/previews/*"))
    assert previews == ["epoch-0002.png", "step-000000.png"]


def test_a_run_is_taken_up_by_both(outcome):
    folder, seen = outcome
    assert behind(read(folder / "middle.ckpt")) == (1, 3)
    for rank in seen:
        assert rank["batches"][6:] == rank["batches"][5:6]
    whole, resumed = (read(folder / name / "last.ckpt") for name in ("whole", "resumed"))
    assert behind(resumed) == (2, 4)
    assert same(resumed["state_dict"], whole["state_dict"])


def test_two_processes_take_the_step_of_one_with_their_batches_together(
    outcome, shrunk, monkeypatch, tmp_path
):
    """After one step Adam's first moment is a tenth of the clipped gradient."""
    folder, _ = outcome
    draw_for_each_story(monkeypatch.setattr)
    data = [f"cartoon.data_dir={folder}", f"ckpt_dir={tmp_path}", "gpu_ids=1", "batch_size=4"]
    alone = read(train.train(shrunk(*HOW, *SAME, *data)))
    both = read(folder / "same" / "last.ckpt")
    pairs = [
        (one["exp_avg"], other["exp_avg"])
        for one, other in zip(
            *(c["optimizer_states"][0]["state"].values() for c in (alone, both)), strict=True
        )
    ]
    largest = max(one.abs().max() for one, _ in pairs)
    assert max((one - other).abs().max() for one, other in pairs) < 1e-5 * largest


STORIES = [f"test-0000{index}" for index in range(5)]


def drawn(folder) -> list[str]:
    """The stories of a samples folder in the order in which they were finished."""
    lines = (folder / "manifest.jsonl").read_text().splitlines()
    return [json.loads(line)["story_id"] for line in lines]


def test_each_story_is_drawn_once_and_shown_once(outcome, shrinking, tmp_path):
    """By two processes of this program, and what is left by two that a launcher started."""
    trained, _ = outcome
    words = [*shrinking, *HOW, f"cartoon.data_dir={trained}", "mode=sample", "batch_size=1"]
    words += [f"test_model_file={trained / 'whole' / 'last.ckpt'}", "metrics=[]"]
    words += [f"sample_output_dir={tmp_path}"]
    root, torchrun = SCRIPT.parents[2], ["-m", "torch.distributed.run", "--nproc-per-node=2"]
    for launcher, more in ([], ["num_stories=2"]), (torchrun, ["gpu_ids=1"]):
        command = [sys.executable, *launcher, str(root / "main.py"), *words, *more]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
        count = 5 if launcher else 2
        said = f"{count} stories, storyboard.png and storyboard.html are in"
        assert done.stdout.count(said) == 1
        assert sorted(drawn(tmp_path)) == STORIES[:count]
    page = (tmp_path / "storyboard.html").read_text(encoding="utf-8")
    assert all(story in page for story in STORIES)
    lost = [*command[:1], str(root / "main.py"), *words, f"sample_output_dir={tmp_path / 'lost'}"]
    done = subprocess.run(
        [*lost, "lora_files=[gone.safetensors]"], cwd=root, capture_output=True, text=True
    )
    said = [line for line in done.stderr.splitlines() if "gone.safetensors" in line]
    assert done.returncode == 1 and said[0].startswith("error: lora_files")
    assert "Traceback" not in done.stderr
