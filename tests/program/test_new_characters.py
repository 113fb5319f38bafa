"""New characters through the program: learnt beside a base, drawn with, handed on, learnt upon."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from outcomes import frames, read, same
from PIL import Image
from tiny_base import tiny_parts

import new_characters
import train
from configuration import ConfigError, load_config
from data_script.character_pictures import read_character
from datasets.cartoon.grammar import vocabulary
from datasets.cartoon.renderer import render
from datasets.cartoon.world import CHARACTERS, NEWCOMERS, Scene, all_scenes
from datasets.new_characters import NewCharacter, tell_stories
from datasets.story_dataset import to_target
from datasets.story_hdf5 import StoryFile
from datasets.story_writer import StoryWriter
from models.export import Export, export
from models.frames import encode_frames
from models.pipeline import StoryPipeline
from models.training.tuned_decoder import tune_decoder
from page.model import load_model
from pretraining.vocabulary import build_clip_tokenizer

STORY = ["Milo waves in the house.", "He sleeps.", "MILO and Olga jump."]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Two characters' folders: captions beside the pictures, in a captions file, and none."""
    home = tmp_path_factory.mktemp("pictures")
    for name in ("milo", "olga"):
        (home / name).mkdir()
        for n, action in enumerate(("wave", "jump")):
            frame = Image.fromarray(render(Scene("house", ((name, "red"),), action)))
            frame.crop((0, 0, 128, 100)).save(home / name / f"{n}.png")
    (home / "milo" / "0.txt").write_text("Milo waves in the house.\n")
    (home / "olga" / "captions.csv").write_text("story,image,caption\na,1.png,Olga jumps.\n")
    return home


@pytest.fixture(scope="session")
def words(trained, pictures):
    """What teaches the two."""
    return [f"base_model_file={trained}", "run_name=learnt", "max_steps=2", told(pictures),
            "decoder_steps=2", "batch_size=8"]  # fmt: skip


@pytest.fixture(scope="session")
def learnt(shrunk, words, fewer_stories):
    """Their checkpoint."""
    return train.train(shrunk(*words))


@pytest.fixture(scope="session")
def fewer_stories():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(new_characters, "STORIES", 8)
        patch.setattr(new_characters, "DRAWN", 2)
        yield


def told(pictures, *names):
    kinds = {"milo": "class_word: bear, pronoun: he", "olga": "class_word: cat"}
    one = (f"{{word: {n}, pictures: {pictures / n}, {kinds[n]}}}" for n in names or kinds)
    return f"new_characters=[{', '.join(one)}]"


def test_pictures_of_one_name_in_two_folders_keep_their_captions(tmp_path):
    (tmp_path / "a").mkdir()
    for n, path in enumerate((tmp_path / "x.PNG", tmp_path / "a" / "x.PNG")):
        Image.new("RGB", (8, 8), (n, n, n)).save(path)
    told = "story,image,caption\n1,x.PNG,Milo waves.\n1,a/x.PNG,Milo sleeps here.\n"
    (tmp_path / "captions.csv").write_text(told)
    milo = read_character({"word": "milo", "pictures": str(tmp_path)})
    read = {
        picture.getpixel((0, 0))[0]: c
        for picture, c in zip(milo.pictures, milo.captions, strict=True)
    }
    assert read == {0: "Milo waves.", 1: "Milo sleeps here."}


def test_each_picture_counts_once_with_its_own_caption(tmp_path):
    (tmp_path / "s").mkdir()
    for name, size in (("a.png", (8, 8)), ("b.jfif", (8, 16)), ("c.png", (20, 8))):
        Image.new("RGB", size).save(tmp_path / name)
    (tmp_path / "captions.csv").write_text("story,image,caption\n1,s/../a.png,Milo waves.\n")
    (tmp_path / "b.TXT").write_text("Milo sleeps.")
    milo = read_character({"word": "milo", "pictures": str(tmp_path)})
    assert milo.captions == ["Milo waves.", "Milo sleeps.", "Milo."]
    assert [picture.size for picture in milo.pictures] == [(8, 8)] * 3 and milo.oblong == 2


