"""The configuration: what it lets pass, and what one sentence it says about the rest."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from known_keys import leaves, sentence
from omegaconf import OmegaConf

from configuration import ConfigError, checkpoint_folder, load_config
from configuration.composition import parse_words
from configuration.rules import BACKBONES, DATASETS, RULES

ROOT = Path(__file__).parents[1]
SHIPPED = (ROOT / "config.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def shipped():
    return load_config()


@pytest.fixture
def composed_once(shipped, monkeypatch):
    """Spares a table of values Hydra's tenth of a second each: its parser works, on a copy."""

    def compose(name, overrides):
        config = deepcopy(shipped)
        for override in OverridesParser.create().parse_overrides(overrides):
            OmegaConf.update(config, override.get_key_element(), override.value(), merge=True)
        return config

    monkeypatch.setattr("configuration.composition.compose", compose)


def test_the_shipped_file_passes_and_is_left_as_it_is(shipped):
    assert (shipped.mode, shipped.task, shipped.dataset, shipped.backbone) == (
        "train", "visualization", "cartoon", "tiny",
    )  # fmt: skip
    plain = yaml.safe_load(SHIPPED.replace("6.0e-4", "0.0006").replace("1.0e-4", "0.0001"))
    assert leaves(shipped) == leaves(plain)


def test_every_key_has_a_rule_and_every_rule_a_key():
    assert leaves(yaml.safe_load(SHIPPED)).keys() == leaves(RULES).keys()


def test_every_line_of_the_file_says_what_it_means():
    explained = SHIPPED.split("# backbones")[0].splitlines()
    assert [line for line in explained if re.match(r"\w+:", line) and "#" not in line] == []


def test_every_key_is_read_somewhere():
    read_in = [ROOT / "configuration" / name for name in ("checks.py", "checkpoint_settings.py")]
    files = [*ROOT.glob("*.py"), *read_in]
    code = "\n".join(path.read_text(encoding="utf-8") for path in files)
    sections = {*DATASETS, *BACKBONES}
    assert "config[config.dataset]" in code and "config[config.backbone]" in code
    for key in leaves(RULES):
        first, *rest = key.split(".")
        name = rest[0] if first in sections else first
        if first in BACKBONES:  # goes to load_components(**backbone)
            code_of_key = (ROOT / "models" / "components.py").read_text(encoding="utf-8")
            assert re.search(rf"^    {name}: ", code_of_key, re.MULTILINE), key
        else:
            owner = "data" if first in sections else "config"
            keys = rf'\b{owner}\.{name}\b|"{name}"|_{name.partition("_")[2]}"'
            assert re.search(keys, code), f"no code reads {key}"


GOOD = {
    "seed=5": 5,
    "+num_workers=1": 1,
    "++num_nodes=2": 2,
    "init_lr=1e-5": 1e-5,
    "gradient_clip_val=null": None,
    "gpu_ids=[0,1]": [0, 1],
    "num_cpu_cores=2": 2,
    "max_steps=10": 10,
    "num_stories=-1": -1,
    "warmup_epochs=0": 0,
    "guidance_scale=0": 0,
    "scheduler=dpm++": "dpm++",
    "tiny.image_size=64": 64,
    "tiny.blip_model=Salesforce/blip-itm-large-coco": "Salesforce/blip-itm-large-coco",
    "pororo.new_tokens=[]": [],
    "flintstones.new_tokens=[fred,barney]": ["fred", "barney"],
    "cartoon.stories.train=6": 6,
    "run_name=with space": "with space",
    'ckpt_dir="odd (1), [2]"': "odd (1), [2]",
}


def test_good_overrides():
    config = load_config(list(GOOD))
    for word, value in GOOD.items():
        assert OmegaConf.select(config, word.partition("=")[0].lstrip("+")) == value, word


