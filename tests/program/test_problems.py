"""What only the machine, the base or a checkpoint can find wrong."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from outcomes import read

import building
import sample
import train
from configuration import ConfigError
from pretraining.autoencoder import build_autoencoder


def test_sizes_that_do_not_fit_the_backbone(shrunk):
    says = "^tiny.image_size is 66, which .*; set it to a multiple of 4$"
    with pytest.raises(ConfigError, match=says):
        building.build_parts(shrunk("tiny.image_size=66"))


def test_an_autoencoder_of_one_size_names_it(shrunk, monkeypatch):
    # the one that the real base has
    parts = SimpleNamespace(vae=build_autoencoder(), unet=None, conditioner=SimpleNamespace())
    monkeypatch.setattr(building, "load_components", lambda **how: parts)
    assert building.build_parts(shrunk("tiny.image_size=128")) is parts
    with pytest.raises(ConfigError, match="tiny.image_size is 64, which .*; set it to 128$"):
        building.build_parts(shrunk())


@pytest.mark.parametrize(
    "words", [["strategy=fast"], ["gpu_ids=[0]", "accelerator=gpu"], ["accelerator=gpu"]]
)
def test_machines_that_cannot_do_it(shrunk, words, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(train, "open_stories", lambda *how: pytest.fail("said too late"))
    with pytest.raises(ConfigError) as caught:
        train.train(shrunk(*words))
    message = str(caught.value)
    assert message.startswith("this machine cannot do") and words[0] in message
    assert "\n" not in message and message.endswith("strategy to auto")


def test_checkpoints_that_do_not_fit(shrunk, trained, own_story, tmp_path):
    other = tmp_path / "other.ckpt"
    other.write_text("not a checkpoint")
    sampling = ["mode=sample", f"sample_output_dir={tmp_path / 'out'}", own_story()]
    with pytest.raises(ValueError, match="^test_model_file: .*other.ckpt is a text file that beg"):
        sample.sample(shrunk(*sampling, f"test_model_file={other}"))
    with pytest.raises(ValueError, match="^train_model_file: .*other.ckpt is a text file that be"):
        train.train(shrunk(f"train_model_file={other}"))
    bare = tmp_path / "bare.ckpt"  # weights that do not say their words
    torch.save({"state_dict": read(trained)["state_dict"]}, bare)
    with pytest.raises(ValueError, match="use the dataset and backbone it was trained with"):
        train.train(shrunk(f"train_model_file={bare}", "cartoon.new_tokens=[zorg]", "run_name=new"))