def test_oblong_pictures_are_noted(shrunk, words, capsys):
    new_characters.read_characters(shrunk(*words))
    assert "2 of 2 pictures of 'milo' are not square: their middle" in capsys.readouterr().out


@pytest.mark.long
def test_what_stays_may_have_fewer_bits(shrunk, trained, pictures, fewer_stories):
    """Words are looked for and the decoder tuned, before and beside them."""
    one = f"{{word: milo, pictures: {pictures / 'milo'}, class_word: auto}}"
    bits = ["precision=bf16-mixed", "half_frozen_weights=true", "float8_frozen_weights=true"]
    state = read(train.train(shrunk(
        f"new_characters=[{one}]", f"base_model_file={trained}", "run_name=bits", "max_steps=1",
        "decoder_steps=2", "batch_size=8", *bits,
    )))["state_dict"]  # fmt: skip
    base, tuned = read(trained)["state_dict"], "vae.decoder.tuned.conv_in.weight"
    assert not same({"": state[tuned]}, {"": base[tuned.replace(".tuned", "")]})
    assert {value.dtype for value in state.values()} == {torch.float32}
    assert any(name.endswith(".new_rows") for name in state)


@pytest.mark.long
def test_a_checkpoint_of_the_new_alone_draws_with_its_base(
    learnt, trained, sampled, own_story, shrunk, pictures, tmp_path
):
    checkpoint = learnt
    content, base = read(checkpoint), read(trained)["state_dict"]
    assert content["tokenization"]["new_words"] == ["milo", "olga"]
    decoder = {name for name in content["state_dict"] if name.startswith("vae.decoder.tuned.")}
    assert len(decoder) == sum(name.startswith("vae.decoder.") for name in base)
    rows = {name: t for name, t in content["state_dict"].items() if name.endswith(".new_rows")}
    assert [len(t) for t in rows.values()] == [2, 2]
    assert not content["state_dict"].keys() & base.keys()
    for name, trained_rows in rows.items():  # they have moved from where the class words are
        table = base[name.replace(".new_rows", ".weight")]
        assert not any((table == row).all(1).any() for row in trained_rows)
    alone = [f"test_model_file={checkpoint}", own_story(captions=STORY)]
    drawn, _ = sampled(*alone, to="alone")
    plain, _ = sampled(f"test_model_file={trained}", alone[1], to="plain")
    assert not np.array_equal(frames(drawn), frames(plain))
    # Handed on as a folder, and from there as one checkpoint, it draws the same.
    export(Export(str(checkpoint), str(tmp_path / "model")))
    export(Export(str(tmp_path / "model"), str(tmp_path / "whole.ckpt")))
    whole, _ = sampled(f"test_model_file={tmp_path / 'whole.ckpt'}", alone[1], to="whole")
    assert np.abs(frames(whole) - frames(drawn)).max() <= 1
    pipeline = StoryPipeline.from_pretrained(tmp_path / "model")
    ids = pipeline.clip_tokenizer(STORY).input_ids
    tables = [table for name, table in base.items() if name.endswith("token_embedding.weight")]
    assert len(tables[0]) in ids[0] and len(tables[0]) + 1 in ids[2]
    for path in (checkpoint, tmp_path / "model"):
        page = load_model(path, "cpu")
        assert page.known_words >= {"milo", "olga", "pip"}
    # And it is a base itself.
    (tmp_path / "gus").mkdir()
    Image.fromarray(render(Scene("city", (("gus", "red"),), "wave"))).save(tmp_path / "gus/a.png")
    gus = f"new_characters=[{{word: gus, class_word: milo, pictures: {tmp_path / 'gus'}}}]"
    words = [f"base_model_file={tmp_path / 'whole.ckpt'}", "run_name=more", "max_steps=1", gus,
             "decoder_steps=0"]  # fmt: skip
    assert read(train.train(shrunk(*words)))["tokenization"]["new_words"][1:] == ["olga", "gus"]
    with pytest.raises(ConfigError, match="knows the word 'milo' already"):
        new_characters.read_characters(shrunk(words[0], told(pictures, "milo")))


