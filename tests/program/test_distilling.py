"""`distill=lcm` through the program: what it takes over, writes, draws with, and refuses."""

from __future__ import annotations

import pytest
import torch
from known_keys import sentence
from outcomes import read, same

import train
from configuration import ConfigError, load_config
from configuration.checkpoint_settings import read_settings
from models import StoryPipeline
from models.export import Export, export
from models.training.story_model import StoryModel


@pytest.fixture(scope="session")
def distil(shrinking, trained):
    """Distils the shared checkpoint as the command does; what is not said of sampling is left to
    it."""

    def run(*words):
        told = [word for word in shrinking if "inference_steps" not in word]
        how = ["distill=lcm", f"base_model_file={trained}", "num_workers=0"]
        return train.train(load_config([*told, *how, *words]))

    return run


@pytest.fixture(scope="session")
def fast(distil):
    return distil("run_name=fast", "max_steps=2")


def test_it_is_drawn_with_as_it_was_made_for_unless_told_otherwise(fast, trained, shrinking):
    def settings(*words):
        told = [word for word in shrinking if "inference_steps" not in word]
        config = load_config([*told, "mode=sample", f"test_model_file={fast}", *words])
        keys = ("scheduler", "num_inference_steps", "first_frame_inference_steps", "guidance_scale")
        return tuple(config[key] for key in keys)

    assert settings() == ("lcm", 4, None, 1)
    assert settings("num_inference_steps=2", "guidance_scale=3") == ("lcm", 2, None, 3)
    assert settings("scheduler=ddim")[0] == "ddim"
    before, after = (read(path)["state_dict"] for path in (trained, fast))
    assert after.keys() == before.keys()
    moved = {name for name, value in after.items() if not value.equal(before[name])}
    assert moved and all(name.startswith("unet.") for name in moved)


@pytest.mark.long
def test_it_learns_the_guidance_that_its_base_draws_with(distil, shrunk, trained, tmp_path):
    """As a base of its own, or by a file that says how it was trained."""
    content = read(trained)
    content["config"]["guidance_scale"] = 2.5
    torch.save(content, tmp_path / "guided.ckpt")
    (tmp_path / "as.yaml").write_text("guidance_scale: 3.5\nscheduler: ddim\ninit_lr: 1.0e-5\n")
    for words, scale in (([], 2.5), (["teacher_guidance_scale=4"], 4)):
        base = f"base_model_file={tmp_path / 'guided.ckpt'}"
        made = distil(base, "max_steps=1", "run_name=guided", "resume=never", *words)
        config = read_settings(made)["config"]
        assert (config["teacher_guidance_scale"], config["guidance_scale"]) == (scale, 1)
    config = shrunk(f"config={tmp_path / 'as.yaml'}", "distill=lcm", f"base_model_file={trained}")
    told = config.teacher_guidance_scale, config.scheduler, config.init_lr
    assert told == (3.5, "lcm", 5e-5)
    again = shrunk(f"config={made.with_name('config.yaml')}")  # which says distill itself
    assert (again.teacher_guidance_scale, again.max_steps) == (4, 1)


@pytest.mark.long
def test_lora_composes_with_it_and_is_handed_on_whole(distil, sampled, trained, tmp_path):
    """LCM-LoRA: the checkpoint holds it alone; a folder draws as it does."""
    made = distil("run_name=fast_lora", "tune=lora", "lora_rank=2", "max_steps=2", "init_lr=1e-2")
    state = read(made)["state_dict"]
    assert state and all(".lora_" in name for name in state)
    samples, entries = sampled(f"test_model_file={made}")
    assert {entry["sampler"]["scheduler"] for entry in entries.values()} == {"lcm"}
    folder = export(Export(str(made), str(tmp_path / "model")))
    pipeline = StoryPipeline.from_pretrained(folder)
    assert type(pipeline.scheduler).__name__ == "LCMScheduler"
    assert pipeline.scheduler.config.original_inference_steps == 50


@pytest.mark.long
def test_it_is_taken_up_to_the_bit(distil, home, tmp_path, monkeypatch):
    """With an average, so that two sets of weights have to come back."""
    words = ["cartoon.stories.train=4", f"cartoon.data_dir={home / 'four'}", "batch_size=1"]
    words += [f"ckpt_dir={tmp_path}", "max_steps=4", "save_every_minutes=0", "ema_decay=0.9"]
    whole = read(distil(*words, "run_name=whole"))
    step = StoryModel.training_step

    def stopping(self, batch, index):
        if index == 2:
            raise KeyError("stopped")
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(StoryModel, "training_step", stopping)
        with pytest.raises(KeyError, match="stopped"):
            distil(*words, "run_name=stopped")
    assert read(tmp_path / "stopped" / "last.ckpt")["global_step"] == 2
    resumed = read(distil(*words, "run_name=stopped"))
    assert same(whole["state_dict"], resumed["state_dict"])
    assert whole["lr_schedulers"] == resumed["lr_schedulers"]


REFUSED = {
    "no base": (["distill=lcm"], "distill is lcm, .* base_model_file is null; set base_model_file"),
    "distilled already": (
        ["distill=lcm", "base_model_file={fast}"],
        "base_model_file: .* was distilled .*; give what it was distilled from",
    ),
    "trained on": (["train_model_file={fast}"], "train_model_file: .* was distilled"),
    "too many steps": (
        ["mode=sample", "test_model_file={fast}", "num_inference_steps=60"],
        "scheduler is lcm, which has at most 50 steps, but 60 are asked for; lower num_infer",
    ),
    "characters, too": (
        ["distill=lcm", "base_model_file={trained}",
         "new_characters=[{{word: a, class_word: b, pictures: .}}]"],
        "distill and new_characters are both set; learn the characters first",
    ),
}  # fmt: skip


@pytest.mark.parametrize("words, says", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused(shrunk, fast, trained, words, says):
    with pytest.raises(ConfigError, match=says) as caught:
        shrunk(*(word.format(fast=fast, trained=trained) for word in words))
    sentence(caught)
