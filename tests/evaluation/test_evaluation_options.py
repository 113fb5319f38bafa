"""key=value arguments of `python -m evaluation` and its neighbours."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from common.key_value_arguments import help_text, parse, run
from demo.judge import JudgeTraining
from evaluation.classifier import Training
from evaluation.options import Options


def test_options_get_the_type_of_their_field():
    options = parse(Options, ["samples=x", "metrics=[fid@64,clip_t]", "draws=7", "pictures=off"])
    assert (options.metrics, options.draws, options.pictures) == (["fid@64", "clip_t"], 7, False)
    assert parse(Options, ["samples=x", "metrics=clip, kid"]).metrics == ["clip", "kid"]
    assert parse(Options, ["samples=x", "judge=null", "story_length=2"]).judge is None
    assert parse(Training, ["data=d", "out=o", "init_lr=2e-4", "seed=0"]).init_lr == 2e-4


def test_a_folders_name_may_hold_commas(tmp_path):
    folder = tmp_path / "a,b"
    assert parse(Options, ["samples=x", f"compare={folder}"]).compare == str(folder).split(",")
    folder.mkdir()
    assert parse(Options, ["samples=x", f"compare={folder}"]).compare == str(folder)
    many = ["clip_t"] * 99  # too long for the name of a folder
    assert parse(Options, ["samples=x", f"metrics={','.join(many)}"]).metrics == many


def test_text_stays_text():
    for text in ("run #2", "007", "@x", "${y}", "1e3", "[a]", "null", "a=b", "~"):
        assert parse(Options, [f"samples={text}"]).samples == text


@pytest.mark.parametrize("arguments, message", [
    (["sample=x"], "'sample=x' is not .* did you mean samples=…?"),
    (["outputs/samples"], "'outputs/samples' is not an option=value; did you mean samples=…?"),
    (["quality=3"], "'quality=3' is not an option=value; --help lists them all"),
    (["samples="], "'samples=' has no value"),
    ([], "samples=… is missing: give the folder that mode=sample wrote"),
    (["samples=x", "stories=none"], "stories=none must be a whole number"),
    (["samples=x", "draws=1.5"], "draws=1.5 must be a whole number"),
    (["samples=x", "pictures=maybe"], "pictures=maybe must be true or false"),
    (["samples=x", "draws=0"], "draws=0 is too small: give 1 or more"),
    (["samples=x", "lpips_net=net"], "lpips_net=net is none of alex, vgg, squeeze"),
])  # fmt: skip
def test_what_is_wrong_is_said_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        parse(Options, arguments)
    with pytest.raises(SystemExit, match="error: "):
        run(Options, "", lambda options: pytest.fail("begun all the same"), arguments)


def test_an_error_of_the_work_ends_in_one_line():
    def work(options):
        raise ValueError("two\n\tlines")

    with pytest.raises(SystemExit, match="^error: two lines$"):
        run(Options, "", work, ["samples=x"])


@pytest.mark.parametrize("kind", [Options, Training, JudgeTraining])
def test_help_lists_every_option_with_its_default_and_meaning(kind, capsys):
    run(kind, "usage", lambda options: pytest.fail("begun"), ["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "usage" and max(map(len, lines)) <= 100
    for field in fields(kind):
        (line,) = [one for one in lines if one.startswith(f"  {field.name}=")]
        assert len(line.split(maxsplit=1)[1]) > 10
    if kind is Options:
        text = help_text(kind, "")
        assert "draws=1000 " in text and "pictures=true" in text and "alex, vgg, squeeze" in text


@pytest.mark.parametrize("arguments", [
    ["evaluation", "--help"], ["evaluation", "samples=x", "metrics=fidd"],
    ["evaluation.classifier", "train", "dat=x"], ["demo.judge", "--help"],
])  # fmt: skip
def test_nothing_heavy_is_imported_before_arguments_are_checked(arguments):
    program = (
        "import runpy, sys; sys.modules |= {'torch': None, 'numpy': None, 'PIL': None}; "
        "sys.argv = sys.argv[1:]; runpy.run_module(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True,
                          text=True, cwd=Path(__file__).parents[2])  # fmt: skip
    asked = "--help" in arguments
    assert (done.returncode, bool(done.stdout)) == (0 if asked else 1, asked), done.stderr
    assert asked or done.stderr.startswith("error: ")
