"""The rooms of the house: every module can be imported, and none reaches where it must not."""

from __future__ import annotations

import ast
import importlib
import runpy
import signal
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = (
    "benchmarks", "common", "configuration", "data_script", "datasets", "demo", "evaluation",
    "models", "page", "pretraining",
)  # fmt: skip
# What each room may import of the others; the files at the root and the rest may import all.
ALLOWED = {
    "common": set(),
    "models": {"common"},
    "datasets": {"common"},
    "evaluation": {"common"},
    "data_script": {"common", "datasets", "evaluation"},
    "configuration": {"common", "datasets", "evaluation", "models"},
}
# A metric that compares drawn frames with rendered ones, so it renders.
RENDERS = {"evaluation/metrics/fidelity.py": {"datasets"}}
COMMANDS = {"models/export.py"}  # run from the root, as main.py is
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for room in ROOMS
    for path in (ROOT / room).rglob("*.py")
    if path.stem not in ("__init__", "__main__")
)


def imported(path: Path) -> set[str]:
    """The first part of everything that a file imports, at any place in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
    return found


@pytest.mark.parametrize(
    "module", [*MODULES, "app", "main", "train", "sample", "redraw", "building", "new_characters"]
)
def test_every_module_can_be_imported(module):
    importlib.import_module(module)


def test_no_module_needs_unix_to_be_imported(monkeypatch):
    """What Windows lacks is asked for where it is used, or done without."""
    modules, signals = ("fcntl", "grp", "pwd", "resource", "termios"), ("SIGKILL", "SIGUSR1")
    mentioned = [
        path
        for path in (ROOT.joinpath(*module.split(".")).with_suffix(".py") for module in MODULES)
        if any(name in path.read_text(encoding="utf-8") for name in (*modules, *signals))
    ]
    for name in modules:
        monkeypatch.setitem(sys.modules, name, None)
    for name in signals:
        monkeypatch.delattr(signal, name)
    for path in mentioned:
        runpy.run_path(str(path), run_name=path.stem)
    assert len(mentioned) >= 3


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_from_where_it_may(room):
    root = {"app", "main", "train", "sample", "redraw", "building", "new_characters"}
    others = {*ROOMS, *root} - {room} - ALLOWED[room]
    for path in (ROOT / room).rglob("*.py"):
        if str(path.relative_to(ROOT)) not in COMMANDS:
            more = RENDERS.get(str(path.relative_to(ROOT)), set())
            assert not imported(path) & others - more, path


def test_no_module_hides_one_of_pythons_own():
    """Started in its folder, Python would find ours instead."""
    names = {path.stem for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    assert names & sys.stdlib_module_names <= {"__main__"}


def loaded_first(path: Path) -> str:
    """The first module that a file imports and that is not Python's own."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        names = [alias.name for alias in getattr(node, "names", ())]
        for name in [node.module] if isinstance(node, ast.ImportFrom) else names:
            if name.partition(".")[0] not in sys.stdlib_module_names:
                return name
    return ""


def test_in_every_command_ctrl_c_is_one_line_before_libraries_load():
    """By `common`, which comes first: in a room run with -m by the room's own __init__.py."""
    assert loaded_first(ROOT / "common" / "__init__.py") == "common.interrupts"
    files = [*ROOT.glob("*.py"), *(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))]
    commands = [path for path in files if '__name__ == "__main__"' in path.read_text("utf-8")]
    for path in commands:
        room = path.relative_to(ROOT).parts[0]
        by_path = path.parent == ROOT or room == "data_script"
        first = loaded_first(path if by_path else ROOT / room / "__init__.py").partition(".")[0]
        if first == room:
            first = loaded_first(ROOT / room / "__init__.py")
        assert first == "common", path
    assert len(commands) > 20
