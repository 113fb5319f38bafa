"""Weights from checkpoint files."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from common.terminal import as_word, setting
from models.caption_tokenizer import EXACT
from models.checkpoints.safe_loading import forget_contents, read_content
from models.checkpoints.state_dicts import drop_averages, name_beginnings, plain_names, unwrap
from models.checkpoints.upstream import (
    adapt,
    from_upstream,
    is_lora,
    is_upstream,
    without_text_model,
)
from models.checkpoints.weights import not_finite, weights_hash
from models.components import Components
from models.main_process import say
from models.training.tuning import is_add_on, tuned_names

__all__ = [
    "check_add_ons",
    "check_base",
    "check_weights",
    "load_base",
    "load_weights",
    "read_checkpoint",
    "read_tokenization",
    "read_weights",
]


def read_checkpoint(path: str | Path) -> dict:
    """What a file of weights holds, whatever its form, with our names in its `state_dict`.

    Tensors stay on disk till they are used. `upstream` says whether the names were the original's,
    `as_saved` whether nothing had to be changed. Averages that lie beside are left out, and said.

    Raises:
        ValueError: it is none, or does not say clearly what its weights are.
    """
    content, averages = _read(path)
    forget_contents()  # whoever reads the weights comes last
    if averages:
        say(f"{path}: left out {', '.join(averages)}, averages beside the weights")
    return content


def _read(path: str | Path) -> tuple[dict, list[str]]:
    """As above, and what was left out."""
    try:
        saved, beside = unwrap(read_content(path, mmap=True))
        state, averages = drop_averages(plain_names(saved), beside)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error
    upstream = is_upstream(state)
    state = (from_upstream if upstream else without_text_model)(state)
    as_saved = state.keys() == saved.keys()
    content = {**beside, "state_dict": state, "upstream": upstream, "as_saved": as_saved}
    return content, averages


def read_tokenization(path: str | Path) -> dict:
    """How a checkpoint's captions became tokens: `Components.tokenization`, or what is known of it.

    The original's have one way; of bare weights nothing is known.

    Raises:
        ValueError: it is none, as above.
    """
    content, _ = _read(path)
    known = {"new_tokens_match": EXACT} if content["upstream"] else {}
    return dict(content.get("tokenization") or known)


def check_base(path: str | Path) -> None:
    """ValueError unless a file holds weights to start from, not only what was tuned."""
    _refuse_tuned(_read(path)[0], path)


def _refuse_tuned(content: dict, path: str | Path) -> None:
    if content.get("base"):
        raise ValueError(
            f"base_model_file: {path} holds only what was tuned; give what it was tuned from, or, "
            f"to build upon both, what python -m models.export makes of them (docs/handing_on.md)"
        )


def load_base(parts: Components, path: str | Path) -> None:
    """Load the weights that tuning starts from; the add-ons that they lack stay as they are.

    Raises:
        ValueError: not the weights of such a model, or themselves only what was tuned.
    """
    content = read_checkpoint(path)
    _refuse_tuned(content, path)
    check_add_ons(content.get("add_ons", {}), parts.add_ons, path, more=True)
    model, state = parts.modules(), content["state_dict"]
    new = {k: v for k, v in model.state_dict().items() if is_add_on(k) and k not in state}
    tune = parts.add_ons.get("tune", "all")
    if dead := sorted(new.keys() - tuned_names(new, tune)):
        raise ValueError(
            f"base_model_file: {path} has no {dead[0]}, and tune={tune} would not train it; leave "
            f"that add-on out, or set tune to what trains it"
        )
    parts.base = weights_hash(state)
    state = {**state, **new}
    try:
        check_weights(model, state, path)
    except ValueError as error:
        raise ValueError(
            f"base_model_file: {error}; words new to the tokenizers must be those of the base"
        ) from error
    model.load_state_dict(state)


def check_add_ons(theirs: dict, ours: dict, path: str | Path, more: bool = False) -> None:
    """ValueError unless a checkpoint's add-ons are ours; `more`: ours may be more than those.

    Both say first what the rest hangs on, so that the first difference names the key to set.
    """
    for key in {**theirs, **({} if more else ours)}:
        if theirs.get(key) != ours.get(key):
            unsaid = "all" if key == "tune" else None
            was, now = (f"{key}={as_word(d.get(key, unsaid))}" for d in (theirs, ours))
            start = f", or start from it with {setting('base_model_file', path)}"
            base = "" if key in theirs else start
            raise ValueError(
                f"{path} was trained with {was}, but the configuration has {now}; set {key} as it "
                f"was in training{base}, or give another checkpoint"
            )


def check_weights(model: nn.Module, state: dict[str, Tensor], path: str | Path) -> None:
    """ValueError if `state`, read from `path`, is of another model; names what differs first.

    Where checkpoints differ among themselves, both are made to fit before, and it is said.
    """
    if all(map(is_lora, state)) and not any(map(is_lora, model.state_dict())):
        raise ValueError(
            f"{path} holds a LoRA alone; give a checkpoint of the whole model, and this beside it "
            f"as {setting('lora_files', path, listed=True)}"
        )
    for line in adapt(model, state):
        say(f"{path}: {line}")
    own = model.state_dict()
    if not own.keys() & state.keys():
        raise ValueError(
            f"{path} has keys that begin with {name_beginnings(state)}, but this model's begin "
            f"with {name_beginnings(own)}; give a checkpoint of the whole model"
        )
    problems = {
        "lacks": sorted(own.keys() - state.keys()),
        "has, unknown here,": sorted(state.keys() - own.keys()),
        "has in another shape": sorted(
            k for k in own.keys() & state.keys() if own[k].shape != state[k].shape
        ),
    }
    for what, keys in problems.items():
        if keys:
            raise ValueError(
                f"{path} {what} {len(keys)} of the model's tensors, such as {keys[0]}; "
                f"use the dataset and backbone it was trained with"
            )
    if ruined := not_finite(state):
        raise ValueError(
            f"{path} has {len(ruined)} tensors that are not finite, such as {ruined[0]}: its "
            f"training went wrong; give an earlier checkpoint"
        )


def read_weights(model: nn.Module | Components, path: str | Path) -> dict:
    """A checkpoint's content, its `state_dict` made whole from the base and checked.

    model: the parts of a story model, or a module of which they are `parts`.

    Raises:
        ValueError: it is of another model, of other add-ons, or tuned from another base.
    """
    content = read_checkpoint(path)
    state, network = content["state_dict"], model
    parts = getattr(model, "parts", None)
    if isinstance(model, Components):
        parts, network = model, model.modules()
    if parts is not None:
        check_add_ons(content.get("add_ons", {}), parts.add_ons, path)
    if parts is not None and content.get("base"):
        if parts.base != content["base"]:
            raise ValueError(
                f"{path} was tuned from weights with the hash {content['base'][:12]}…, but those "
                f"of base_model_file have {parts.base[:12]}…; set base_model_file to that base"
            )
        own = network.state_dict()
        frozen = own.keys() - tuned_names(own, parts.add_ons["tune"])
        content["state_dict"] = state = {**{name: own[name] for name in frozen}, **state}
    shapes = _shapes(state)
    check_weights(network, state, path)
    content["as_saved"] &= shapes == _shapes(state)
    return content


def _shapes(state: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}


def load_weights(model: nn.Module | Components, path: str | Path) -> None:
    """Load a checkpoint's weights, every key accounted for; ValueError as above."""
    state = read_weights(model, path)["state_dict"]
    (model.modules() if isinstance(model, Components) else model).load_state_dict(state)
