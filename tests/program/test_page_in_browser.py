"""The page as somebody uses it, in a headless Chromium over the minute base."""

from __future__ import annotations

import re
import shutil

import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright to drive a browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium, not installed")

CAPTIONS = ["Luna waves on the beach.", "She sleeps.", "Then she jumps high."]
LONG = 40_000  # milliseconds


@pytest.fixture(scope="module")
def address(trained, tmp_path_factory):
    from page.handlers import build_page
    from page.model import load_model
    from page.opening import launch

    out = tmp_path_factory.mktemp("saved")
    page = build_page(load_model(trained, "cpu"), out)
    yield launch(page, 0, 5, out)
    page.close(verbose=False)


@pytest.fixture(scope="module")
def browser():
    sync_api.expect.set_options(timeout=LONG)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(address, browser):
    """Opens the page as another visitor, with two of its five frames removed. What is typed within
    milliseconds of a section's opening is lost, so those of `opened` are open before that."""
    contexts = []

    def come(*opened):
        contexts.append(browser.new_context())
        page = contexts[-1].new_page()
        page.set_default_timeout(LONG)
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(address)
        for section in opened:
            page.click(f"{section} button")
        for number in (5, 4):
            page.click(f"#gone-{number}")
            says(page, f"Frame {number} is removed")
        return page

    yield come
    for context in contexts:
        context.close()


def says(page, text):
    sync_api.expect(page.locator("#status")).to_contain_text(text)


def tell(page, captions=CAPTIONS):
    for number, caption in enumerate(captions, 1):
        page.fill(f"#caption-{number} textarea", caption)


def upload(page, path):
    with page.expect_file_chooser() as chooser:
        page.click("#upload")
    chooser.value.set_files(path)


def shown(page, count=3):
    """The bytes of the frames' pictures."""
    sources = [page.get_attribute(f"#frame-{n} img", "src") for n in range(1, count + 1)]
    return [page.request.get(source).body() for source in sources]


def test_a_story_is_told_drawn_mended_and_saved(visit):
    page = visit()
    page.click("#draw")
    says(page, "There is no caption")
    blank = shown(page)
    tell(page, [*CAPTIONS[:2], "Then Milo jumps high."])
    notices = page.locator("#notices")
    sync_api.expect(notices).to_contain_text("Frame 3: this model has never seen “Milo”.")
    tell(page)
    sync_api.expect(notices).to_be_hidden()
    page.evaluate(
        """() => {
            window.came = [];
            const seen = {};
            new MutationObserver(() => [1, 2, 3].forEach(n => {
                const now = document.querySelector(`#frame-${n} img`)?.src;
                if (now && seen[n] && now !== seen[n] && window.came.at(-1) !== n)
                    window.came.push(n);
                if (now) seen[n] = now;
            })).observe(document.body, {subtree: true, childList: true, attributes: true});
        }"""
    )
    page.click("#draw")
    page.fill("#caption-2 textarea", "Typed meanwhile.")
    says(page, "Drawn.")
    assert page.input_value("#caption-2 textarea") == "Typed meanwhile."
    tell(page)
    drawn = shown(page)
    assert not set(blank) & set(drawn) and len(set(drawn)) == 3
    came = page.evaluate("window.came")
    assert came[-3:] == [1, 2, 3] or {2, 3} <= set(came)  # one after another
    page.click("#again-3")
    says(page, "Frame 3 is drawn again")
    again = shown(page)
    assert again[:2] == drawn[:2] and again[2] != drawn[2]
    page.click("#left-3")
    says(page, "Frames 3 and 2 changed places")
    assert shown(page) == [again[0], again[2], again[1]]
    assert page.input_value("#caption-2 textarea") == CAPTIONS[2]
    page.click("#save")
    says(page, "Saved in")
    for end in ("gif", "png", "pdf", "yaml", "zip"):
        sync_api.expect(page.locator("#files")).to_contain_text(end)
    outside = [
        url for url in page.asked if not re.match(r"https?://127\.0\.0\.1[:/]|data:|blob:", url)
    ]
    assert not outside, outside


@pytest.mark.long
def test_one_of_several_candidates_is_taken(visit):
    page = visit("#settings")
    tell(page)
    page.click("#draw")
    says(page, "Drawn.")
    before = shown(page)
    page.fill("#count input[type=number]", "3")
    page.keyboard.press("Tab")
    page.click("#again-2")
    says(page, "Click a candidate")
    assert shown(page) == before
    offered = page.locator("#candidates img")
    sync_api.expect(offered).to_have_count(3)
    second = page.request.get(offered.nth(1).get_attribute("src")).body()
    offered.nth(1).click()
    says(page, "Frame 2 is candidate 2 now")
    assert shown(page) == [before[0], second, before[2]]


@pytest.mark.long
def test_a_story_goes_on_from_an_uploaded_picture(visit, tmp_path):
    page = visit()
    tell(page)
    (tmp_path / "text.png").write_text("no picture")
    Image.new("RGB", (96, 64), "#2060c0").save(tmp_path / "blue.png")
    upload(page, tmp_path / "text.png")
    says(page, "Picture text.png cannot be used")
    upload(page, tmp_path / "blue.png")
    says(page, "Say in frame 1")
    page.click("#again-1")
    says(page, "Frame 1 is the picture that was given")
    page.click("#draw")
    says(page, "Drawn.")
    path = tmp_path / "first.png"
    path.write_bytes(shown(page)[0])
    with Image.open(path) as first:
        assert first.size == (64, 64) and first.getpixel((30, 30)) == (0x20, 0x60, 0xC0)
    assert len(set(shown(page))) == 3


@pytest.mark.long
def test_a_story_of_the_data_set_is_drawn_beside_its_own_pictures(visit):
    page = visit("#data-set")
    page.fill("#number input", "3")
    page.keyboard.press("Tab")
    page.click("#browse")
    says(page, "Story 3 of 3")
    own = [page.get_attribute(f"#reference-{n} img", "src") for n in range(1, 6)]
    assert len(set(own)) > 1 and page.input_value("#caption-5 textarea")
    page.click("#draw")
    says(page, "Drawn.")
    sync_api.expect(page.locator(".reference img:visible")).to_have_count(5)
    page.click("#next")
    says(page, "Story 4: there are stories 1 to 3")


def test_it_is_for_this_machine_alone_and_a_taken_port_is_said(address, tmp_path):
    import gradio as gr

    from page.opening import launch

    assert address.startswith("http://127.0.0.1:")
    port = int(address.strip("/").rpartition(":")[2])
    with gr.Blocks() as empty:
        gr.Markdown("nothing")
    with pytest.raises(OSError, match=f"port={port} is taken; give another"):
        launch(empty, port, 1, tmp_path)
