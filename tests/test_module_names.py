"""Python's own modules stay what they are from inside every folder of this repository."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_no_module_has_the_name_of_a_standard_one():
    """Python looks into the folder of the script it runs, or into the current one, first."""
    folders = {path.parent for path in ROOT.glob("[!.]*/**/*.py")}
    inside = {path for folder in (ROOT, *folders) for path in folder.glob("[!_]*.py")}
    named = {path.stem: path.relative_to(ROOT) for path in inside | folders}
    assert len(named) > 100
    assert not {name: named[name] for name in named.keys() & sys.stdlib_module_names}
