"""A module of this room and all it needs, as files beside each other that diffusers can load."""

from __future__ import annotations

import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

__all__ = ["write_code"]

_IMPORT = re.compile(r"^from (models(?:\.\w+)+) import", re.MULTILINE)
_FOR_TYPES_ONLY = re.compile(r"^    from models\.[\w.]+ import .*$", re.MULTILINE)


def write_code(module: str, path: Path) -> None:
    """Write `module` to the file `path`, and the modules it imports from this room beside it.

    Their imports of each other become relative ones, and `path` names all of them, as diffusers
    copies no others; what is imported for annotations alone is left out.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not module.startswith("models."):  # itself from a bundle, with all it needs beside it
        origin = Path(sys.modules[module].__file__)
        for file in origin.parent.glob("*.py"):
            shutil.copyfile(file, path if file == origin else path.with_name(file.name))
        return
    texts, waiting = {}, [module]
    while waiting:
        if (name := waiting.pop()) not in texts:
            source = Path(find_spec(name).origin).read_text(encoding="utf-8")
            texts[name] = _FOR_TYPES_ONLY.sub("    pass", source)
            waiting += _IMPORT.findall(texts[name])
    others = [_flat(name) for name in texts if name != module]
    for name, source in texts.items():
        source = _IMPORT.sub(lambda found: f"from .{_flat(found[1])} import", source)
        if name == module:
            source += '\n\ndef _files() -> None:\n    """Names what else is copied."""\n'
            source += "".join(f"    from .{other} import __name__\n" for other in others)
        file = path if name == module else path.with_name(f"{_flat(name)}.py")
        file.write_text(source, encoding="utf-8")


def _flat(module: str) -> str:
    return module.removeprefix("models.").replace(".", "_")
