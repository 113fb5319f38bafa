"""Three recorded AdamW steps, the learning rates' curves, and BLIP in training mode."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import load_file
from torch import Tensor

from models.checkpoints.upstream import from_upstream
from models.training.optimizer import build_optimizer
from models.training.stochastic_depth import add_stochastic_depth
from models.training.story_model import StoryModel
from tests.golden.model import Line, largest, load_parts, story_batch

__all__ = ["TRAININGS", "compare_rates", "compare_train_mode", "compare_training"]

PARTS = {
    "text_encoder": "conditioner.text_encoder.",
    "modal_type_embeddings": "conditioner.type_embeddings.",
    "time_embeddings": "conditioner.time_embeddings.",
    "mm_encoder": ("conditioner.vision_encoder.", "conditioner.multimodal_encoder."),
    "vae": "vae.",
    "unet": "unet.",
}
TRAININGS = ("const_lr", "upstream_scheduler", "frozen_all_const_lr")
# AdamW turns gradients that are 0 but for rounding into whole steps, so that what comes after its
# first step depends on the machine. The recording (float32) is therefore compared with our steps in
# float64, and may be as far from them as our own in float32 are: these are taken several times,
# with weights changed by one rounding. Largest distances from float64 on `../shared/golden`: of the
# recording, of 13 ways to compute (threads, instruction sets, oneDNN, attention and AdamW kernels),
# of 8 runs with changed weights:
#                        losses                   gradient norms           norms of what moved
#   const_lr             2.1e-4  3.8e-4  5.0e-4   1.4e-2  1.5e-2  2.2e-2   6.1e-4  5.9e-4  9.2e-4
#   upstream_scheduler   1.7e-6  9.7e-6  6.1e-6   3.2e-4  1.6e-3  1.6e-3   1.8e-6  1.1e-5  1.1e-5
#   frozen_all_const_lr  1.5e-5  2.2e-5  2.2e-5   7.5e-5  4.2e-4  1.0e-3   3.2e-6  1.3e-5  4.7e-5
RUNS, MARGIN = 5, 3  # float32 runs, the first as it is; allowed is their largest distance times 3
# No less than what the recording's own rounding may be; no more than rounding can explain.
LIMITS = {
    "loss": (3e-7, 5e-3), "grad_norm": (5e-5, 1e-1), "[PAD]": (1e-5, 1e-3),
    "param_after": (1e-6, 1e-3), "delta_norm": (1e-5, 5e-3),
}  # fmt: skip
FIRST = {"loss": 3e-7, "grad_norm": 1e-4}  # in float32, before the first step


def compare_training(folder: Path, kind: str) -> list[Line]:
    """The run called `kind` in `train.json`; the learning rates are the recorded ones."""
    golden = json.loads((folder / "train.json").read_text())[kind]
    freeze = {key: value for key, value in golden["kw"].items() if key.startswith("freeze")}
    model = StoryModel(load_parts(folder), **freeze).eval()
    batch = story_batch(folder, "visualization")
    draws = load_file(folder / "train_draws.safetensors")
    start = {name: value.clone() for name, value in model.state_dict().items()}
    recorded = _recorded(golden)
    exact = _train(model.double(), _double(batch), _double(draws), golden)
    model.float()
    runs = []
    for seed in range(RUNS):
        model.load_state_dict(start)
        if seed:
            _round_otherwise(model, seed)
        runs.append(_train(model, batch, draws, golden))
    trainable = sum(parameter.requires_grad for parameter in model.parameters())
    lines = [Line(f"{kind} trainable tensors", abs(trainable - golden["trainable"]), 0)]
    for name, allowed in FIRST.items():
        off = largest(runs[0][f"step 0 {name}"], recorded[f"step 0 {name}"])
        lines.append(Line(f"{kind} step 0 {name} in float32", off, allowed))
    spread: dict[tuple[str, bool], float] = {}
    for name, found in exact.items():
        group = _group(name, golden["lr"])
        spread[group] = max(spread.get(group, 0), *(largest(run[name], found) for run in runs))
    for name, found in exact.items():
        group = _group(name, golden["lr"])
        low, high = LIMITS[group[0]]
        allowed = min(max(MARGIN * spread[group], low), high)
        lines.append(Line(f"{kind} {name}", largest(found, recorded[name]), allowed))
    return lines


def _group(name: str, rates: list[float]) -> tuple[str, bool]:
    """What stray alike: quantities of one sort, before the weights have moved and after."""
    step = int(name.split()[1]) if name.startswith("step") else len(rates)
    return next(sort for sort in LIMITS if sort in name), any(rates[:step])


def _recorded(golden: dict) -> dict[str, Tensor]:
    """The recorded quantities by name."""
    found = {}
    for step in range(len(golden["lr"])):
        found |= {
            f"step {step} loss": golden["loss"][step],
            f"step {step} grad_norm": golden["grad_norm"][step],
            f"step {step} grad_norm_by_module": [
                golden["grad_norm_by_module"][step][part] for part in PARTS
            ],
            f"step {step} [PAD] row's gradient": golden["blip_pad_row_grad"][step],
        }
    found |= {
        "param_after": list(golden["param_after"].values()),
        "delta_norm_by_module": [golden["delta_norm_by_module"][part] for part in PARTS],
        "loss_after": golden["loss_after"],
    }
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in found.items()}


def _train(model: StoryModel, batch: dict, draws: dict, golden: dict) -> dict[str, Tensor]:
    """Our quantities, of three steps from the weights that `model` has."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = build_optimizer("adamw", trainable, 0.0, model.weight_decay, fused=True)
    found: dict[str, object] = {}
    for step, rate in enumerate(golden["lr"]):
        loss = _loss(model, batch, draws, step)
        optimizer.zero_grad()
        loss.backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        table = model.conditioner.multimodal_encoder.get_input_embeddings().weight
        found |= {
            f"step {step} loss": loss.item(),
            f"step {step} grad_norm": _norm(gradients.values()),
            f"step {step} grad_norm_by_module": _norms(gradients),
            f"step {step} [PAD] row's gradient": table.grad[0].norm().item(),
        }
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    after = {name: p.detach() for name, p in model.named_parameters()}
    first = from_upstream({k: torch.tensor(v) for k, v in golden["param_after"].items()})
    with torch.no_grad():
        found |= {
            "param_after": [after[n].flatten()[: len(v)].tolist() for n, v in first.items()],
            "delta_norm_by_module": _norms({name: p - before[name] for name, p in after.items()}),
            "loss_after": _loss(model, batch, draws, 0).item(),
        }
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in found.items()}


