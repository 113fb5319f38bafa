"""A pipeline as a folder in diffusers' layout, with the code to load it elsewhere."""

from __future__ import annotations

import json
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from models.hub import out_of_reach
from models.sharing.code_bundle import write_code

__all__ = ["OWN_PARTS", "PipelineFolder", "ready_to_share"]

OWN_PARTS = ("conditioner", "add_ons")  # no stock classes; found in `models` or in a bundle of code

VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt")  # one of them is a tokenizer's
KNOWN = ("tokenization", "height", "width")  # without which it would draw, but otherwise


class PipelineFolder:
    """How a `DiffusionPipeline` with parts of our own is saved and loaded; comes before it."""

    def save_pretrained(self, save_directory: str | Path, **how: Any) -> None:
        """Save as a folder in diffusers' layout, with the code to load it elsewhere.

        how: `variant`, `max_shard_size` and more, as the library takes them.

        Raises:
            ValueError: a LoRA is neither merged (`fuse_lora`, `unload_lora_weights`) nor gone.
        """
        if getattr(self.unet, "peft_config", None):
            raise ValueError(
                "the U-Net has a LoRA beside its weights; merge it first with fuse_lora() and "
                "unload_lora_weights(), or save it alone with save_lora_weights()"
            )
        apart = nullcontext()
        if self.add_ons is not None:
            apart = self.add_ons.taken_off(self.unet, self.conditioner)
        with apart:
            super().save_pretrained(save_directory, **how)
        folder = Path(save_directory)
        ready_to_share(folder)
        write_code(type(self).__module__, folder / "pipeline.py")
        for name in OWN_PARTS:
            if (part := getattr(self, name)) is not None:
                write_code(type(part).__module__, folder / name / "models.py")

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, **how: Any
    ) -> PipelineFolder:
        """What `save_pretrained` saved, from a folder or the hub, run by the code that is here.

        how: `torch_dtype` or `dtype`, `variant`, `revision` and more, as the library takes them; a
        folder that has only weights of the variant fp16 need not be told so.

        Raises:
            OSError: it, or a part, is missing.
            ValueError: it is no story pipeline, or another version's.
        """
        folder = str(pretrained_model_name_or_path)
        if not Path(folder).is_dir():
            where = {key: how.pop(key) for key in ("revision", "token") if key in how}
            why = None if "token" in where else out_of_reach(folder)
            where |= {"ignore_patterns": "*.py", "local_files_only": why is not None}
            try:
                folder = snapshot_download(folder, **where)
            except (HFValidationError, LocalEntryNotFoundError) as error:
                raise OSError(
                    f"{folder} is no folder of this machine, and as a model of the hub "
                    f"{why or 'there is none of that name'}; give what models.export wrote"
                ) from error
        config = cls.load_config(folder)
        if (kind := config.get("_class_name")) != cls.__name__:
            raise ValueError(
                f"{folder} holds a {kind}, not a {cls.__name__}; give what models.export wrote"
            )
        other = "is from another version of this code"
        if lacks := [key for key in (*OWN_PARTS, *KNOWN) if key not in config]:
            raise ValueError(
                f"{folder} {other}: its model_index.json has no {lacks[0]!r}; export the model "
                f"again from its checkpoint"
            )
        words = config["tokenization"]
        if not isinstance(words, dict) or not all(
            isinstance(one, int) and one > 0
            for one in (words.get("max_length"), config["height"], config["width"])
        ):
            raise ValueError(
                f"{folder}: tokenization.max_length, height and width of its model_index.json are "
                f"no sizes; export the model again from its checkpoint"
            )
        for name, kind in config.items():
            if isinstance(kind, list) and kind[0] is not None and name not in how:
                _check_whole(Path(folder, name))
        how = {"use_safetensors": True, **how}  # else other files would be unpickled
        files = [file.name for file in Path(folder, "unet").glob("*.safetensors")]
        if files and all(".fp16" in name for name in files):
            how = {"variant": "fp16", **how}
        keys = ("torch_dtype", "dtype", "variant", "low_cpu_mem_usage", "use_safetensors")
        loading = {key: how[key] for key in keys if key in how}
        for name in OWN_PARTS:
            if name not in how and (kind := config[name][1]) is not None:
                try:
                    part = getattr(import_module("models"), kind)
                    how[name] = part.from_pretrained(folder, subfolder=name, **loading)
                except (KeyError, AttributeError, TypeError) as error:
                    raise ValueError(
                        f"{folder}/{name} {other} ({error}); export the model again from its "
                        f"checkpoint"
                    ) from error
        return super().from_pretrained(folder, **how)


def ready_to_share(folder: Path) -> None:
    """Take out where on this machine the parts came from; let who may read the rest read weights.

    (The libraries write the one into config.json, and let nobody else read the others.)
    """
    for path in folder.glob("*/config.json"):
        config = json.loads(path.read_bytes())
        if config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2) + "\n")
    mode = (folder / "model_index.json").stat().st_mode
    for weights in folder.glob("*/*.safetensors"):
        weights.chmod(mode)


def _check_whole(part: Path) -> None:
    """OSError if a part's folder lacks what it is loaded from."""
    lacks = None
    if not part.is_dir():
        lacks = f"it has no {part.name}/"
    elif part.name.endswith("tokenizer"):
        if not any((part / file).is_file() for file in VOCABULARIES):
            lacks = f"{part.name}/ holds no vocabulary"
    elif (part / "config.json").is_file() and not any(part.glob("*.safetensors")):
        lacks = f"{part.name}/ holds no safetensors"
    if lacks:
        raise OSError(f"{part.parent} is not whole: {lacks}; export the model again")
