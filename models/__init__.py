"""The story diffusion model: parts, conditioning, training, sampling."""

from importlib import import_module

import common  # noqa: F401  Ctrl-C while libraries load is one line

_CLASSES = {  # of saved pipelines, which name them and this package
    "BlipConditioner": "models.blip",
    "CausalStoryAddOns": "models.causal_story.add_ons",
    "ModelMixin": "diffusers",  # what diffusers compares such classes with
    "StoryPipeline": "models.pipeline",
}
__all__ = list(_CLASSES)


def __getattr__(name: str) -> type:
    """One of the classes above, imported when it is asked for."""
    if name not in _CLASSES:
        raise AttributeError(f"module 'models' has no attribute {name!r}")
    return getattr(import_module(_CLASSES[name]), name)
