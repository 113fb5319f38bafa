"""Tuning a trained model through the program: what is saved, and what it loads onto."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from outcomes import frames, read, same

import building
import train
from configuration import ConfigError
from models.checkpoints.export_upstream import export_upstream

ADAPTER = ["tune=adapter", "causal_story.adapter_width=4", "causal_story.history_weights=true"]
LORA = ["tune=lora", "lora_rank=2"]


@pytest.fixture(scope="session")
def tuned(shrunk, trained):
    """Trains what `words` say on top of the shared checkpoint; once for each."""
    made = {}

    def tune(*words):
        if words not in made:
            name = f"run_name=tuned{len(made)}"
            how = [f"base_model_file={trained}", name, "max_epochs=2", "init_lr=1e-2"]
            made[words] = train.train(shrunk(*words, *how))
        return made[words]

    return tune


@pytest.mark.parametrize(
    "words, parts",
    [(ADAPTER, (".adapter.", "history_weighting")), (LORA, (".lora_A.", ".lora_B."))],
    ids=["adapter", "lora"],
)
@pytest.mark.long
def test_a_checkpoint_holds_what_was_tuned_and_draws_with_its_base(
    tuned, trained, sampled, words, parts, monkeypatch
):
    checkpoint = tuned(*words)
    state = read(checkpoint)["state_dict"]
    assert state and all(any(part in name for part in parts) for name in state)
    assert checkpoint.stat().st_size < trained.stat().st_size / 5
    # What it draws is what the model in memory drew when it was saved.
    whole, load = [], building.load_weights

    def keep(parts, path):
        load(parts, path)
        state = parts.modules().state_dict()
        whole.append({name: value.clone() for name, value in state.items()})

    monkeypatch.setattr(building, "load_weights", keep)
    told, _ = sampled(*words, f"test_model_file={checkpoint}", f"base_model_file={trained}")
    alone, _ = sampled(f"test_model_file={checkpoint}", to="alone")  # it knows the rest itself
    assert np.array_equal(frames(told), frames(alone))
    plain, _ = sampled(to="plain")
    assert not np.array_equal(frames(told), frames(plain))
    own = whole[0]
    assert same({name: own[name] for name in state}, state)
    base = {name.replace(".base_layer", ""): value for name, value in own.items()}
    base = {name: base[name] for name in read(trained)["state_dict"]}
    assert same(base, read(trained)["state_dict"])


@pytest.mark.long
def test_a_tuned_run_resumes(tuned, shrunk, trained):
    """Two epochs and a third one are three epochs, but for the rate's own schedule."""
    checkpoint = tuned(*LORA)
    words = [*LORA, f"base_model_file={trained}", "run_name=tuned_on", "max_epochs=3"]
    resumed = read(train.train(shrunk(*words, f"train_model_file={checkpoint}")))
    assert resumed["global_step"] == 6
    assert resumed["state_dict"].keys() == read(checkpoint)["state_dict"].keys()
    assert not same(resumed["state_dict"], read(checkpoint)["state_dict"])


@pytest.mark.long
def test_beside_frozen_weights_of_eight_bits(shrunk, trained, sampled):
    """Cached, previewed, taken up; what is saved trains in 32 bits and draws on the whole base."""
    words = (*LORA, "precision=bf16-mixed", "half_frozen_weights=true", "cache_latents=true",
             "float8_frozen_weights=true", "gradient_checkpointing=true", "sample_every_n_epochs=1",
             "lora_layers=all", "optimizer=adamw8bit", "run_name=eighths")  # fmt: skip
    checkpoint = train.train(shrunk(*words, f"base_model_file={trained}"))
    longer = read(train.train(shrunk(*words, f"base_model_file={trained}", "max_epochs=2")))
    assert longer["global_step"] == 4
    state = longer["state_dict"]
    assert {value.dtype for value in state.values()} == {torch.float32}
    assert all(".lora_" in name for name in state)
    folder, _ = sampled(f"test_model_file={checkpoint}")
    assert frames(folder).std() > 0


@pytest.mark.long
def test_averages_hold_what_was_tuned_too(shrunk, trained):
    words = [*LORA, f"base_model_file={trained}", "run_name=tuned_average", "ema_decay=0.5"]
    checkpoint = train.train(shrunk(*words))
    content = read(checkpoint)
    assert content["current_model_state"].keys() == content["state_dict"].keys()
    assert all(".lora_" in name for name in content["state_dict"])
    assert not same(content["current_model_state"], content["state_dict"])
    words = [*words, "max_epochs=2", f"train_model_file={checkpoint}"]
    assert read(train.train(shrunk(*words)))["global_step"] == 4


def test_another_base_is_refused(tuned, trained, sampled, tmp_path):
    content, other = read(trained), tmp_path / "other.ckpt"
    content["state_dict"]["unet.conv_in.bias"] += 1
    torch.save(content, other)
    with pytest.raises(ValueError, match="was tuned from weights with the hash .*set base_model"):
        sampled(*LORA, f"test_model_file={tuned(*LORA)}", f"base_model_file={other}")


@pytest.mark.parametrize(
    "words, says",
    [
        (["tune=all"], "was trained with tune=lora, but the configuration has tune=all; set tune"),
        (["tune=lora", "lora_rank=3"], "trained with lora_rank=2, .* has lora_rank=3; set lora_ra"),
        ([*LORA, "causal_story.history_window=2"],
         "was trained with causal_story.history_window=null, but .* has .*_window=2; set causal"),
    ],
)  # fmt: skip
def test_other_add_ons_than_in_training_are_refused(tuned, trained, sampled, words, says):
    """Also those without weights, which would change the pictures silently."""
    with pytest.raises(ValueError, match=says):
        sampled(*words, f"test_model_file={tuned(*LORA)}", f"base_model_file={trained}")


