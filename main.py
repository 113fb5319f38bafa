"""Train an auto-regressive latent diffusion model on stories, or sample stories with one.

python main.py                              train what config.yaml describes
python main.py mode=sample                  draw the test stories with the last checkpoint
python main.py mode=sample story=mine.yaml  draw a story of your own
python main.py config=presets/NAME.yaml     lay a file over config.yaml; presets/ has published ones

Any key is given as Hydra takes it, key=value. Hydra's own switches: --cfg job prints the
configuration, -m seed=0,1,2 makes a run for each value, -sc install=bash completes keys.
"""

from __future__ import annotations

import common.interrupts  # noqa: F401  Ctrl-C while importing the rest is one line, too

# isort: split
import re
import sys
from collections.abc import Sequence

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from common.imports import heavy_imports
from common.terminal import as_quoted_word, error_in_one_line, in_one_line, print_any_letter
from configuration import ConfigError, load_config
from configuration.composition import FILE, file_words, lay_over, parse_words, read_file
from configuration.rules import RULES

# Hydra writes nothing and changes no folder: runs have folders of their own.
HYDRA = {
    "defaults": [
        "_self_",
        {"override hydra/job_logging": "disabled"},
        {"override hydra/hydra_logging": "disabled"},
    ],
    "hydra": {
        "run": {"dir": "."},
        "sweep": {"dir": "outputs/multirun", "subdir": "."},
        "output_subdir": None,
    },
}
SWEEP = {"-m", "--multirun"}
SHOW = {"--cfg job", "-c job", "--cfg=job"}  # ours: Hydra's own knows files and words alone


def run(words: Sequence[str]) -> None:
    """Do what the words of the command line ask; whatever is wrong ends in one line."""
    try:
        with error_in_one_line():
            config = load_config(words)
            if config.num_cpu_cores not in (None, -1):
                with heavy_imports():
                    import torch
                torch.set_num_threads(config.num_cpu_cores)
            # Only what the mode needs is imported, which takes seconds.
            if config.mode == "train":
                with heavy_imports():
                    from train import train
                train(config)
            else:
                with heavy_imports():
                    from sample import sample
                sample(config)
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        sys.exit(
            f"error: a process that reads stories died ({in_one_line(error)}); lower num_workers, "
            f"or give it more memory"
        )


def show(words: Sequence[str]) -> None:
    """Print what the configuration comes to, whether or not the stories are there yet."""
    with error_in_one_line():
        print(OmegaConf.to_yaml(load_config(words, needs_stories=False), resolve=True), end="")


def run_with_hydra(words: Sequence[str]) -> None:
    """Hydra's own switches: sweeps, completion."""
    program, files = sys.argv[0], [word for word in words if word.startswith("config=")]
    words = [word.lstrip("+") for word in words if not word.startswith("config=")]
    with error_in_one_line():
        _refuse_keys_as_switches(words)
        base = OmegaConf.merge(read_file(), *lay_over(file_words(files)))
        swept = _swept(words)
    words.sort(key=lambda word: word not in SWEEP)  # Hydra's parser wants no words on both sides
    ConfigStore.instance().store("merged", OmegaConf.merge(base, HYDRA))

    def job(config: DictConfig) -> None:
        told = [*files, *HydraConfig.get().overrides.task]
        if HydraConfig.get().mode == RunMode.MULTIRUN:  # each in folders of its own
            chosen = "+".join(word for word in told if word.partition("=")[0] in swept)
            chosen = re.sub("['\"]", "", chosen).replace(",", "+")  # evaluation lists by commas
            for key in {"run_name", "sample_output_dir"} - swept:
                told.append(as_quoted_word(key, f"{config[key]}/{chosen}"))
        sys.argv = [program, *told]  # what processes for other devices are started with
        run(told)

    sys.argv = [program, *words]
    with error_in_one_line():  # of switches that do not go together
        folder = str(FILE.parent)
        hydra.main(config_path=folder, config_name="merged", version_base="1.3")(job)()


def _refuse_keys_as_switches(words: Sequence[str]) -> None:
    for word, after in zip(words, [*words[1:], "…"], strict=True):
        key, _, value = word.lstrip("-").partition("=")
        if word.startswith("-") and key.partition(".")[0] in {*RULES, "config"}:
            raise ConfigError(
                f"{word!r}: keys are given without dashes; write {key}={value or after}"
            )


def _swept(words: Sequence[str]) -> set[str]:
    """The keys that have several values; ConfigError for words that are none of ours or Hydra's."""
    if not SWEEP & set(words):
        return set()
    told = [word for word in words if "=" in word and not word.startswith("-")]
    return {o.get_key_element() for o in parse_words(told, sweep=True) if o.is_sweep_override()}


def main(words: Sequence[str]) -> None:
    print_any_letter()
    switches = [word for word in words if word.startswith("-") or "=" not in word]
    if {"-h", "--help"} & set(words):
        print(f"{__doc__}\nEvery key, with its default:\n\n{FILE.read_text(encoding='utf-8')}")
    elif " ".join(switches) in SHOW:
        show([word for word in words if word not in switches])
    elif any(word.startswith("-") for word in words):
        run_with_hydra(words)
    else:
        run(words)


if __name__ == "__main__":
    main(sys.argv[1:])
