"""The names of all configuration keys, for tests of texts that mention some."""

from __future__ import annotations

from configuration.rules import RULES

__all__ = ["known_keys"]


def known_keys(rules: dict = RULES, prefix: str = "") -> set[str]:
    """Dotted names of keys and sections."""
    names = set()
    for key, rule in rules.items():
        inner = known_keys(rule, f"{prefix}{key}.") if isinstance(rule, dict) else set()
        names |= {prefix + key} | inner
    return names