def test_overrides_go_together_and_reach_the_checkpoint_folder():
    config = load_config(["ckpt_dir=a/b", "run_name=c", "cartoon.stories={train:6,val:2}"])
    assert checkpoint_folder(config) == Path("a/b/c")
    assert config.cartoon.stories == {"train": 6, "val": 2, "test": 200}  # the others stay


UNKNOWN = [  # word, the key named, the remedy
    ("newkey=1", "'newkey'", "see config.yaml for all keys"),
    ("+newkey=1", "'newkey'", "see config.yaml for all keys"),
    ("sed=1", "'sed'", "did you mean seed?"),
    ("Seed=1", "'Seed'", "did you mean seed?"),
    ("~seed=1", "'~seed'", "did you mean seed?"),
    ("tiny.imagesize=64", "'tiny.imagesize'", "did you mean tiny.image_size?"),
    ("cartoon.stories.trian=5", "'cartoon.stories.trian'", "did you mean cartoon.stories.train?"),
    ("+cartoon.stories.more=5", "'cartoon.stories.more'", "see config.yaml for all keys"),
    ("seed.low=1", "'seed.low'", "see config.yaml for all keys"),
    ("backbone/tiny=x", "'backbone/tiny'", "did you mean backbone?"),
]


@pytest.mark.parametrize("word, key, remedy", UNKNOWN, ids=[word for word, *_ in UNKNOWN])
def test_unknown_keys(word, key, remedy):
    with pytest.raises(ConfigError) as caught:
        load_config([word])
    assert sentence(caught) == f"{key} is not a key of the configuration; {remedy}"


def test_all_unknown_keys_are_named_at_once_by_the_names_that_forks_gave_them():
    with pytest.raises(ConfigError) as caught:
        load_config(["freeze_mm_encoder=true", "seed=1", "sed=2", "tiny.size=3"])
    assert sentence(caught) == (
        "3 keys are not of the configuration: 'freeze_mm_encoder' (here it is freeze_blip), 'sed' "
        "(did you mean seed?), 'tiny.size' (see config.yaml for all keys)"
    )


VALUES = {  # as AR-LDM's forks and older Lightning write them
    "gpu_ids=1": {"gpu_ids": 1, "accelerator": "auto"},
    "gpu_ids=[]": {"gpu_ids": 1, "accelerator": "cpu"},
    "gpu_ids=-1": {"gpu_ids": "auto", "accelerator": "auto"},
    "precision=16": {"precision": "16-mixed"},
    "precision=bf16": {"precision": "bf16-mixed"},
    "precision='32'": {"precision": 32},
    "precision=32-true": {"precision": 32},
    "pororo.new_tokens=null": {"pororo.new_tokens": []},
}


@pytest.mark.parametrize("word", VALUES)
def test_values_of_forks_mean_what_they_meant(composed_once, word):
    config = load_config([word])
    for key, value in VALUES[word].items():
        assert OmegaConf.select(config, key) == value, key


def test_no_gpu_and_a_gpu_is_refused(composed_once):
    with pytest.raises(ConfigError, match=r"^gpu_ids is \[\]; it must be auto"):
        load_config(["gpu_ids=[]", "accelerator=gpu"])


FORM = [
    ("mode", "not of the form key=value, such as mode=sample"),
    ("--mode", "not of the form key=value"),
    ("seed=(", "put a value with special characters in two pairs of quotes: 'seed=\"...\"'"),
    (
        "metrics=[é]",
        "put each text in it with special characters in two pairs of quotes: 'metrics=[\"...\"]'",
    ),
    ("new_characters=[{word: lúna}]", "two pairs of quotes: 'new_characters=[{word: \"...\"}]'"),
    ("story=a(b).yaml", "put a value with special characters in two pairs of quotes"),
    ("tiny.=1", "'tiny.' is not a key"),
    ("seed=1,2", "gives seed several values; give one, a list as seed=[a,b]"),
    ("seed=${sed}", "Interpolation key 'sed' not found"),
    ("run_name=???", "Missing mandatory value: run_name"),
]


