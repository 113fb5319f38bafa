"""Files of weights that main.py did not write: to sample with, to start from, to be refused."""

from __future__ import annotations

import pytest
import torch
from outcomes import behind, picture, read
from safetensors.torch import save_file

import sample
import train
from configuration import ConfigError
from models.checkpoints.upstream import to_upstream


def official(state, path):
    """As the original's authors give theirs away."""
    nulls = [torch.zeros(1, 20, dtype=torch.long)] * 2 + [torch.zeros(1, 3, 4, 4)]
    state = {f"module.{key}": value for key, value in to_upstream(state, *nulls).items()}
    torch.save({"model_state_dict": state, "optimizer_state_dict": {"state": {}}}, path)
    return path


def bare(state, path):
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    return path


def test_the_same_weights_draw_the_same_pictures(sampled, trained, tmp_path):
    path = official(read(trained)["state_dict"], tmp_path / "official.pth")
    (ours, entries), (theirs, _) = sampled(), sampled(f"test_model_file={path}", to="theirs")
    for entry in entries.values():
        for frame in entry["frames"]:
            assert (picture(ours / frame) == picture(theirs / frame)).all()


@pytest.mark.parametrize("write, name", [(official, "official.pth"), (bare, "bare.safetensors")])
@pytest.mark.long
def test_training_starts_from_them_at_step_0(write, name, shrunk, trained, tmp_path, capsys):
    state = read(trained)["state_dict"]
    path = write(state, tmp_path / name)
    words = [f"ckpt_dir={tmp_path}", "init_lr=1e-12", "weight_decay=0"]
    after = read(train.train(shrunk(*words, f"train_model_file={path}")))
    assert behind(after) == (1, 2)  # as many as a run has that starts anew
    for key, value in state.items():
        torch.testing.assert_close(after["state_dict"][key], value, msg=key)
    assert f"Training starts at step 0 from the weights of {path}, " in capsys.readouterr().out


@pytest.mark.long
def test_a_checkpoint_with_averages_of_others_starts_anew(shrunk, trained, tmp_path, capsys):
    """Lightning would refuse their names when it takes up the rest."""
    content = read(trained)
    content["state_dict"]["unet_ema.decay"] = torch.tensor(0.9)
    torch.save(content, tmp_path / "theirs.ckpt")
    words = [f"ckpt_dir={tmp_path}", f"train_model_file={tmp_path / 'theirs.ckpt'}"]
    assert behind(read(train.train(shrunk(*words)))) == (1, 2)
    out = capsys.readouterr().out
    assert "theirs.ckpt: left out unet_ema.*, averages beside the weights" in out
    assert "theirs.ckpt, whose training cannot be taken up" in out


@pytest.mark.parametrize("key", ["train_model_file", "base_model_file", "test_model_file", None])
def test_what_is_no_file_of_weights_is_said_before_work(key, shrunk, tmp_path, monkeypatch):
    """A DeepSpeed folder, as training with strategy=deepspeed leaves it in last.ckpt's place."""
    folder = tmp_path / "cartoon" / "last.ckpt"
    folder.mkdir(parents=True)
    (folder / "zero_to_fp32.py").touch()
    for program in (train, sample):
        monkeypatch.setattr(program, "open_stories", lambda *how: pytest.fail("said too late"))
    words = [f"ckpt_dir={tmp_path}"] + [f"{key}={folder}"] * bool(key)
    with pytest.raises(ConfigError) as caught:
        if key in ("test_model_file", None):
            sample.sample(shrunk("mode=sample", *words))
        else:
            train.train(shrunk(*words))
    assert str(caught.value).startswith(
        f"{key or 'test_model_file'}: {folder} is a DeepSpeed folder; run its zero_to_fp32.py"
    )
