"""The files a configuration comes from and the files it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml
from known_keys import leaves, sentence
from omegaconf import OmegaConf

from configuration import ConfigError, load_config
from configuration.files import FORK_KEYS, unknown_key
from configuration.rules import RULES

ROOT = Path(__file__).parents[1]
SHIPPED = (ROOT / "config.yaml").read_text(encoding="utf-8")


@pytest.fixture
def edited(tmp_path):
    """Loads a copy of config.yaml in which `old` reads `new`."""

    def load(old, new, *overrides):
        assert SHIPPED.count(old) == 1
        (tmp_path / "config.yaml").write_text(SHIPPED.replace(old, new), encoding="utf-8")
        return load_config(overrides, tmp_path / "config.yaml")

    return load


@pytest.fixture
def given(tmp_path):
    """Writes a file and returns the word that lays it over config.yaml."""

    def write(text):
        (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
        return f"config={tmp_path / 'mine.yaml'}"

    return write


# Every key of the original's own file, with values as people have them there.
ORIGINAL = """
mode: train
gpu_ids: [0]
batch_size: 1
num_workers: 4
num_cpu_cores: -1
seed: 0
ckpt_dir: checkpoints
run_name: a name

dataset: pororo
task: continuation

init_lr: 1e-5
warmup_epochs: 1
max_epochs: 50
train_model_file:
freeze_clip: False
freeze_blip: True
freeze_resnet: True

test_model_file: model.ckpt
calculate_fid: True
scheduler: ddim
guidance_scale: 6
num_inference_steps: 250
sample_output_dir: out

pororo:
  hdf5_file: THERE
  max_length: 85
  new_tokens: ["pororo", "loopy", "eddy", "harry", "poby", "tongtong", "crong", "rody", "petty"]
  clip_embedding_tokens: 49416
  blip_embedding_tokens: 30530
hydra:
  run:
    dir: .
  output_subdir: null
hydra/job_logging: disabled
hydra/hydra_logging: disabled
"""


OURS = """
backbone: sd15
precision: bf16-mixed
optimizer: adamw8bit
logger: csv
sample_every_n_epochs: 5
ema_decay: 0.999
sd15:
  image_size: 256
causal_story:
  history_weights: true