def test_quoted_texts_within_a_list_are_understood():
    (word,) = parse_words(['new_characters=[{word: "lúna", pictures: "./é"}]'])
    assert word.value() == [{"word": "lúna", "pictures": "./é"}]


@pytest.mark.parametrize("word, says", FORM, ids=[word for word, _ in FORM])
def test_words_of_another_form(word, says):
    with pytest.raises(ConfigError) as caught:
        load_config([word])
    message = sentence(caught)
    assert says in message and word in message or word == "tiny.=1"


WHOLE = "a whole number of at least 1"
GPUS = "auto, a number of devices, or a list of their numbers such as [0]"
BAD = [  # of each kind of rule: word, the value as shown, the remedy
    ("mode=samble", '"samble"', "one of train, sample"),
    ("seed=4294967296", "4294967296", "a whole number from 0 to 4,294,967,295"),
    ("seed=1.0", "1.0", "a whole number from 0 to 4,294,967,295"),
    ("seed=true", "true", "a whole number from 0 to 4,294,967,295"),
    ("seed=", '""', "a whole number from 0 to 4,294,967,295"),
    ("gpu_ids=true", "true", GPUS),
    ("gpu_ids=[a]", '["a"]', GPUS),
    ("gpu_ids=[-1]", "[-1]", GPUS),
    ("strategy=null", "null", "a text"),
    ("redraw.story=15", "15", "a text or null, such as 'redraw.story=\"15\"'"),
    ("precision=64", "64", "one of 32, bf16-mixed, 16-mixed"),
    ("num_cpu_cores=0", "0", "a whole number above 0, or -1 or null for PyTorch's own choice"),
    ("cache_frames=1", "1", "true or false"),
    ("init_lr=nan", "NaN", "a number from 0 to 1"),
    ("weight_decay=inf", "Infinity", "a number of at least 0"),
    ("warmup_steps=0.5", "0.5", WHOLE.replace("1", "0") + " or null"),
    ("max_steps=0", "0", "a whole number above 0, or -1 for no limit"),
    ("run_name=a/../../b", '"a/../../b"', "a text, the name of a folder within ckpt_dir"),
    ("metrics=clip", '"clip"', "a list of words"),
    ("causal_story.spatial_window=none", '"none"', f"all, or {WHOLE} or null"),
    ("ema_decay=1", "1", "a number from 0 to 0.999999 or null"),
    ("story=[a.yaml]", '["a.yaml"]', "a text or null"),
    ("guidance_interval=[0.8,0.2]", "[0.8, 0.2]",
     "null, or two shares of the steps, the lower first, such as [0.2, 0.8]"),
    ("tiny=small", '"small"', "a section of diffusion_model, blip_model, image_size"),
    ("sd15=null", "null", "a section of diffusion_model, blip_model, image_size"),
    ("tiny.image_size=32", "32", "a whole number from 64 to 2,048, or two, [height, width]"),
    ('pororo.new_tokens=[""]', '[""]', "a list of words"),
    ("cartoon.stories=5", "5", "a section of train, val, test"),
    ("cartoon.stories={train:1.5}", "1.5", WHOLE),
    (
        "new_characters=[{word: a}]",
        '[{"word": "a"}]',
        "a list of characters, each {word: …, class_word: …, pictures: FOLDER}, and, if you like, "
        "caption and pronoun; all are texts",
    ),
]  # fmt: skip


@pytest.mark.parametrize("word, shown, wanted", BAD, ids=[word for word, *_ in BAD])
def test_impossible_values(composed_once, word, shown, wanted):
    with pytest.raises(ConfigError) as caught:
        load_config([word])
    key = "cartoon.stories.train" if word.endswith("{train:1.5}") else word.partition("=")[0]
    assert sentence(caught) == f"{key} is {shown}; it must be {wanted}"


def test_every_rule_refuses_something():
    """No key takes anything at all, and each says what it takes."""
    for key, (holds, wanted) in leaves(RULES).items():
        assert wanted and not all(map(holds, (None, -11, 0.5, "?", [7], {}))), key