def _double(tensors: dict) -> dict:
    return {
        key: value.double() if torch.is_tensor(value) and value.is_floating_point() else value
        for key, value in tensors.items()
    }


@torch.no_grad()
def _round_otherwise(model: StoryModel, seed: int) -> None:
    """Change every weight by at most a unit in its last place, as another rounding would."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        side = torch.randint(-1, 2, parameter.shape, generator=generator)
        parameter.copy_(torch.nextafter(parameter, parameter + side))


def _loss(model: StoryModel, batch: dict, draws: dict[str, Tensor], step: int) -> Tensor:
    names = ("noise", "timesteps", "classifier_free_idx")
    noise, timesteps, null = (draws[f"{step}.{name}"] for name in names)
    with torch.no_grad():
        posterior = model.vae.encode(batch["target_images"].flatten(0, 1)).latent_dist
        latents = posterior.mean + posterior.std * draws[f"{step}.vae_sample_noise"]
        latents = latents * model.vae.config.scaling_factor
    return model.noise_loss(batch, latents, noise, timesteps, null)


def _norm(tensors: Iterable[Tensor]) -> float:
    norms = [tensor.norm().double() for tensor in tensors]
    return torch.stack([torch.zeros((), dtype=torch.float64), *norms]).norm().item()


def _norms(tensors: dict[str, Tensor]) -> list[float]:
    """The norm of each of the original's parts."""
    return [
        _norm(t for name, t in tensors.items() if name.startswith(prefix))
        for prefix in PARTS.values()
    ]


def compare_rates(folder: Path) -> list[Line]:
    """Learning rates once warm: upstream's warm-up starts at 0 and is a step shorter by design."""
    golden, lines = json.loads((folder / "train.json").read_text()), []
    for name, curve in golden.items():
        if not (found := re.fullmatch(r"lr_curve_base(.+)_warmup(\d+)_max(\d+)", name)):
            continue
        base, warmup, total = float(found[1]), int(found[2]), int(found[3])
        model = StoryModel(load_parts(folder), init_lr=base, warmup_steps=warmup)
        model._trainer = SimpleNamespace(
            precision_plugin=None, estimated_stepping_batches=total, strategy=None
        )
        schedule = model.configure_optimizers()["lr_scheduler"]["scheduler"]
        ours = [base * schedule.lr_lambdas[0](step) for step in range(warmup, total)]
        off = max(abs(a - b) for a, b in zip(ours, curve[warmup:total], strict=True))
        lines.append(Line(name, off / base, 1e-6))
    return lines


@torch.no_grad()
def compare_train_mode(folder: Path) -> list[Line]:
    """`trainmode_blip`: dropout and stochastic depth, from the same seeds."""
    golden = load_file(folder / "trainmode_blip.safetensors")
    rate = json.loads((folder / "tiny_config.json").read_text())["vit"]["drop_path_rate"]
    conditioner, batch = load_parts(folder).conditioner, story_batch(folder, "visualization")
    add_stochastic_depth(conditioner.vision_encoder, rate)
    conditioner.train()
    images, ids, mask = (batch[f"history_{k}"].flatten(0, 1) for k in ("images", "ids", "mask"))
    torch.manual_seed(5)
    pictures = conditioner.vision_encoder(images).last_hidden_state
    torch.manual_seed(6)
    states = conditioner.encode_history(images, ids, mask)
    return [
        Line("trainmode vit_seed5", largest(pictures, golden["vit_seed5"]), 1e-5),
        Line("trainmode mm_seed6", largest(states, golden["mm_seed6"]), 1e-5),
    ]