"""
SECTION = ORIGINAL[ORIGINAL.index("pororo:") : ORIGINAL.index("hydra:")]
ITS_FILES = {  # original files and forks' as people have them: each means what its code made of it
    "as it came": ORIGINAL,
    "the backbone said": ORIGINAL + "backbone: sd15\n",
    "a dozen keys of ours": ORIGINAL + OURS,
    "no hydra section": ORIGINAL[: ORIGINAL.index("hydra:")],
    "its logging on": ORIGINAL.replace("disabled", "enabled"),
    "keys commented out": re.sub("^(train|test)_model_file.*\n|^seed.*\n|^freeze.*\n", "",
                                 ORIGINAL, flags=re.MULTILINE),
    "another set": ORIGINAL.replace("dataset: pororo", "dataset: vistdii").replace(
        SECTION, "vistdii:\n  hdf5_file: THERE\n  max_length: 65\n  clip_embedding_tokens: 49408\n"
    ),
    "a set of one's own": ORIGINAL.replace("dataset: pororo", "dataset: folder").replace(
        SECTION, "folder:\n  hdf5_file: THERE\n  max_length: 197\n  new_tokens: null\n"
    ),
}  # fmt: skip
ITS_CODE = {  # what its code decides, where config.yaml has it otherwise
    "backbone": "sd15", "cache_frames": False, "eta": 0, "first_frame_inference_steps": None,
    "gradient_clip_val": None, "num_stories": -1, "stochastic_depth": 0.1,
    "accumulate_grad_batches": 1, "classifier_free_rate": 0.1, "weight_decay": 1e-4,
}  # fmt: skip


@pytest.mark.parametrize("text", ITS_FILES.values(), ids=ITS_FILES)
def test_a_file_of_ar_ldm_means_what_it_meant(given, capsys, text):
    word = given(text.replace("THERE", __file__).replace("model.ckpt", "null"))
    config = load_config([word])
    assert {key: config[key] for key in ITS_CODE} == ITS_CODE
    assert config[config.dataset].new_tokens_match == "exact"
    said = capsys.readouterr().out
    assert said.startswith(f"{word}: an AR-LDM file; ") and said.count("\n") == 1
    named = yaml.safe_load(text)
    section = named[named["dataset"]].items()
    said_there = {k: v for k, v in named.items() if k in config and not isinstance(v, dict)}
    said_there |= {f"{config.dataset}.{k}": v for k, v in section if v not in ("THERE", None)}
    for key, value in {"precision": 32, **said_there}.items():
        if key not in ("test_model_file", "init_lr"):  # not there; a text to YAML 1.1
            assert OmegaConf.select(config, key) == value, key
    assert config.init_lr == 1e-5
    config = load_config([word, "eta=0.5", "num_stories=7"])  # what is said is said
    assert (config.eta, config.num_stories) == (0.5, 7)


def test_what_it_leaves_open_is_another_files_to_say(given):
    theirs = given(ORIGINAL.replace("THERE", __file__))
    config = load_config(["config=presets/fits-24gb.yaml", theirs])
    assert (config.precision, config.optimizer, config.eta) == ("bf16-mixed", "adamw8bit", 0)


def changed(words) -> dict:
    """Dotted key -> value, of what differs from config.yaml."""
    before, after = (leaves(load_config(these)) for these in ([], words))
    return {key: value for key, value in after.items() if value != before[key]}


def trimmed(*sections) -> str:
    """config.yaml without some sections, as people cut it down."""
    values = yaml.safe_load(SHIPPED)
    return yaml.safe_dump({key: value for key, value in values.items() if key not in sections})


def dumped(*words) -> str:
    return OmegaConf.to_yaml(load_config(words), resolve=True)


OTHER_FILES = {  # everyone else's -> what they change: what they name, nothing more
    "three lines": ("run_name: mine\nbatch_size: 8\nmax_epochs: 3\n",
                    {"run_name": "mine", "batch_size": 8, "max_epochs": 3}),
    "real pictures": (f"dataset: pororo\nbackbone: sd15\npororo: {{hdf5_file: {__file__}}}\n",
                      {"dataset": "pororo", "backbone": "sd15", "pororo.hdf5_file": __file__}),
    "many of its keys, none of its sets": (
        "gpu_ids: auto\nnum_cpu_cores: null\nseed: 1\nckpt_dir: outputs/checkpoints\n"
        "dataset: cartoon\ntask: visualization\ninit_lr: 8e-4\nwarmup_epochs: 0.1\n"
        "max_epochs: 2\ntrain_model_file: null\nfreeze_clip: false\nfreeze_blip: true\n"
        "freeze_resnet: false\ntest_model_file: null\ncalculate_fid: false\nscheduler: sde-dpm++\n",
        {"seed": 1, "max_epochs": 2}),
    "all of config.yaml": (SHIPPED, {}),
    "cut down": (trimmed("cartoon", "tiny", "causal_story", "evaluation", "folder"), {}),
    "nothing": ("# not yet\n", {}),
}  # fmt: skip


@pytest.mark.parametrize("text, changes", OTHER_FILES.values(), ids=OTHER_FILES)
def test_any_other_file_changes_what_it_names(given, capsys, text, changes):
    assert changed([given(text)]) == changes
    assert capsys.readouterr().out == ""


def test_a_saved_configuration_comes_back_as_it_was(given, capsys):
    words = ["config=presets/arldm.yaml", "config=presets/fits-24gb.yaml", "eta=0.5"]
    words += ["dataset=pororo", f"pororo.hdf5_file={__file__}", "sd15.image_size=256"]
    saved = given(dumped(*words))
    assert leaves(load_config([saved])) == leaves(load_config(words))
    assert capsys.readouterr().out == ""


FORK = """
freeze_clip_text: True
grad_accumulation_steps: 4
resolution: 256
save_freq: 5
distillation: 1
vwp:
  hdf5_file: vwp.h5
  max_length: 100
pororo:
  clip_tokens: 3