TOGETHER = {
    "no learning": (["init_lr=0"], "init_lr is 0", "above 0"),
    "guidance untrained": (["classifier_free_rate=0", "guidance_scale=2"],
                           "guidance_scale is 2 but", "set guidance_scale=1 or a rate such as 0.1"),
    "half precision on a CPU": (["precision=16-mixed", "accelerator=cpu"], "precision is 16-mixed",
                                "use bf16-mixed or 32"),
    "halves nobody computes in": (["half_frozen_weights=true"], "half_frozen_weights is true",
                                  "set half_frozen_weights=false or precision=bf16-mixed"),
    "eighths of what is saved": (
        ["float8_frozen_weights=true", "precision=bf16-mixed", "half_frozen_weights=true"],
        "with tune=all they would be saved rounded", "or float8_frozen_weights=false",
    ),
    "eighths without halves": (
        ["float8_frozen_weights=true", "tune=lora", "base_model_file=config.yaml"],
        "half_frozen_weights is false", "or float8_frozen_weights=false",
    ),
    "an average in eighths": (
        ["float8_frozen_weights=true", "tune=lora", "base_model_file=config.yaml",
         "half_frozen_weights=true", "precision=bf16-mixed", "ema_decay=0.9"],
        "ema_decay is 0.9", "or float8_frozen_weights=false",
    ),
    "a clipped step within the backward pass": (["optimizer_in_backward=true"],
        "gradient_clip_val is 1.0, which needs the norm of all gradients",
        "set gradient_clip_val=null, or optimizer_in_backward=false"),
    "a step within one backward pass of several": (
        ["optimizer_in_backward=true", "gradient_clip_val=null", "accumulate_grad_batches=2"],
        "accumulate_grad_batches is 2", "set accumulate_grad_batches=1, or "
        "optimizer_in_backward=false",
    ),
    "a scaled step within the backward pass": (
        ["optimizer_in_backward=true", "gradient_clip_val=null", "precision=16-mixed"],
        "precision is 16-mixed", "set precision=bf16-mixed, or optimizer_in_backward=false",
    ),
    "priors of nobody": (["prior_stories=drawn"], "is drawn, but new_characters is []",
                         "set new_characters, or prior_stories=auto"),
    "a guided nobody": (["teacher_guidance_scale=0"], "teacher_guidance_scale is 0, but distill",
                        "or teacher_guidance_scale=null"),
    "nothing to steer away": (["mode=sample", "test_model_file=config.yaml", "negative_prompt=fog"],
                              "negative_prompt is fog, but with guidance_scale=1",
                              "or set negative_prompt=null"),
    "an interval of nothing": (
        ["mode=sample", "test_model_file=config.yaml", "guidance_interval=[0,1]"],
        "guidance_interval is [0,1]", "or set guidance_interval=null",
    ),
    "endless warm-up": (["warmup_epochs=2", "max_epochs=2"], "warmup_epochs is 2 and max_epochs 2",
                        "lower warmup_epochs"),
}  # fmt: skip


@pytest.mark.parametrize("words, names, remedy", TOGETHER.values(), ids=TOGETHER)
def test_impossible_combinations(composed_once, words, names, remedy):
    with pytest.raises(ConfigError) as caught:
        load_config(words)
    message = sentence(caught)
    assert names in message and message.endswith(remedy)


@pytest.mark.parametrize("words", [
    "classifier_free_rate=0 guidance_scale=1", "warmup_epochs=2 max_steps=10",
    "warmup_epochs=2 warmup_steps=1", "scheduler=unipc", "guidance_interval=[0.2,0.8]",
    "optimizer_in_backward=true gradient_clip_val=null", "precision=bf16-mixed accelerator=cpu",
    "precision=bf16-mixed half_frozen_weights=true", "num_cpu_cores=-1",
])  # fmt: skip
def test_combinations_that_do_work(composed_once, words):
    load_config(words.split())
