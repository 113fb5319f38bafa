"""AR-LDM as a Lightning module: teacher-forced training, fixed-noise validation, prediction."""

from __future__ import annotations

import math
from functools import partial
from itertools import groupby, islice

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from diffusers.utils.torch_utils import randn_tensor
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.hooks import RemovableHandle
from transformers.modeling_layers import GradientCheckpointingLayer

from models.checkpoints.training_state import correct_progress, place_in_epoch
from models.components import Components
from models.conditioning import Context
from models.frames import encode_frames
from models.schedulers import training_schedule
from models.seeds import seed_of
from models.story_batch import StoryBatch
from models.training.half_weights import cast_weights
from models.training.micro_batches import checkpoint_in_parts
from models.training.optimizer import build_optimizer, step_in_backward
from models.training.stochastic_depth import add_stochastic_depth
from models.training.tuning import freeze_all_but, is_add_on, tuned_names

__all__ = ["StoryModel"]


_STATES = {"state_dict", "current_model_state"}  # of a checkpoint; the second one beside averages


class StoryModel(pl.LightningModule):
    """Trains the U-Net, the conditioning encoders and tables of `parts`; the VAE stays frozen.

    Args:
        optimizer, init_lr, weight_decay: as `build_optimizer` takes them.
        unet_lr_scale: rate of the U-Net outside cross-attention, in shares of init_lr, where all
            trains. It draws already; a lower rate leaves its pictures as clean as they were.
        optimizer_in_backward: move each parameter as soon as its gradient is there, and free that.
        warmup_steps: optimiser steps of linear warm-up; cosine to 0 over all the real ones after.
        classifier_free_rate: how often a frame's conditioning is replaced by the null blocks.
        freeze_clip, freeze_blip: freeze these encoders, all but their token tables.
        freeze_resnet: freeze every U-Net parameter outside attention blocks.
        tune: `all`, or what alone trains (`tuning.TUNE`); checkpoints then hold only that.
        frozen_dtype: what frozen convolutions and linear layers are kept in. Under autocast to the
            same type nothing changes but the memory: it would cast them there at every use.
        trained_dtype: the same of those that train. Each step is rounded to it at random, which
            needs optimizer_in_backward.
        float8_frozen_weights: keep frozen weights of the U-Net and the encoders in 8 bits, of which
            3 are the fraction's (e4m3), as programs for LoRA do; autocast casts them at every use.
        stochastic_depth: rate of BLIP's last picture layer, as `add_stochastic_depth` takes it.
        gradient_checkpointing: compute the encoders' and the U-Net's activations twice.
        frames_per_micro_batch: frames that the VAE and the U-Net hold activations of at once; None:
            all. With gradient checkpointing each of its blocks goes frame by frame; else the whole
            U-Net does, for one more forward pass.
    """

    def __init__(
        self,
        parts: Components,
        optimizer: str = "adamw",
        init_lr: float = 1e-5,
        unet_lr_scale: float = 1.0,
        weight_decay: float = 1e-4,
        optimizer_in_backward: bool = False,
        warmup_steps: int = 0,
        classifier_free_rate: float = 0.1,
        freeze_clip: bool = False,
        freeze_blip: bool = False,
        freeze_resnet: bool = False,
        tune: str = "all",
        frozen_dtype: torch.dtype = torch.float32,
        float8_frozen_weights: bool = False,
        trained_dtype: torch.dtype = torch.float32,
        stochastic_depth: float = 0.0,
        gradient_checkpointing: bool = False,
        frames_per_micro_batch: int | None = None,
    ) -> None:
        super().__init__()
        self.parts = parts
        self.conditioner = parts.conditioner
        self.unet = parts.unet
        self.vae = parts.vae.requires_grad_(False)
        self.schedule = training_schedule(parts.scheduler_config)
        self.optimizer, self.optimizer_in_backward = optimizer, optimizer_in_backward
        self.leaves_out_backward = False  # of this step, as `StopAtNonFinite` decides
        self._hooks: list[RemovableHandle] = []
        self.init_lr, self.weight_decay, self.warmup_steps = init_lr, weight_decay, warmup_steps
        self.unet_lr_scale = unet_lr_scale
        self.classifier_free_rate = classifier_free_rate
        self.frozen_encoders = []
        if freeze_clip:
            self._freeze_encoder(self.conditioner.text_encoder)
        if freeze_blip:
            for encoder in self.conditioner.history_encoders:
                self._freeze_encoder(encoder)
        if freeze_resnet:
            for name, parameter in self.unet.named_parameters():
                parameter.requires_grad_("attentions" in name)
        self.tune = tune
        if tune != "all":
            freeze_all_but(self, tune)
            self.frozen_encoders = list(self.conditioner.encoders)
        if frozen_dtype != torch.float32:
            cast_weights(self, frozen_dtype, trained=False)
        if float8_frozen_weights:
            for module in (self.unet, self.conditioner):
                cast_weights(module, torch.float8_e4m3fn, trained=False)
        if trained_dtype != torch.float32:
            cast_weights(self, trained_dtype, trained=True)
        if stochastic_depth:
            add_stochastic_depth(self.conditioner.vision_encoder, stochastic_depth)
        if gradient_checkpointing:
            parts_of = partial(checkpoint_in_parts, frames_per_micro_batch)
            self.unet.enable_gradient_checkpointing(parts_of)
            for layer in self.conditioner.modules():
                # Layer by layer, as the library's switch for whole models leaves BLIP's text out.
                if isinstance(layer, GradientCheckpointingLayer):
                    layer.gradient_checkpointing = True
                    layer._gradient_checkpointing_func = partial(checkpoint_in_parts, None)
        self.gradient_checkpointing = gradient_checkpointing
        self.frames_per_micro_batch = frames_per_micro_batch

    def _freeze_encoder(self, encoder: nn.Module) -> None:
        encoder.requires_grad_(False)
        if hasattr(getattr(encoder, "config", None), "vocab_size"):
            encoder.get_input_embeddings().requires_grad_(True)
        self.frozen_encoders.append(encoder)

    def train(self, mode: bool = True) -> StoryModel:
        """As usual, but what is frozen stays in evaluation mode."""
        super().train(mode)
        for module in (self.vae, *self.frozen_encoders):
            module.eval()
        return self

    def on_fit_start(self) -> None:
        self.train()  # libraries hand parts over in evaluation mode, Lightning leaves them there
        self.noise_seed = torch.initial_seed()  # the program's, alike in all processes

    def on_train_batch_start(self, batch: StoryBatch, batch_idx: int) -> None:
        # A batch's draws are its own: processes differ, and a run that is taken up goes on alike.
        torch.manual_seed(seed_of(self.noise_seed, self.current_epoch, batch_idx, self.global_rank))

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["add_ons"] = self.parts.add_ons
        checkpoint["tokenization"] = self.parts.tokenization
        if self.tune != "all":
            checkpoint["base"] = self.parts.base
            for key in _STATES & checkpoint.keys():
                state = checkpoint[key]
                checkpoint[key] = {name: state[name] for name in tuned_names(state, self.tune)}

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        averaged = any(isinstance(one, WeightAveraging) for one in self.trainer.callbacks)
        if not averaged and "current_model_state" in checkpoint:  # an average that is given up
            checkpoint["state_dict"] = checkpoint.pop("current_model_state")
        if self.tune != "all":  # the rest is the base's, which is loaded already
            for key in _STATES & checkpoint.keys():
                checkpoint[key] = {**self.state_dict(), **checkpoint[key]}
        correct_progress(checkpoint)
        data = self.trainer.datamodule
        state = checkpoint.get(type(data).__qualname__)
        if state and (done := data.batches_behind(state)) is not None:
            place_in_epoch(checkpoint, done)
        self._keep_own_rates(checkpoint)

    def _keep_own_rates(self, checkpoint: dict) -> None:
        """Learning rates and weight decay are as they are set now, not as they were."""
        (schedule,), (optimizer,) = checkpoint["lr_schedulers"], checkpoint["optimizer_states"]
        was, groups = optimizer["param_groups"], self._parameter_groups()
        for group in was:
            group["weight_decay"] = self.weight_decay
        rates = [rate for rate, _ in groups]
        if schedule["base_lrs"] == rates:
            return
        both = zip(schedule["_last_lr"], schedule["base_lrs"], strict=True)
        factor = next((last / base for last, base in both if base), 1.0)
        schedule |= {"base_lrs": rates, "_last_lr": [factor * rate for rate in rates]}
        numbers = iter([number for group in was for number in group["params"]])
        optimizer["param_groups"] = [
            was[0]
            | {"initial_lr": rate, "lr": factor * rate, "params": [*islice(numbers, len(now))]}
            for rate, now in groups
        ]

    def _parameter_groups(self) -> list[tuple[float, list[nn.Parameter]]]:
        """Learning rates, and what trains at each; all in the model's order, in which checkpoints
        number it."""

        def rate(named: tuple[str, nn.Parameter]) -> float:
            name, _ = named
            learns_history = ".attn2." in name or is_add_on(name) or not name.startswith("unet.")
            whole = self.tune == "all" and not learns_history
            return self.init_lr * self.unet_lr_scale if whole else self.init_lr

        trainable = [named for named in self.named_parameters() if named[1].requires_grad]
        return [(key, [p for _, p in group]) for key, group in groupby(trainable, rate)]

    @torch.no_grad()
    def latents(self, batch: StoryBatch, generator: torch.Generator | None = None) -> Tensor:
        """Scaled latents (B * V, c, h, w) of a batch's targets, from cache if it carries them."""
        if "latents_mean" in batch:
            mean = batch["latents_mean"].flatten(0, 1)
            if "latents_std" not in batch:  # no posterior: nothing is drawn, as without a cache
                return mean
            noise = randn_tensor(mean.shape, generator, mean.device)
            return mean + batch["latents_std"].flatten(0, 1) * noise
        frames = batch["target_images"].flatten(0, 1)
        at_once = self.frames_per_micro_batch or (1 if self.gradient_checkpointing else None)
        return encode_frames(self.vae, frames, generator, at_once)

    def noise_loss(
        self,
        batch: StoryBatch,
        latents: Tensor,
        noise: Tensor,
        timesteps: Tensor,
        unconditional: Tensor,
    ) -> Tensor:
        """Mean squared error of the U-Net's prediction over B * V frames (AR-LDM, eq. 6).

        Args:
            latents, noise: (B * V, c, h, w); timesteps, unconditional: (B * V,).
        """
        context = self.conditioner(batch, unconditional)
        noisy = self.schedule.add_noise(latents, noise, timesteps)
        return self._mean_error(noisy, timesteps, self.target(latents, noise, timesteps), context)

    def _mean_error(
        self, noisy: Tensor, timesteps: Tensor, target: Tensor, context: Context
    ) -> Tensor:
        """`_summed_error` over the numbers of target, in parts where memory is short."""
        frames = (noisy, timesteps, target, context)
        size = self.frames_per_micro_batch or len(noisy)
        if len(noisy) <= size or self.gradient_checkpointing:
            return self._summed_error(*frames) / target.numel()
        # The loss is a frame's own, so frames can go one after another. Each part's activations
        # live only while its share of the backward pass runs, which computes them again.
        parts = zip(*(rows.split(size) for rows in frames), strict=True)
        sums = (checkpoint(self._summed_error, *part, use_reentrant=False) for part in parts)
        return sum(sums) / target.numel()

    def _summed_error(
        self, noisy: Tensor, timesteps: Tensor, target: Tensor, context: Context
    ) -> Tensor:
        predicted = self.unet(noisy, timesteps, **context.unet_arguments()).sample
        return F.mse_loss(predicted.float(), target.float(), reduction="sum")

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the U-Net should predict, (N, c, h, w); timesteps (N,)."""
        kind = self.schedule.config.prediction_type
        if kind == "epsilon":
            return noise
        if kind == "sample":
            return latents
        return self.schedule.get_velocity(latents, noise, timesteps)

    def _draws(self, latents: Tensor, generator: torch.Generator | None = None):
        """Noise and timesteps for latents (N, c, h, w)."""
        how = {"generator": generator, "device": generator.device if generator else latents.device}
        noise = torch.randn(latents.shape, **how).to(latents.device)
        steps = self.schedule.config.num_train_timesteps
        return noise, torch.randint(0, steps, latents.shape[:1], **how).to(latents.device)

    def training_step(self, batch: StoryBatch, batch_idx: int) -> Tensor:
        latents = self.latents(batch)
        noise, timesteps = self._draws(latents)
        unconditional = torch.rand(len(latents), device=latents.device) < self.classifier_free_rate
        return self.noise_loss(batch, latents, noise, timesteps, unconditional)

    def backward(self, loss: Tensor, *arguments, **how) -> None:
        if not self.leaves_out_backward:
            super().backward(loss, *arguments, **how)

    def validation_step(self, batch: StoryBatch, batch_idx: int) -> None:
        # The same noise every epoch, so that epochs can be compared.
        generator = torch.Generator().manual_seed(batch_idx)
        latents = self.latents(batch, generator)
        noise, timesteps = self._draws(latents, generator)
        unconditional = torch.zeros(len(latents), dtype=torch.bool, device=latents.device)
        loss = self.noise_loss(batch, latents, noise, timesteps, unconditional)
        self.log("val_loss", loss, prog_bar=True, sync_dist=True, batch_size=len(batch["story_id"]))

    def teardown(self, stage: str) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def configure_optimizers(self) -> dict:
        groups = [{"params": group, "lr": rate} for rate, group in self._parameter_groups()]
        # A fused optimiser may be handed scaled gradients, which clipping could not know: Lightning
        # refuses the two together in mixed precision, with a scaler or without.
        mixed = isinstance(self.trainer.precision_plugin, MixedPrecision)
        optimizer = build_optimizer(
            self.optimizer, groups, self.init_lr, self.weight_decay, fused=not mixed
        )
        if self.optimizer_in_backward:
            if self.trainer.world_size > 1:
                raise ValueError(
                    f"optimizer_in_backward is true, but training runs on "
                    f"{self.trainer.world_size} devices, whose gradients must be summed first; "
                    f"set it to false, or gpu_ids=1"
                )
            self._hooks = step_in_backward(optimizer)
        total = self.trainer.estimated_stepping_batches  # counts devices and accumulation
        warmup = self.warmup_steps

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / (warmup + 1)  # not 0: the first step is not for nothing
            progress = (step - warmup) / max(1, total - warmup)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }
