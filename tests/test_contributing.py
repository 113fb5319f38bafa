"""What CONTRIBUTING.md says a change touches: its examples, made in a copy of the repository."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(
    r"```(?:python|yaml)\n"
    r"# ([\w./]+)(?:, (at the end|after|in place of) ?([^\n]*))?\n(.*?)```",
    re.S,  # file, how, where
)

# Uses everything the page adds; an assertion that fails names what does not work.
TRIAL = """
import json, sys
from pathlib import Path
import numpy as np, torch
from PIL import Image
from configuration import load_config
from configuration.rules import ConfigError

folder = Path("tales")
folder.mkdir()
tales = []
for n, split in enumerate(["train", "val", "test"]):
    names = [f"{n}{k}.png" for k in range(5)]
    for k, name in enumerate(names):
        Image.fromarray(np.full((20, 30, 3), 40 * k, np.uint8)).save(folder / name)
    tales.append({"id": f"tale{n}", "split": split, "pictures": names, "captions": ["A cat."] * 5})
(folder / "tales.json").write_text(json.dumps(tales))
sys.argv = ["x", "--data_dir", "tales", "--save_path", "data/tales.h5", "--num_process", "1"]
exec(compile(Path("data_script/tales_hdf5.py").read_text(), "data_script/tales_hdf5.py", "exec"),
     {"__name__": "__main__", "__file__": str(Path("data_script/tales_hdf5.py").resolve()),
      "__doc__": "builder"})
from building import open_stories
config = load_config(["dataset=tales", "scheduler=heun", "log_every_n_steps=3"])
assert open_stories(config, "train").captions(0) == ["A cat."] * 5

try:
    load_config(["log_every_n_steps=0"])
except ConfigError as error:
    assert "log_every_n_steps is 0; it must be a whole number of at least 1" in str(error)
else:
    raise AssertionError("the key has no rule")
from models.training.tuning import tuned_names
from train import build_trainer
names = ["unet.a.attn1.to_q.weight", "unet.a.attn2.to_q.weight"]
assert tuned_names(names, "cross_attention") == {names[1]}
config = load_config(["log_every_n_steps=3", "logger=none", "accelerator=cpu"])
assert build_trainer(config).log_every_n_steps == 3
from models.schedulers import sampling_scheduler
betas = {"beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
assert type(sampling_scheduler("heun", betas)).__name__ == "HeunDiscreteScheduler"

from evaluation.metrics.table import METRICS, load, own_story_metrics
assert "contrast" in own_story_metrics() and callable(load(METRICS["contrast"].measure))

from transformers import CLIPTextConfig, CLIPTextModel
from models.colours import ColourConditioner
from models.frames import HistoryTransform
from models.conditioning import Context
text = CLIPTextModel(CLIPTextConfig(vocab_size=50, hidden_size=8, intermediate_size=8,
    num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=4, eos_token_id=2))
transform = HistoryTransform(8, [0.0] * 3, [1.0] * 3)
reader = ColourConditioner(text, torch.ones(1, 4, dtype=torch.long), transform, 50)
batch = {"caption_ids": torch.ones(2, 5, 4, dtype=torch.long),
         "caption_mask": torch.ones(2, 5, 4, dtype=torch.bool),
         "history_ids": torch.ones(2, 5, 4, dtype=torch.long),
         "history_mask": torch.ones(2, 5, 4, dtype=torch.bool),
         "history_images": torch.rand(2, 5, 3, 8, 8)}
context = reader(batch, torch.zeros(10, dtype=torch.bool))
assert context.states.shape == (10, 5 * 4, 8)
batch["history_images"][:, 0] += 1
moved = (reader(batch, torch.zeros(10, dtype=torch.bool)).states - context.states).abs().amax(2)
assert (moved > 0).any(1).all()  # slot 0 is in every row's context; masks say who may look
print("all of it works")
"""


def examples() -> list[tuple[str, str, str, str]]:
    """(file, how, where, content) of every block that names a file."""
    return BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))


def apply(folder: Path, file: str, how: str, where: str, content: str) -> None:
    path = folder / file
    if not how:
        assert not path.exists(), f"{file} is there already"
        path.write_text(content, encoding="utf-8")
        return
    text = path.read_text(encoding="utf-8")
    if how == "at the end":
        path.write_text(text + content, encoding="utf-8")
        return
    assert text.count(where) == 1, f"{where!r} is {text.count(where)} times in {file}"
    if how == "in place of":
        text = text.replace(where, content.strip())
    else:
        lines = text.splitlines(keepends=True)
        number = next(n for n, line in enumerate(lines) if where in line)
        while not re.search(r"[,({\[]\s*(#.*)?$|^\w[\w ]*:", lines[number]):
            number += 1  # an entry of several lines
        text = "".join([*lines[: number + 1], content, *lines[number + 1 :]])
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def copy(tmp_path) -> Path:
    """The repository without its tests and weights."""
    for path in ROOT.iterdir():
        if path.is_dir() and (path / "__init__.py").exists() or path.name == "data_script":
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(path, tmp_path / path.name, ignore=ignored)
        elif path.suffix in (".py", ".yaml"):
            shutil.copy(path, tmp_path)
    return tmp_path


@pytest.mark.long
def test_each_example_is_what_it_takes(copy):
    found = examples()
    assert {file for file, *_ in found} >= {"config.yaml", "datasets/specs.py", "train.py"}
    for example in found:
        apply(copy, *example)
    done = subprocess.run(
        [sys.executable, "-c", TRIAL], cwd=copy, capture_output=True, text=True, check=False
    )
    assert done.stdout.endswith("all of it works\n"), done.stderr[-2000:]