@pytest.mark.long
def test_the_saved_configuration_trains_the_same_again(tuned, shrunk):
    """It lies beside the checkpoint, and `config=` takes it."""
    checkpoint = tuned(*LORA)
    saved = checkpoint.with_name("config.yaml")
    again = train.train(shrunk(f"config={saved}", "run_name=from_file"))
    assert same(read(again)["state_dict"], read(checkpoint)["state_dict"])


def test_a_checkpoint_that_says_nothing_must_be_told(tuned, trained, sampled, tmp_path):
    """As those from before checkpoints carried their configuration."""
    content = read(tuned(*LORA))
    del content["config"], content["config_file"]
    torch.save(content, tmp_path / "old.ckpt")
    words = [f"test_model_file={tmp_path / 'old.ckpt'}", f"base_model_file={trained}"]
    with pytest.raises(ValueError, match="trained with tune=lora, but the configuration has tune="):
        sampled(*words)
    sampled(*words, *LORA)


@pytest.mark.long
def test_the_key_to_set_is_named_and_the_order_of_blocks_means_nothing(shrunk, sampled):
    how = ["causal_story.spatial_window=4", "run_name=spatial", "max_steps=1"]
    checkpoint = train.train(shrunk(*how, "causal_story.blocks=[mid,down.0]"))
    words = [f"test_model_file={checkpoint}", *how[:1]]
    sampled(*words, "causal_story.blocks=[down.0,mid]")
    with pytest.raises(ValueError, match=r"spatial_window=4, but .* has .*spatial_window=null"):
        sampled(words[0], "causal_story.spatial_window=null", to="other")
    with pytest.raises(ValueError, match=r"blocks=\[down.0,mid\], but .* has .*blocks=\[mid\]"):
        sampled(*words, "causal_story.blocks=[mid]", to="other")
    with pytest.raises(ValueError, match="trained with causal_story.spatial_window, causal_story"):
        export_upstream(checkpoint, checkpoint.with_name("theirs.ckpt"), [])


def test_an_add_on_that_nothing_trains_is_refused(shrunk, trained):
    words = [*LORA, "causal_story.adapter_width=4", f"base_model_file={trained}", "run_name=none"]
    with pytest.raises(ValueError, match="has no unet.mid_block.*adapter.*tune=lora would not"):
        train.train(shrunk(*words))


def test_what_was_tuned_is_no_base(tuned, shrunk):
    with pytest.raises(
        ValueError, match="tuned; give what it was tuned from, or, .* python -m models"
    ):
        train.train(shrunk(*LORA, f"base_model_file={tuned(*LORA)}", "run_name=none"))


def test_blocks_without_attention_are_named(shrunk):
    words = ["causal_story.adapter_width=4", "causal_story.blocks=[mid,up.9]", "run_name=none"]
    with pytest.raises(ValueError, match=r"causal_story.blocks names 'up.9'.* in mid"):
        train.train(shrunk(*words))


def test_the_table_of_what_trains_is_printed(shrunk, trained, capsys):
    words = [*ADAPTER, f"base_model_file={trained}", "run_name=table", "max_steps=1"]
    state = read(train.train(shrunk(*words)))["state_dict"]
    printed = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()
               if len(line.split()) == 3}  # fmt: skip
    count = sum(value.numel() for value in state.values())
    assert printed["all"][0] == f"{count:,}"
    unet = sum(value.numel() for name, value in state.items() if name.startswith("unet."))
    assert printed["unet"][0] == f"{unet:,}" and printed["vae"][0] == "0"


@pytest.mark.long
def test_history_weights_are_in_the_manifest(tuned, trained, sampled):
    how = [*ADAPTER, f"test_model_file={tuned(*ADAPTER)}", f"base_model_file={trained}"]
    _, entries = sampled(*how)
    _, after = sampled(*how, "redraw.frame=3", "seed=3")
    for name in entries:
        before, rows = (e[name]["history_weights"] for e in (entries, after))
        assert [round(sum(row), 2) for row in rows] == [0] + [1] * (len(rows) - 1)
        assert rows[:3] == before[:3]


@pytest.mark.parametrize(
    "words, says",
    [
        (["tune=lora"], "tune is lora, which starts from a trained model, but base_model_file is"),
        (["tune=adapter", f"base_model_file={__file__}"], "tune is adapter, but causal_story.ada"),
        (["causal_story.blocks=[]"], r"causal_story.blocks is \[\]; name at least one place"),
        (["causal_story.blocks=[mid,mid]"], "name at least one place, none twice"),
        (
            ["mode=sample", f"story={__file__}", f"test_model_file={__file__}", "metrics=[kid]"],
            "has neither real pictures nor labels, which kid needs; choose among aesthetic",
        ),
        (
            ["mode=sample", f"story={__file__}", "metrics=[consistency,nonsense]"],
            "metrics: 'nonsense' is not known",
        ),
        (["base_model_file=nowhere.ckpt"], "base_model_file: there is no file nowhere.ckpt"),
    ],
)
def test_what_tuning_needs_is_asked_for(shrunk, words, says):
    with pytest.raises(ConfigError, match=says):
        shrunk(*words)
