"""Presets: each sets what was published, in one word, and says what to expect of it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from known_keys import leaves
from omegaconf import OmegaConf

from configuration import ConfigError, load_config
from configuration.files import PRESETS

ROOT = Path(__file__).parents[1]
DATA = ("pororo", "flintstones", "vistsis", "vistdii")

# From the published code, configs and papers, not from the presets.
ALL = {
    "backbone": "sd15", "sd15.image_size": 512, "cache_frames": False, "cache_latents": False,
    "batch_size": 1, "optimizer": "adamw", "init_lr": 1e-5, "unet_lr_scale": 1,
    "weight_decay": 1e-4, "max_epochs": 50, "max_steps": -1, "precision": 32,
    "classifier_free_rate": 0.1, "stochastic_depth": 0.1, "tune": "all", "ema_decay": None,
    "half_frozen_weights": False,
    "scheduler": "ddim", "num_inference_steps": 250, "first_frame_inference_steps": None,
    "guidance_scale": 6, "eta": 0, "use_history": True, "num_stories": -1, "calculate_fid": True,
    "causal_story.history_weights": False, "causal_story.history_window": None,
    "evaluation.allow_other_weights": False,
}  # fmt: skip
PLAIN = {"causal_story.spatial_window": None, "causal_story.adapter_width": None}
TRAINS = {"freeze_clip": False, "freeze_blip": False, "freeze_resnet": False}
SD15, SD14 = "stable-diffusion-v1-5/stable-diffusion-v1-5", "CompVis/stable-diffusion-v1-4"
METHODS = {  # GPUs, a story each, are accumulated on one
    "arldm": {
        **TRAINS, **PLAIN, "warmup_epochs": 1, "warmup_steps": None, "gradient_clip_val": None,
        "accumulate_grad_batches": 4, "sd15.diffusion_model": SD15,
    },
    "arldm-paper": {
        **TRAINS, **PLAIN, "warmup_steps": 1000, "gradient_clip_val": 1.0,
        "accumulate_grad_batches": 8, "sd15.diffusion_model": SD14,
    },
    "causal-story": {
        "freeze_clip": True, "freeze_blip": True, "freeze_resnet": True, "warmup_epochs": 1,
        "warmup_steps": None, "gradient_clip_val": None, "accumulate_grad_batches": 1,
        "causal_story.spatial_window": "all",
        "causal_story.adapter_width": 64, "causal_story.blocks": ["mid"],
        "sd15.diffusion_model": SD15,
    },
}  # fmt: skip
VIST = {"new_tokens": [], "independent_crops": True, "clip_embedding_tokens": 49408,
        "blip_embedding_tokens": 30524}  # fmt: skip
SETS = {
    "pororo": {
        "max_length": 85, "clip_embedding_tokens": 49416, "blip_embedding_tokens": 30530,
        "new_tokens": "pororo loopy eddy harry poby tongtong crong rody petty".split(),
    },
    "flintstones": {
        "max_length": 91, "clip_embedding_tokens": 49412, "blip_embedding_tokens": 30525,
        "new_tokens": "fred barney wilma betty pebbles dino slate".split(),
    },
    "vistsis": {"max_length": 100, **VIST},
    "vistdii": {"max_length": 65, **VIST},
}  # fmt: skip
FID = {  # what the papers report: AR-LDM's, Causal-Story's
    "pororo-visualization": (16.59, 16.28), "pororo-continuation": (17.40, 16.98),
    "flintstones-continuation": (19.28, None), "vistsis-continuation": (16.95, None),
    "vistdii-continuation": (17.03, None),
}  # fmt: skip
WHOLE = {
    *(f"arldm-{data}-{task}" for data in DATA for task in ("visualization", "continuation")),
    *(f"arldm-paper-{pair}" for pair in FID),
    *(f"causal-story-{pair}" for pair in list(FID)[:3]),
}
LAYERS = {"fits-40gb", "fits-24gb", "fits-12gb", "lora", "tiny", "new-characters-tiny",
          "new-characters-sd15", "distill-tiny", "distill-sd15", "few-steps"}  # fmt: skip


def parts_of(name: str) -> tuple[str, str, str]:
    """Method, data set and task."""
    return re.fullmatch(r"(.+)-([a-z]+)-([a-z]+)", name).groups()


def text_of(name: str) -> str:
    return (PRESETS / f"{name}.yaml").read_text(encoding="utf-8")


def load(*words):
    """A configuration whose story files and base are there."""
    there = [f"{name}.hdf5_file={__file__}" for name in DATA]
    return load_config([*words, *there, f"base_model_file={__file__}"])


def test_the_folder_holds_what_this_file_speaks_of():
    assert {path.stem for path in PRESETS.glob("*.yaml")} == WHOLE | LAYERS | METHODS.keys()


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_what_a_preset_sets(name):
    method, data, task = parts_of(name)
    config = load(f"config=presets/{name}.yaml")
    expected = ALL | METHODS[method] | {f"{data}.{key}": v for key, v in SETS[data].items()}
    expected |= {"dataset": data, "task": task, "run_name": name}
    expected[f"{data}.new_tokens_match"] = "exact"
    expected["sample_output_dir"] = f"outputs/samples/{name}"
    for key, value in expected.items():
        assert OmegaConf.select(config, key) == value, key


def test_few_steps_change_how_stories_are_drawn_and_nothing_else():
    whole = ["config=presets/arldm-pororo-continuation.yaml", "mode=sample",
             f"test_model_file={__file__}"]  # fmt: skip
    plain, few = (OmegaConf.to_container(load(*whole, *more))
                  for more in ([], ["config=presets/few-steps.yaml"]))  # fmt: skip
    changed = {key: few[key] for key in few if few[key] != plain[key]}
    assert changed == {
        "scheduler": "dpm++", "num_inference_steps": 20, "precision": "bf16-mixed"
    }  # fmt: skip


@pytest.mark.parametrize("layer", sorted(name for name in LAYERS if name.startswith("fits-")))
def test_what_fits_leaves_room_on_the_card(layer):
    counted = float(re.search(r"# Memory: ([\d.]+) GiB", text_of(layer))[1])
    gigabytes = int(re.match(r"fits-(\d+)gb", layer)[1])
    assert counted + 2 < gigabytes * 1e9 / 2**30  # the GPU's own, fragments, workspaces


@pytest.mark.parametrize("how", [
    ["ema_decay=0.9999", "cache_latents=true", "latent_draws=4"],
    ["precision=bf16-mixed", "optimizer_in_backward=true", "gradient_clip_val=null",
     "half_trained_weights=true"],
    ["precision=bf16-mixed", "half_frozen_weights=true", "float8_frozen_weights=true", "tune=lora",
     "base_model_file=config.yaml"],
], ids=["averaged", "small", "a LoRA"])  # fmt: skip
@pytest.mark.parametrize("layer", ["new-characters-sd15", "new-characters-tiny", "distill-sd15",
                                   "distill-tiny"])  # fmt: skip
def test_what_learns_on_a_base_is_not_trained_as_the_base_was(layer, how, tmp_path):
    """By a file such as an edited config.yaml; its average would hardly move in these few steps."""
    file = tmp_path / "mine.yaml"
    file.write_text("\n".join(word.replace("=", ": ") for word in how), encoding="utf-8")
    config = load(f"config={file}", f"config={layer}")
    assert config.ema_decay is None and not config.half_trained_weights
    assert config.gradient_clip_val == 1.0 and not config.optimizer_in_backward


def test_config_yaml_says_which_defaults_are_the_cartoon_worlds():
    header = (ROOT / "config.yaml").read_text(encoding="utf-8").split("\nmode:")[0]
    listed = header[header.index("in every preset:") :].replace("#", " ")
    named = set(re.findall(r"\w+", listed.partition(":")[2]))
    own = OmegaConf.to_container(load_config())
    theirs = OmegaConf.to_container(load("config=arldm", "dataset=pororo"), resolve=True)
    differ = {key for key, value in theirs.items() if not isinstance(value, dict)}
    differ = {key for key in differ if own[key] != theirs[key]}
    assert named == differ - {"run_name", "sample_output_dir", "num_workers", "save_every_minutes",
                              "base_model_file"}  # fmt: skip


def test_a_preset_is_found_by_its_name_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for word in ("arldm-pororo-continuation", "presets/arldm-pororo-continuation",
                 "presets/arldm-pororo-continuation.yaml"):  # fmt: skip
        assert load(f"config={word}").run_name == "arldm-pororo-continuation"
    (tmp_path / "arldm-pororo-continuation").write_text("seed: 3\n")  # one's own comes first
    assert load("config=arldm-pororo-continuation").seed == 3
    with pytest.raises(ConfigError, match="did you mean config=presets/arldm-pororo-contin"):
        load("config=presets/arldm-poro-continuation.yaml")


PRESET = "config=presets/arldm-paper-pororo-visualization.yaml"


@pytest.fixture(scope="module")
def before():
    return leaves(load(PRESET))


@pytest.mark.parametrize("layer", sorted(LAYERS))
def test_layers_change_what_they_name_and_fit_other_presets(layer, before):
    after = leaves(load(PRESET, f"config=presets/{layer}.yaml"))
    named, below = leaves(yaml.safe_load(text_of(layer))), {}
    if "defaults" in named:
        below = leaves(yaml.safe_load(text_of(named.pop("defaults")[0])))
    changed = {key for key in before if before[key] != after[key]}
    assert changed - {"sample_output_dir"} <= named.keys() | below.keys()
    for key, value in {**below, **named}.items():
        if "${" not in str(value):
            assert after[key] == value, key
    load("config=causal-story-flintstones-continuation", f"config={layer}")


def commands(path: Path) -> list[list[str]]:
    """The `python main.py …` lines of a document's code blocks and tables."""
    text = path.read_text(encoding="utf-8")
    found = re.findall(r"^python main\.py.*|(?<=`)python main\.py[^`]*(?=`)", text, re.MULTILINE)
    return [shlex.split(line.partition("#")[0])[2:] for line in found]


DOCUMENTS = (
    "README.md", "data_script/README.md", "docs/a_world_from_nothing.md", "docs/causal_story.md",
    "docs/data.md", "docs/new_characters.md", "docs/usage.md", "presets/README.md",
)  # fmt: skip


def test_commands_of_the_documents_are_understood(tmp_path, monkeypatch):
    """All keys exist and go together; the files they name are not looked for."""
    monkeypatch.setattr("configuration.checks._check_files", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs.yaml").touch()
    found = {tuple(words) for document in DOCUMENTS for words in commands(ROOT / document)}
    assert len(found) > 20
    for base in {word for words in found for word in words if word.startswith("config=outputs/")}:
        written = tmp_path / base.removeprefix("config=")  # as python -m pretraining leaves it
        written.parent.mkdir(parents=True, exist_ok=True)
        written.touch()
    for words in found:
        switches = [word for word in words if "=" not in word]
        assert set(switches) <= {"-m", "--help", "--cfg", "job"}
        settings = [word for word in words if "=" in word]
        if "-m" in switches:  # the first run of a sweep
            settings = [word.partition(",")[0] for word in settings]
        load_config(settings)
