"""The one configuration: its keys' rules, the files laid over config.yaml, what checkpoints say."""

from configuration.checks import checkpoint_folder, checkpoint_to_draw_with
from configuration.composition import load_config, load_to_draw, plain, read_file, write_config
from configuration.rules import ConfigError

__all__ = [
    "ConfigError", "checkpoint_folder", "checkpoint_to_draw_with", "load_config", "load_to_draw",
    "plain", "read_file", "write_config",
]  # fmt: skip
