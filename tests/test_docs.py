"""What the pages link to exists, and so do the commands and keys that they name."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

import pytest
from known_keys import known_keys

from evaluation.options import Options

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("[!.]*/README.md")])


def ids(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    heads = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_and_pictures_exist(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        if target.startswith(("https://", "http://")):
            continue
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{target} is not there"
        if anchor:
            assert anchor in anchors(found), f"{target}: no such heading"


def commands(page: Path) -> list[list[str]]:
    """The words of every `python …` in code but those of main.py, which test_presets.py tries."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    indented = re.findall(r"^    (.*)$", text, re.M)
    inline = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    lines = [*"\n".join(blocks).split("\n"), *indented, *(" ".join(c.split()) for c in inline)]
    found = (re.search(r"(?:^|\s)python ((?:-m |data_script/).*)", line) for line in lines)
    return [shlex.split(match[1], comments=True) for match in found if match]


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_commands_name_programs_and_options_that_exist(page):
    """`python -m benchmarks.X` may be given configuration keys, the evaluation its options."""
    options = {field.name for field in fields(Options)}
    for program, *words in commands(page):
        if program != "-m":
            assert (ROOT / program).is_file(), f"python {program} does not exist"
            continue
        module = words[0]
        assert "…" in module or find_spec(module), f"python -m {module} does not exist"
        named = {word.partition("=")[0] for word in words if re.match(r"[\w.]+=", word)}
        if module == "evaluation":
            assert named <= options, sorted(named - options)
        elif module.startswith("benchmarks"):
            assert named <= known_keys() | {"key", "config"}, sorted(named - known_keys())


def test_switches_in_the_table_of_differences_exist():
    """Its last column names keys, perhaps with a value, and presets."""
    rows = re.findall(r"^\|.*\| ([^|]*) \|$", (ROOT / "docs" / "faithfulness.md").read_text(), re.M)
    named = [code for cell in rows for code in re.findall(r"`([^`]+)`", cell)]
    assert len(named) > 20
    for code in named:
        known = (ROOT / code).is_file() if code.startswith("presets/") else False
        assert known or code.partition(":")[0] in known_keys(), code


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 180