def test_a_pronoun_may_be_any_text():
    assert NewCharacter("milo", [], []).called("Then Milo waves.", r"\1 \g") == r"Then \1 \g waves."


def test_a_story_of_new_characters_keeps_their_clothes_and_leaves_who_he_is_to_earlier_frames():
    red, blue, grey, black = (Image.new("RGB", (8, 8), c) for c in ("red", "blue", "grey", "black"))
    milo = NewCharacter("milo", [red, blue], ["Milo waves.", "Then Milo jumps."], "he")
    olga = NewCharacter("olga", [grey], ["Olga sleeps."])
    old = (np.asarray(black), "Pip comes.")
    shades = {picture.tobytes(): picture for picture in (red, blue, grey, black)}
    said = {caption: [] for caption in (*milo.captions, "He waves.", "Then he jumps.", "He.")}
    for story in tell_stories([milo, olga], [old], 300, 5, 8, 0):
        seen = [shades[picture.tobytes()] for picture, _ in story]
        captions = [caption for _, caption in story]
        assert len(story) == 5 and not {id(red), id(blue)} <= set(map(id, seen))
        for k, (picture, caption) in enumerate(zip(seen, captions, strict=True)):
            if picture in (grey, black):
                assert caption == ("Olga sleeps." if picture is grey else old[1])
                continue
            said[caption].append(picture)
            if "he" in caption.lower().split() or caption == "He.":
                assert k and seen[k - 1] is picture  # so that it can be seen who is meant
    assert all(said.values()) and {*map(id, said["He."])} == {id(red), id(blue)}
    assert all(picture is red for picture in said["Milo waves."] + said["He waves."])


@pytest.mark.long
def test_what_is_learnt_from(learnt):
    """New and old take turns, captions name who is there, and old stories stay beside them."""
    path = learnt.with_name("new_characters.h5")
    stories = StoryFile(path, "train")
    assert len(stories) == 16 and len(StoryFile(path, "val")) == 2
    captions = stories.all_captions()
    assert {"Milo waves in the house.", "Milo.", "Olga jumps.", "Olga."} <= set(captions)
    assert any(name.title() in caption for caption in captions[40:] for name in CHARACTERS)
    size = {stories.picture(i, k).shape for i in range(4) for k in range(5)}
    assert (64, 64, 3) in size and {shape[0] == shape[1] for shape in size} == {True}


@pytest.mark.long
def test_it_is_the_same_again_goes_on_and_can_be_told_how(learnt, words, shrunk):
    checkpoint = learnt
    before = checkpoint.with_name("new_characters.h5").stat().st_mtime_ns
    again = train.train(shrunk(*words, "run_name=learnt_again"))
    assert same(read(again)["state_dict"], read(checkpoint)["state_dict"])
    assert read(train.train(shrunk(*words, "max_steps=3")))["global_step"] == 3
    assert checkpoint.with_name("new_characters.h5").stat().st_mtime_ns == before
    for more, names in (
        (["tune=words", "prior_stories=none"], [".new_rows", ".tuned."]),
        (["tune=attention", "prior_stories=drawn"], [".new_rows", ".tuned.", ".attn"]),
    ):
        content = read(train.train(shrunk(*words, *more, f"run_name=told-{more[0][5:]}")))
        assert all(any(n in name for n in names) for name in content["state_dict"]), more


def test_stories_are_made_anew_where_the_old_ones_beside_them_are_others(
    shrunk, words, fewer_stories, tmp_path
):
    def written(*more):
        config = shrunk(*words, "tune=words", *more)
        characters = new_characters.read_characters(config)
        path = new_characters.write_stories(config, characters, tmp_path)
        return path.read_bytes()

    data, drawn = "prior_stories=data", "prior_stories=drawn"
    of_data = written(data)
    cache = tmp_path / "new_characters.latents.h5"
    cache.touch()
    assert written(data) == of_data and cache.exists()
    assert written(data, "cartoon.stories.train=5") != of_data
    assert not cache.exists()  # which was of other stories
    of_base = written(drawn)
    assert written(drawn) == of_base
    assert written(drawn, "num_inference_steps=1") != of_base
    written(drawn)
    assert written(drawn, "cartoon.world=wide") != of_base
    told = StoryFile(tmp_path / "new_characters.h5", "train", "text").all_captions()
    weather = " in the rain", " in the snow", " in the fog", " in clear weather"
    assert any(words in f" {caption.lower()}" for caption in told for words in weather)


