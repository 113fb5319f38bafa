"""How far a checkpoint's training had come, where Lightning's own account of it misleads."""

from __future__ import annotations

__all__ = ["mend_progress", "place_in_epoch"]


def mend_progress(checkpoint: dict) -> dict[str, int]:
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
