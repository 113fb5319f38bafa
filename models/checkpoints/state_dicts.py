"""The forms that weights go around in, brought to one: a plain state dict."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

__all__ = ["drop_averages", "name_beginnings", "plain_names", "unwrap"]

_WRAPPERS = ("state_dict", "model_state_dict", "model", "module")  # Lightning's; others'
_LEADING = {"module", "model"}  # DataParallel, a LightningModule around the model
_ANYWHERE = {
    "_forward_module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module",
}  # fmt: skip
_AVERAGES = re.compile(r"(\w+_)?ema(_\w+)?")  # LitEma's and others': unet_ema, model_ema, ema_model


def unwrap(content: Any) -> tuple[dict[str, Tensor], dict]:
    """The state dict in what a file holds, and what lies beside it.

    Raises:
        ValueError: there is none; the sentence goes on from the file's name.
    """
    state, beside = content, {}
    while wrapper := next((key for key in _WRAPPERS if _holds_more(state, key)), None):
        beside = {**{key: state[key] for key in state if key != wrapper}, **beside}
        state = state[wrapper]
    if not isinstance(state, Mapping):
        raise ValueError(f"holds a {type(state).__name__}, not tensors by name; give a checkpoint")
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        keys = [str(key) for key in [*state, *beside]]
        if any("optim" in key for key in keys) or {"state", "param_groups"} <= set(keys):
            raise ValueError("holds an optimizer's state only; give the file with the weights")
        raise ValueError(f"holds no weights; its keys are {', '.join(keys[:5]) or 'none'}")
    others = {key: value for key, value in state.items() if key not in tensors}
    if others and state is not content:
        raise ValueError(f"holds more than tensors in its state dict, such as {next(iter(others))}")
    return tensors, {**others, **beside}


def plain_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefixes that wrappers of modules put before a name or into it.

    Raises:
        ValueError: two tensors come to the same name.
    """
    plain: dict[str, Tensor] = {}
    for key, tensor in state.items():
        steps = [step for step in str(key).split(".") if step not in _ANYWHERE]
        while len(steps) > 1 and steps[0] in _LEADING:
            steps = steps[1:]
        name = ".".join(steps)
        if name in plain and plain[name].data_ptr() != tensor.data_ptr():
            raise ValueError(f"holds {name} twice, once as {key}; leave one of them out")
        plain[name] = tensor
    return plain


def drop_averages(
    state: Mapping[str, Tensor], beside: Iterable[str] = ()
) -> tuple[dict[str, Tensor], list[str]]:
    """Without running averages (EMA) of weights that lie among them; what these begin with.

    Names in `beside` that tell of averages are listed, too.

    Raises:
        ValueError: there is nothing else.
    """
    averages = {key for key in state if _AVERAGES.fullmatch(key.partition(".")[0])}
    if averages == state.keys():
        raise ValueError(
            f"holds averages of weights only ({name_beginnings(state)}); give the weights"
        )
    kept = {key: tensor for key, tensor in state.items() if key not in averages}
    found = {f"{key.partition('.')[0]}.*" for key in averages}
    return kept, sorted(found | {key for key in beside if _AVERAGES.fullmatch(str(key))})


def name_beginnings(names: Iterable[str]) -> str:
    """The first steps of names, the most frequent ones first."""
    counts = Counter(name.partition(".")[0] for name in names)
    shown = ", ".join(f"{start}." for start, _ in counts.most_common(5))
    return f"{shown} …" if len(counts) > 5 else shown


def _holds_more(content: Any, key: str) -> bool:
    """Whether there are tensors, or other wrappers, below `key`."""
    inner = content.get(key) if isinstance(content, Mapping) else None
    inside = inner.values() if isinstance(inner, Mapping) else ()
    return any(isinstance(value, Tensor | Mapping) for value in inside)