def test_a_run_does_not_go_on_with_other_pictures_or_captions(
    shrunk, trained, fewer_stories, tmp_path
):
    """Its decoder would never learn them."""
    (tmp_path / "milo").mkdir()
    for n in range(2):
        Image.new("RGB", (8, 8), (n, 0, 0)).save(tmp_path / "milo" / f"{n}.png")
    words = [
        f"base_model_file={trained}",
        "run_name=other_pictures",
        "max_steps=1",
        "tune=words",
        told(tmp_path, "milo"),
        "decoder_steps=1",
        "batch_size=8",
        "prior_stories=none",
    ]
    checkpoint = train.train(shrunk(*words))
    kept = checkpoint.with_name("new_characters.h5").read_bytes()
    (tmp_path / "milo" / "0.txt").write_text("Milo waves.")
    says = "have changed since .*last.ckpt.*; give another run_name, or resume=never"
    for more in ([], ["max_steps=2"], [f"train_model_file={checkpoint}", "max_steps=2"]):
        with pytest.raises(ConfigError, match=says):
            train.train(shrunk(*words, *more))
    assert checkpoint.with_name("new_characters.h5").read_bytes() == kept
    train.train(shrunk(*words, "resume=never"))
    assert checkpoint.with_name("new_characters.h5").read_bytes() != kept


def test_stories_that_the_base_draws_name_no_newcomer(shrunk, trained, pictures, monkeypatch):
    """The base does not know the others either that a caption names."""
    monkeypatch.setattr(new_characters, "DRAWN", 40)
    captions = {"milo": ["Milo meets Olga.", "MILO waves."], "olga": ["Olga and milo sleep."]}
    base = [f"base_model_file={trained}", "dataset=folder", "prior_stories=drawn"]
    config = shrunk(*base, told(pictures))
    square = [Image.new("RGB", (8, 8))]
    characters = [NewCharacter(word, square, said) for word, said in captions.items()]
    stories = new_characters._of_old_words(config, characters)
    told_of = {caption for story in stories for caption in story}
    meetings = {"Bear meets cat.", "Cat meets bear."}
    sleeps = {"Bear and cat sleep.", "Cat and bear sleep."}
    assert told_of == {*meetings, *sleeps, "Bear waves.", "Cat waves."}


def test_old_stories_need_an_old_name(shrunk, trained, pictures):
    entry = f"word: milo, pictures: {pictures / 'milo'}"
    asked = [f"base_model_file={trained}", "dataset=folder", "prior_stories=drawn"]
    auto, bear = (
        shrunk(*asked, f"new_characters=[{{{entry}, class_word: {name}}}]")
        for name in ("auto", "bear")
    )
    with pytest.raises(ConfigError, match="no old name is known.*set prior_stories=none"):
        new_characters.read_characters(auto)
    assert [one.word for one in new_characters.read_characters(bear)] == ["milo"]


def test_a_base_of_what_was_tuned_is_refused_before_stories_are_made(
    shrunk, trained, pictures, tmp_path
):
    torch.save({**read(trained), "base": "0" * 64}, tmp_path / "tuned.ckpt")
    asked = [f"base_model_file={tmp_path / 'tuned.ckpt'}", f"ckpt_dir={tmp_path}", "run_name=new"]
    with pytest.raises(ValueError, match="^base_model_file: .* holds only what was tuned; give wh"):
        train.train(shrunk(*asked, told(pictures)))
    assert not (tmp_path / "new" / new_characters.NEW_STORIES).exists()


