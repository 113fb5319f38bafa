"""LoRAs that others made, put onto a pipeline's U-Net: whole, or not at all."""

from __future__ import annotations

from pathlib import Path
from textwrap import shorten
from typing import Any

from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.utils import logging

from models.hub import out_of_reach

__all__ = ["LoraLoading"]


class LoraLoading(StableDiffusionLoraLoaderMixin):
    """The library's loader, which passes over what does not fit; here that is refused."""

    def load_lora_weights(
        self,
        pretrained_model_name_or_path_or_dict: str | Path | dict,
        adapter_name: str | None = None,
        **how: Any,
    ) -> None:
        """Put a LoRA beside the weights: a file, a folder, a hub id or its tensors.

        Each may have a rank of its own. how: as the library takes it.

        Raises:
            ValueError: it is none, was made for another U-Net, is damaged or not there; nothing
                of it stays.
        """
        given = pretrained_model_name_or_path_or_dict
        before, said = set(self._loras()), logging.get_verbosity()
        active = self.unet.active_adapters() if before else []
        logging.set_verbosity(logging.CRITICAL)  # of every part that a LoRA leaves as it is
        try:
            if not isinstance(given, dict):
                given = str(given)
                if not Path(given).exists() and (why := out_of_reach(given)):
                    raise ValueError(why)
            state = self.lora_state_dict(given, unet_config=self.unet.config, **how)[0]
            if broken := [name for name, value in state.items() if not value.isfinite().all()]:
                raise ValueError(f"{broken[0]} is not finite")
            super().load_lora_weights(given, adapter_name, **how)
            self._check_whole(set(self._loras()) - before, state)
        except Exception as error:  # the libraries raise all kinds
            self.delete_adapters(list(set(self._loras()) - before))
            if active:
                self.unet.set_adapter(active)
            what = "the LoRA" if isinstance(given, dict) else given
            intro = f"Error(s) in loading state_dict for {type(self.unet).__name__}:"
            reason = shorten(str(error).removeprefix(intro), 250, placeholder=" …")
            raise ValueError(
                f"{what} does not go onto this U-Net ({reason}); give a LoRA in diffusers' "
                f"format that was made for the same backbone"
            ) from error
        finally:
            logging.set_verbosity(said)

    def _loras(self) -> dict:
        return getattr(self.unet, "peft_config", {})

    def _check_whole(self, added: set[str], state: dict) -> None:
        """ValueError unless each tensor for the U-Net has come to a place there."""
        names = [name for name, _ in self.unet.named_parameters()]
        there = sum(f".{adapter}." in name for adapter in added for name in names)
        told = sum(key.startswith("unet.") and not key.endswith(".alpha") for key in state)
        if not there:
            raise ValueError("it holds nothing for the U-Net")
        if there < told:
            raise ValueError(f"only {there} of its {told} tensors have a place there")
