"""Checkpoints that are damaged or not finite: nothing is lost without a word."""

from __future__ import annotations

import os
import shutil
import signal
import zipfile
from pathlib import Path

import pytest
import torch
from outcomes import behind, read
from pytorch_lightning.strategies import FSDPStrategy
from test_resume import equal, noted, signalled

import building
import sample
import train
from common.files import replacing
from models.checkpoints.file_kinds import check_sums
from models.checkpoints.run_folder import last_good
from models.checkpoints.writer import CheckpointWriter
from models.pipeline import StoryPipeline
from models.pipeline_output import StoryPipelineOutput
from models.training.story_model import StoryModel


@pytest.mark.long
def test_a_loss_that_is_not_finite_stops_before_anything_is_replaced(
    shrunk, four_batches, tmp_path, undisturbed, capfd
):
    loss = StoryModel.noise_loss
    words = [*four_batches, "save_every_minutes=0", "max_epochs=2"]

    def breaking(self, *arguments):
        place = self.current_epoch, self.trainer.fit_loop.epoch_loop.batch_idx
        nan = self.trainer.training and place == (0, 2)
        return loss(self, *arguments) * (float("nan") if nan else 1)

    folder = tmp_path / "cartoon"
    with pytest.MonkeyPatch.context() as patch:
        seen = noted(patch)
        patch.setattr(StoryModel, "noise_loss", breaking)
        says = "^the loss of step 3 .stories train-.* is not finite: .*max_skipped_steps=10"
        with pytest.raises(ValueError, match=says) as stopped:
            train.train(shrunk(*words))
        assert all(story in str(stopped.value) for story in seen[2][2])
        assert behind(read(folder / "last.ckpt")) == (0, 2)
        # What was saved beside comes to the same step; the run itself may leave it out.
        again = f"train_model_file={folder / 'non_finite.ckpt'}"
        with pytest.raises(ValueError, match="^the loss of step 3 "):
            train.train(shrunk(*words, again))
        assert seen[3][1:] == seen[2][1:]
        end = read(train.train(shrunk(*words, "max_skipped_steps=1", "run_name=other")))
        assert "left out, 1 of max_skipped_steps=1" in capfd.readouterr().out
    assert all(value.isfinite().all() for value in end["state_dict"].values())
    with pytest.MonkeyPatch.context() as patch:  # the saved state is the one that was there
        assert equal(read(train.train(shrunk(*words))), undisturbed)


def test_weights_that_are_not_finite_are_neither_saved_nor_drawn(
    trained, shrunk, tmp_path, own_story
):
    content = read(trained)
    name = "unet.conv_in.weight"
    content["state_dict"][name][0] = float("nan")
    path = tmp_path / "last.ckpt"
    path.write_bytes(b"the one before")
    with pytest.raises(ValueError, match=f"1 tensors .* not finite, such as {name}: .* as it was"):
        CheckpointWriter().save_checkpoint(content, path)
    assert os.listdir(tmp_path) == ["last.ckpt"] and path.read_bytes() == b"the one before"
    torch.save(content, path)
    words = ["mode=sample", own_story(), f"sample_output_dir={tmp_path / 'out'}"]
    with pytest.raises(ValueError, match=f"1 tensors that are not finite, such as {name}"):
        sample.sample(shrunk(*words, f"test_model_file={path}"))
    with pytest.MonkeyPatch.context() as patch:
        black = StoryPipelineOutput(torch.zeros(1, 3, 3, 64, 64, dtype=torch.uint8))
        patch.setattr(StoryPipeline, "draw", lambda *_, **__: black)
        with pytest.raises(ValueError, match="^story .* came out with a black picture"):
            sample.sample(shrunk(*words, f"test_model_file={trained}"))
    assert not (tmp_path / "out" / "manifest.jsonl").read_bytes()  # no story


def test_fsdp_writes_through_our_writer(shrunk, tmp_path):
    """As far as it goes without GPUs: what Lightning's strategy does with a whole checkpoint."""
    (writer_of_all,) = train._plugins(shrunk("strategy=fsdp"))
    strategy, path = FSDPStrategy(checkpoint_io=writer_of_all), tmp_path / "last.ckpt"
    for value in (1.0, 2.0):
        strategy.save_checkpoint({"state_dict": {"x": torch.tensor(value)}}, path)
    previous = tmp_path / "previous.ckpt"
    assert [read(one)["state_dict"]["x"] for one in (previous, path)] == [1, 2]
    with pytest.raises(ValueError, match="not finite, such as x"):
        strategy.save_checkpoint({"state_dict": {"x": torch.tensor(float("nan"))}}, path)
    assert train._plugins(shrunk("strategy=deepspeed_stage_2")) == []


def flip(path: Path) -> None:
    """Change one bit in the middle of a file's largest tensor."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:  # within a tensor, not in what pads it
        largest = max(archive.infolist(), key=lambda record: record.file_size)
    start = largest.header_offset
    lengths = (
        int.from_bytes(content[start + 26 : start + 28], "little"),
        int.from_bytes(content[start + 28 : start + 30], "little"),
    )
    content[start + 30 + sum(lengths) + largest.file_size // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.long
def test_a_damaged_last_checkpoint_is_replaced_by_the_one_before(
    shrunk, four_batches, tmp_path, undisturbed, capfd
):
    words = [*four_batches, "save_every_minutes=0", "max_epochs=2"]
    with pytest.MonkeyPatch.context() as patch:
        signalled(patch, (0, 2), signal.SIGTERM)
        with pytest.raises(SystemExit):
            train.train(shrunk(*words))
    folder = tmp_path / "cartoon"
    flip(folder / "last.ckpt")
    with pytest.raises(ValueError, match="is damaged: .* is not as it was written"):
        train.train(shrunk(*words, f"train_model_file={folder / 'last.ckpt'}"))
    where = [f"test_model_file={folder / 'last.ckpt'}", f"sample_output_dir={tmp_path / 'drawn'}"]
    with pytest.raises(ValueError, match="^test_model_file: .* is damaged: its part .* is not as"):
        sample.sample(shrunk("mode=sample", *where))
    assert not (tmp_path / "drawn").exists()
    for name in ("epoch-0001.ckpt", "last.ckpt"):
        (folder / f".{name}.4711.tmp").write_bytes(b"half of one")
    assert equal(read(train.train(shrunk(*words))), undisturbed)
    out = capfd.readouterr().out
    assert "last.ckpt is damaged" in out and "the checkpoint before it is taken" in out
    left = ".epoch-0001.ckpt.4711.tmp, .last.ckpt.4711.tmp"
    assert f"removed {left}, left by a training that was killed" in out
    assert sorted(path.name for path in folder.glob("*.ckpt")) == [
        "damaged.ckpt", "last.ckpt", "previous.ckpt",
    ]  # fmt: skip
    for path in ("last.ckpt", "previous.ckpt"):
        flip(folder / path)
    with pytest.raises(ValueError, match="last.ckpt is damaged.*previous.ckpt is damaged"):
        last_good(folder)


@pytest.mark.long
def test_training_states_that_cannot_be_taken_up_are_said(trained, shrunk, tmp_path):
    content, path = read(trained), tmp_path / "model.ckpt"
    (state,) = content["optimizer_states"]
    first = {**state["state"], 0: {**state["state"][0], "exp_avg": torch.zeros(1)}}
    damaged = {
        "optimiser's state is gone": {"optimizer_states": [{**state, "state": {}}]},
        "exp_avg of trained tensor 0": {"optimizer_states": [{**state, "state": first}]},
        "is damaged: its training cannot": {"lr_schedulers": []},
        "is damaged: its training cannot be": {"loops": {}},
    }
    for says, part in damaged.items():
        torch.save(content | part, path)
        with pytest.raises(ValueError, match=f"^{path}.*{says}"):
            train.train(shrunk(f"train_model_file={path}", "run_name=none", "max_epochs=2"))
    torch.save(content, path)
    for word, says in {
        "optimizer=adamw8bit": "with optimizer=adamw, but the configuration has adamw8bit",
        "freeze_clip=true": "tensors, but [0-9]+ train now; set freeze_clip",
    }.items():
        with pytest.raises(ValueError, match=says):
            train.train(shrunk(f"train_model_file={path}", "run_name=none", "max_epochs=2", word))


def test_a_checkpoint_renewed_while_it_is_read_is_said(trained, shrunk, tmp_path, own_story):
    path, load = tmp_path / "last.ckpt", building.load_weights
    shutil.copy(trained, path)

    def renewing(*arguments):
        load(*arguments)
        with replacing(path) as temporary:
            shutil.copy(trained, temporary)

    words = ["mode=sample", own_story(), f"sample_output_dir={tmp_path / 'out'}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "load_weights", renewing)
        with pytest.raises(ValueError, match="last.ckpt was replaced while it was being read"):
            sample.sample(shrunk(*words, f"test_model_file={path}"))


def test_every_part_of_a_file_is_summed(trained, tmp_path):
    """Any flipped bit of what tensors are made of is found."""
    path = tmp_path / "model.ckpt"
    size = trained.stat().st_size
    check_sums(trained)
    for place in range(size // 10, size, size // 7):
        content = bytearray(trained.read_bytes())
        content[place] ^= 16
        path.write_bytes(content)
        with pytest.raises(ValueError, match="^is damaged: "):
            check_sums(path)