def test_a_model_without_words_to_try_needs_a_class_word(shrunk, trained, home, pictures, tmp_path):
    """Such as one of Chinese, whose letters are BLIP's tokens."""
    base = shutil.copytree(home / "base", tmp_path / "base")
    build_clip_tokenizer(["小 明 在 跑 。"], 20).save_pretrained(base / "tokenizer")
    milo = f"{{word: milo, pictures: {pictures / 'milo'}, class_word: auto}}"
    config = shrunk(f"tiny.diffusion_model={base}", f"new_characters=[{milo}]", "dataset=folder",
                    f"base_model_file={trained}", "prior_stories=none")  # fmt: skip
    with pytest.raises(ConfigError, match="class_word of 'milo' is auto, but no word .*; give a"):
        new_characters.read_characters(config)


def test_the_decoder_learns_frames_that_are_no_squares(tmp_path, monkeypatch):
    """Such as the base drew: whole, and in their own proportions in the end."""
    monkeypatch.setattr(new_characters, "STORIES", 0)
    frame = np.zeros((64, 128, 3), np.uint8)
    frame[:, :64] = 255
    with StoryWriter(tmp_path / "s.h5", 2) as writer:
        writer.add("train", [frame, frame], {"text": ["One.", "Two."]})
    milo = NewCharacter("milo", [Image.new("RGB", (9, 9))], ["Milo."])
    pictures = new_characters.learnt_pictures([milo], StoryFile(tmp_path / "s.h5", "train"), 128)
    new, old = (to_target(rows, (64, 128)) for rows in pictures)
    told = torch.from_numpy(np.stack([frame, frame])).permute(0, 3, 1, 2)
    assert len(new) == 1 and torch.equal(old, to_target(told, (64, 128)))
    vae = tiny_parts()["vae"]
    before = vae.decoder.conv_out.weight.clone()
    tune_decoder(vae, new, old, 2, 0, torch.device("cpu"))
    assert not torch.equal(vae.decoder.conv_out.weight, before)


def test_a_decoder_that_learns_new_pictures_draws_old_ones_as_before():
    new, old = 2 * torch.rand(2, 4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) - 1
    drifts = []
    for rows in (old, old[:0]):
        vae = tiny_parts()["vae"]
        latents = encode_frames(vae, old) / vae.config.scaling_factor
        before = vae.decode(latents).sample.detach()
        tune_decoder(vae, new, rows, 10, 0, torch.device("cpu"))
        with torch.no_grad():
            drifts.append((vae.decode(latents).sample - before).square().mean())
    assert 0 < drifts[0] < drifts[1] / 4


def test_a_decoder_that_has_learnt_elsewhere_comes_back(monkeypatch):
    """To the other parts, with which words are looked for."""
    vae, moved, rows = tiny_parts()["vae"], [], torch.zeros(1, 3, 64, 64)
    monkeypatch.setattr(vae, "to", moved.append)
    tune_decoder(vae, rows, rows, 1, 0, torch.device("cuda"))
    assert moved == [torch.device("cuda"), torch.device("cpu")]


def test_the_base_decides_what_is_not_told(words):
    """Its backbone, its data set's words; the preset how it is tuned; words have the last say."""
    config = load_config([*words, "init_lr=5e-4"])
    assert config.tiny.image_size == 64 and config.tune == "lora" and config.init_lr == 5e-4
    assert config.prior_stories == "auto" and config.max_steps == 2


def test_no_story_nor_word_list_has_the_newcomers():
    assert not vocabulary() & ({*NEWCOMERS} | {species for species, _ in NEWCOMERS.values()})
    assert not {*NEWCOMERS} & {*CHARACTERS}
    assert not any(name in NEWCOMERS for scene in all_scenes() for name, _ in scene.cast)
    everyone = (*CHARACTERS, *NEWCOMERS)
    pictures = [render(Scene("city", ((name, "red"),), "wave")) for name in everyone]
    heads = [frame[20:75, 30:98].astype(int) for frame in pictures]
    for i, one in enumerate(heads):
        assert all(np.abs(one - other).mean() > 8 for other in heads[:i])
