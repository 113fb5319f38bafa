"""Hand a model on: `python -m models.export checkpoint=FILE out=FOLDER [dtype=…] [merge_lora=…]`.

Writes a trained model as a folder in diffusers' layout with a model card, for
`StoryPipeline.from_pretrained` or diffusers' own; from such a folder, a checkpoint that main.py
takes; with layout=original a checkpoint that AR-LDM's code takes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from common.files import check_writable, replacing, writing_folder
from common.key_value_arguments import option, run
from common.terminal import setting
from models.main_process import say

DTYPES = ("float32", "float16", "bfloat16")
LAYOUTS = ("diffusers", "original")


@dataclass
class Export:
    """What to write where."""

    checkpoint: str = option("file of a trained model, or a folder that this command wrote")
    out: str = option(
        "folder to make; where a folder is given or layout=original, the checkpoint to write"
    )
    layout: str = option("how a checkpoint is written", "diffusers", choices=LAYOUTS)
    dtype: str = option("precision of the weights", "float32", choices=DTYPES)
    merge_lora: bool = option("add a LoRA to the weights; false: keep it in a file beside", True)
    samples: str | None = option("samples folder, for the model card: metrics, storyboard", None)
    base_model_file: str | None = option("what it was tuned from, where that has moved", None)


def export(options: Export) -> Path:
    """Write the folder, or the checkpoint; returns its path."""
    source, out = Path(options.checkpoint), Path(options.out)
    if not source.exists():
        raise ValueError(f"checkpoint: there is no {source}; give a checkpoint or such a folder")
    original, is_folder = options.layout == "original", (source / "model_index.json").is_file()
    if out.exists() and (original or is_folder or out.is_file() or any(out.iterdir())):
        raise ValueError(f"out: {out} is there already; give another name or remove it")
    check_writable(out)
    if is_folder:
        if original:
            raise ValueError(
                f"layout: {source} is a folder, but layout=original takes a checkpoint; make one "
                f"of it first, by the same command without layout"
            )
        return _write_checkpoint(source, out)
    return (_write_original if original else _write_folder)(options, source, out)


def _write_folder(options: Export, source: Path, out: Path) -> Path:
    import torch

    from building import check_weights_file, load_parts
    from configuration import load_to_draw
    from models.checkpoints.checkpoint import read_checkpoint
    from models.pipeline import StoryPipeline
    from models.sharing.model_card import measured, write_model_card
    from models.training.tuning import has_lora, merge_lora, take_off_lora

    check_weights_file("checkpoint", source)
    if options.samples is not None:
        measured(Path(options.samples))  # what is wrong with it is said before long work
    config = load_to_draw(source, options.base_model_file)
    parts = load_parts(config, source)
    known = {key: read_checkpoint(source).get(key) for key in ("config", "config_file")}
    # Samplers keep the noise levels, which are many numbers, but may overwrite the rest.
    noise = {k: v for k, v in parts.scheduler_config.items() if k != "trained_betas"}
    trained_for = {"task": config.task, "dataset": config.dataset, "scheduler": noise}
    trained_for |= _as_a_whole(known)
    lora = None
    if has_lora(parts.unet):
        lora = merge_lora(parts.unet) if options.merge_lora else take_off_lora(parts.unet)
    parts.add_ons = {k: v for k, v in parts.add_ons.items() if k.startswith("causal_story.")}
    pipeline = StoryPipeline.from_components(parts, config.scheduler, trained_for)
    dtype = getattr(torch, options.dtype)
    variant = "fp16" if dtype == torch.float16 else None
    beside = {"lora": lora is not None, "causal_story": bool(parts.add_ons), "variant": variant}
    with writing_folder(out) as folder:
        for part in pipeline.components.values():
            if isinstance(part, torch.nn.Module):  # whose own `to` warns of none
                torch.nn.Module.to(part, dtype)
        pipeline.save_pretrained(folder, variant=variant)
        if lora is not None:
            StoryPipeline.save_lora_weights(folder, unet_lora_layers=lora)
        write_model_card(folder, out.name, config, known["config"] or {}, options.samples, **beside)
    return out


def _write_original(options: Export, source: Path, out: Path) -> Path:
    for key in ("dtype", "merge_lora", "samples"):
        if getattr(options, key) != getattr(Export, key, None):
            raise ValueError(
                f"{key}: layout=original writes the weights alone, as they are; leave it out"
            )
    from building import check_weights_file, naming_section
    from configuration import load_to_draw
    from models.caption_tokenizer import EXACT
    from models.checkpoints.checkpoint import read_checkpoint
    from models.checkpoints.export_upstream import export_upstream
    from models.components import load_tokenizers

    check_weights_file("checkpoint", source)
    if not read_checkpoint(source).get("config"):
        raise ValueError(
            f"checkpoint: {source} does not say how it was trained, which layout=original needs; "
            f"give one that training wrote"
        )
    config = load_to_draw(source, options.base_model_file)
    backbone, data = config[config.backbone], config[config.dataset]
    with naming_section(config.backbone):
        tokenizers = load_tokenizers(backbone.diffusion_model, backbone.blip_model, data.new_tokens)
    export_upstream(source, out, tokenizers)
    if data.new_tokens and data.new_tokens_match != EXACT:
        print(
            f"warning: {source} was trained with new_tokens_match={data.new_tokens_match}; the "
            f"original's code finds new words as exact does, so captions with these words ask it "
            f"for other rows than were trained",
            file=sys.stderr,
        )
    return out


def _as_a_whole(known: dict) -> dict:
    """The configuration of a run, of which nothing is tuned beside a base any more."""
    if known["config"] is None:
        return {}
    whole = {"tune": "all", "base_model_file": None, "new_characters": []}
    config = {**known["config"], **whole}
    return {"config": config, "config_file": known["config_file"]}


def _write_checkpoint(source: Path, out: Path) -> Path:
    import torch

    from models.pipeline import StoryPipeline

    pipeline = StoryPipeline.from_pretrained(source)
    parts = {"conditioner": pipeline.conditioner, "unet": pipeline.unet, "vae": pipeline.vae}
    settings = pipeline.config
    used = pipeline.add_ons.used() if pipeline.add_ons is not None else {}
    content = {
        "state_dict": torch.nn.ModuleDict(parts).state_dict(),
        "add_ons": {f"causal_story.{key}": value for key, value in used.items()},
        "tokenization": settings["tokenization"],
        **{k: v for k, v in settings["trained_for"].items() if k in ("config", "config_file")},
    }
    for lora in source.glob("pytorch_lora_weights*"):
        drawn = setting("lora_files", lora, listed=True)
        say(f"{lora} is not in the checkpoint; draw with {drawn}")
    with replacing(out) as temporary:
        torch.save(content, temporary)
    return out


def _run(options: Export) -> None:
    print(f"{export(options)} is written")


if __name__ == "__main__":
    run(Export, __doc__, _run, sys.argv[1:])
