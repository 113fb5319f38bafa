"""What a checkpoint holds beside weights: how far its training had come, and can one take it up?"""

from __future__ import annotations

from pathlib import Path

from torch import nn

__all__ = ["check_training_state", "correct_progress", "place_in_epoch"]

_MOMENTS = {"adamw": ("exp_avg", "exp_avg_sq"), "adamw8bit": ("state1", "state2")}


def check_training_state(
    content: dict, model: nn.Module, optimizer: str, path: str | Path
) -> dict[str, int]:
    """The epochs and optimiser steps that a checkpoint's training has behind it.

    Raises:
        ValueError: it is damaged, or of another optimiser, or other parts of the model trained.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        done = correct_progress(content)
        (state,), (schedule,) = content["optimizer_states"], content["lr_schedulers"]
        numbers = [n for group in state["param_groups"] for n in group["params"]]
        moments = {n: _flat(one) for n, one in state["state"].items()}
        whole = bool(moments) and schedule["base_lrs"] and numbers == list(range(len(numbers)))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ValueError(
            f"{path} is damaged: its training cannot be taken up ({error!r:.80}); give another copy"
        ) from error
    if not whole:
        raise ValueError(f"{path} is damaged: its optimiser's state is gone; give another copy")
    for name, keys in _MOMENTS.items():
        if name != optimizer and all(set(keys) <= one.keys() for one in moments.values()):
            raise ValueError(
                f"{path} was trained with optimizer={name}, but the configuration has {optimizer}; "
                f"set optimizer as it was"
            )
    if len(numbers) != len(trained):
        raise ValueError(
            f"{path} has the optimiser's state of {len(numbers)} tensors, but {len(trained)} train "
            f"now; set freeze_clip, freeze_blip, freeze_resnet and tune as they were"
        )
    for number, one in moments.items():
        for key in _MOMENTS[optimizer]:
            if key not in one or one[key].numel() != trained[number].numel():
                raise ValueError(
                    f"{path}: {key} of trained tensor {number} is not of its size, or not there; "
                    f"give another copy, or set what is trained as it was"
                )
    return done


def _flat(state: dict) -> dict:
    """What is kept of one tensor; bitsandbytes saves its moments in a dictionary of their own."""
    nested = (one for one in state.values() if isinstance(one, dict))
    return {k: v for one in (state, *nested) for k, v in one.items() if k != "step"}


def correct_progress(checkpoint: dict) -> dict[str, int]:
    """Correct the counts of epochs in place; returns those trained whole, and optimiser steps.

    With `max_steps` Lightning takes an epoch that is over for one to go on with, finds no batch
    left in it and counts it again; and an epoch that `max_steps` cut off, it counts as whole.

    Raises:
        KeyError: the checkpoint does not say.
    """
    loops = checkpoint["loops"]["fit_loop"]
    epochs, batches = loops["epoch_progress"], loops["epoch_loop.batch_progress"]
    if epochs["current"]["processed"] == epochs["current"]["ready"]:  # written at an epoch's end
        cut = not batches["is_last_batch"]
        for count in (epochs["current"], epochs["total"]):
            count["processed"] -= cut
            count["completed"] = count["processed"]
        if not cut:
            batches["current"] = dict.fromkeys(batches["current"], 0)
            batches["is_last_batch"] = False
    return {"epochs": epochs["current"]["processed"], "steps": checkpoint["global_step"]}


def place_in_epoch(checkpoint: dict, done: int) -> None:
    """Have Lightning count `done` batches of the epoch as done, in place.

    It counts batches, of which as many stories make fewer when batches have grown since.
    """
    batches = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    current, total = batches["current"], batches["total"]
    if current["processed"] != done:
        batches["current"] = dict.fromkeys(current, done)
        batches["current"]["completed"] -= total["processed"] - total["completed"]
        batches["is_last_batch"] = False
