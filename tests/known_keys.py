"""What tests of configurations share: the names of all keys, values by name, what is refused."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

from configuration.rules import RULES

__all__ = ["known_keys", "leaves", "sentence"]


def known_keys(rules: dict = RULES, prefix: str = "") -> set[str]:
    """Dotted names of keys and sections."""
    names = set()
    for key, rule in rules.items():
        inner = known_keys(rule, f"{prefix}{key}.") if isinstance(rule, dict) else set()
        names |= {prefix + key} | inner
    return names


def leaves(tree: DictConfig | dict, prefix: str = "") -> dict:
    """Dotted key -> what stands there."""
    if isinstance(tree, DictConfig):
        tree = OmegaConf.to_container(tree, resolve=True)
    found = {}
    for key, value in tree.items():
        below = isinstance(value, dict)
        found |= leaves(value, f"{prefix}{key}.") if below else {f"{prefix}{key}": value}
    return found


def sentence(caught) -> str:
    """The message, which must be one line and end without a stop, as `error: …` shows it."""
    message = str(caught.value)
    assert "\n" not in message and message == message.strip() and not message.endswith(".")
    return message