"""


def test_all_keys_of_a_fork_are_answered_at_once(given):
    word = given(ORIGINAL.replace(SECTION, "").replace("dataset: pororo", "dataset: vwp") + FORK)
    with pytest.raises(ConfigError) as caught:
        load_config([word])
    assert sentence(caught) == (
        f"{word.removeprefix('config=')}: 7 keys are not of the configuration: "
        "'freeze_clip_text' (did you mean freeze_clip?), "
        "'grad_accumulation_steps' (here it is accumulate_grad_batches), "
        "'resolution' (here it is sd15.image_size), "
        "'save_freq' (here it is save_every_minutes, which counts minutes), "
        "'distillation' (did you mean distill?), "
        "'vwp' (for your own data set take dataset=folder, section folder), "
        "'pororo.clip_tokens' (did you mean pororo.clip_embedding_tokens?)"
    )


def test_names_of_forks_lead_to_keys_that_exist():
    keys = leaves(load_config())
    for theirs, ours in FORK_KEYS.items():
        assert theirs not in keys and re.split("[=,]", ours)[0] in keys, theirs


ALIKE = {  # names of forks that need no row there, as the nearest key is the right one
    "freeze_clip": "freeze_clip_text", "freeze_resnet": "freeze_unet_resnet",
    "max_epochs": "epochs num_epochs num_train_epochs", "max_steps": "max_train_steps",
    "warmup_steps": "lr_warmup_steps", "gradient_clip_val": "grad_clip",
    "precision": "mixed_precision", "gpu_ids": "gpus", "batch_size": "train_batch_size",
    "guidance_scale": "guidance", "sample_output_dir": "output_dir",
}  # fmt: skip


def test_names_of_forks_that_are_alike_are_guessed():
    for ours, names in ALIKE.items():
        for theirs in names.split():
            assert unknown_key([theirs], RULES) == (theirs, f"did you mean {ours}?")


def test_a_story_of_ones_own_leaves_out_what_a_file_wants_measured(tmp_path, given):
    for name in ("model.ckpt", "story.yaml"):
        (tmp_path / name).touch()
    words = [given("calculate_fid: true\nevaluation: {papers: vist-sis}\n"), "mode=sample"]
    words += [f"test_model_file={tmp_path / 'model.ckpt'}"]
    assert load_config(words).calculate_fid
    config = load_config([*words, f"story={tmp_path / 'story.yaml'}"])
    assert not config.calculate_fid and config.evaluation.papers is None


def test_files_beneath_a_file(tmp_path):
    (tmp_path / "base.yaml").write_text("seed: 3\nbatch_size: 2\ncartoon: {max_length: 24}\n")
    (tmp_path / "mine.yaml").write_text(
        "defaults: [base, _self_, override hydra/job_logging: disabled]\n"
        "batch_size: 4\ncartoon: {data_dir: a}\n"
    )
    config = load_config([f"config={tmp_path / 'mine.yaml'}"])
    assert (config.seed, config.batch_size) == (3, 4)
    assert (config.cartoon.max_length, config.cartoon.data_dir) == (24, "a")
    (tmp_path / "base.yaml").unlink()
    with pytest.raises(ConfigError, match="base.yaml cannot be read"):
        load_config([f"config={tmp_path / 'mine.yaml'}"])


def test_a_file_goes_over_the_shipped_one_and_under_the_command_line(given):
    file = given("backbone: tiny\nseed: 3\ncartoon:\n  stories: {train: 7}\n")
    config = load_config([file, "batch_size=9"])
    assert (config.seed, config.batch_size, config.gradient_clip_val) == (3, 9, 1.0)
    assert config.cartoon.stories == {"train": 7, "val": 100, "test": 200}
    assert load_config([file, "seed=4"]).seed == 4
    assert load_config().seed == 0  # nothing is left over


def test_fid_needs_real_pictures(tmp_path):
    for name in ("model.ckpt", "mine.yaml"):
        (tmp_path / name).touch()
    words = ["mode=sample", f"test_model_file={tmp_path / 'model.ckpt'}", "calculate_fid=true"]
    load_config(words)
    with pytest.raises(ConfigError, match="set calculate_fid=false$"):
        load_config([*words, f"story={tmp_path / 'mine.yaml'}"])


def test_a_logger_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("configuration.checks.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install wandb, or set logger=tensorboard$"):
        load_config(["logger=wandb"])
    monkeypatch.setattr("configuration.checks.find_spec", lambda name: object())
    assert load_config(["logger=wandb"]).logger == "wandb"


def test_files_of_the_mode_must_exist(tmp_path):
    there, missing = tmp_path / "there", tmp_path / "missing"
    there.touch()
    for key, words in {
        "train_model_file": [],
        "test_model_file": ["mode=sample"],
        "story": ["mode=sample", f"test_model_file={there}"],
    }.items():
        for path in (missing, tmp_path)[: 1 + (key == "story")]:  # a folder is no file
            with pytest.raises(ConfigError) as caught:
                load_config([*words, f"{key}={path}"])
            expected = f"{key}: there is no file {path}; give a path that exists"
            assert sentence(caught) == expected
    load_config([f"train_model_file={there}"])
    load_config(["mode=sample", f"test_model_file={there}", f"story={there}"])
    load_config([f"test_model_file={missing}"])  # of the other mode


def test_sampling_needs_a_checkpoint_and_finds_the_last_one(tmp_path):
    words = ["mode=sample", f"ckpt_dir={tmp_path}", "run_name=mine"]
    last = tmp_path / "mine" / "last.ckpt"
    with pytest.raises(ConfigError) as caught:
        load_config(words)
    expected = f"test_model_file is null and run 'mine' has no checkpoint {last}; train first with"
    assert sentence(caught).startswith(expected)
    last.parent.mkdir()
    last.touch()
    with pytest.raises(ValueError, match="last.ckpt is empty; copy or download it again"):
        load_config(words)
    torch.save({}, last.with_name("previous.ckpt"))
    load_config(words)


def test_an_own_story_needs_no_story_file(tmp_path):
    for name in ("model.ckpt", "mine.yaml"):
        (tmp_path / name).touch()
    words = ["mode=sample", "dataset=folder", f"test_model_file={tmp_path / 'model.ckpt'}"]
    words.append(f"folder.hdf5_file={tmp_path / 'missing.h5'}")
    with pytest.raises(ConfigError, match="^folder.hdf5_file: there is no file .*; build"):
        load_config(words)
    load_config([*words, f"story={tmp_path / 'mine.yaml'}"])
    (tmp_path / "missing.h5").touch()
    load_config(words)


@pytest.mark.parametrize("key", ["ckpt_dir", "sample_output_dir"])
def test_a_file_where_a_folder_goes(key, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as caught:
        load_config([f"{key}={tmp_path / 'file'}"])
    assert sentence(caught) == f"{key}: {tmp_path / 'file'} is a file; give the name of a folder"


EDITS = {  # what of the file is changed, into what, and what the sentence says
    "key missing": ("run_name: cartoon", "", "run_name is missing from config.yaml; put it back"),
    "key added": ("seed: 0", "seed: 0\nspeed: 0", "'speed' is not a key of the configuration"),
    "number as key": ("seed: 0", "seed: 0\n1: 2", "'1' is not a key of the configuration"),
    "nested missing": ("  image_size: 128 ", "  #", "tiny.image_size is missing from config.yaml"),
    "section empty": ("  stories: {train: 4000, val: 100, test: 200}", "  stories:",
                      "cartoon.stories is null; it must be a section of train, val, test"),
    "key twice": ("seed: 0 ", "seed: 0\nseed: 1 ", "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("old, new, says", EDITS.values(), ids=EDITS)
def test_an_edited_file(edited, old, new, says):
    with pytest.raises(ConfigError) as caught:
        edited(old, new)
    assert says in sentence(caught)


def test_a_missing_section_is_named(edited):
    start, end = SHIPPED.index("flintstones:\n"), SHIPPED.index("vistsis:\n")
    with pytest.raises(ConfigError, match="^flintstones is missing from config.yaml"):
        edited(SHIPPED[start:end], "")


def test_edits_count_and_the_command_line_comes_after_them(edited):
    assert edited("seed: 0 ", "seed: 3 ").seed == 3
    assert edited("seed: 0 ", "seed: 3 ", "seed=4").seed == 4
    assert edited("init_lr: 8.0e-4", "init_lr: 1e-5").init_lr == 1e-5  # a text to YAML 1.1


@pytest.mark.parametrize("content", [b"\xff\xfe", b"- a\n- b\n", b"just words", b""])
def test_a_file_that_is_no_configuration(tmp_path, content):
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read|is not a key|is missing"):
        load_config([], tmp_path / "config.yaml")


def test_no_file_at_all(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config([], tmp_path / "config.yaml")
