"""The downloader against a real server that serves pictures, rot and traps."""

from __future__ import annotations

import io
import json
import struct
import threading
import zlib
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from requests.adapters import HTTPAdapter

from data_script import vist_img_download
from data_script.vist_img_download import LOG, Limits, download, main, read_links

ROOT = Path(__file__).resolve().parents[2]
QUICK = Limits(timeout=10, retries=2, backoff=0.001, max_bytes=200_000, allow_local=True)
HASTY = Limits(timeout=1, retries=2, backoff=0.001, allow_local=True)


def picture(width: int = 30, height: int = 20, kind: str = "JPEG", mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert(mode).save(stream, kind)
    return stream.getvalue()


def bomb() -> bytes:
    """A small PNG that says it is 60,000 pixels a side."""
    data = bytearray(picture(kind="PNG"))
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


PAGES = {
    "/good.jpg": picture(), "/wide.jpg": picture(1500, 1000), "/photo_unavailable.png": picture(),
    "/tall.png": picture(600, 700, "PNG", "RGBA"), "/grey.gif": picture(9, 9, "GIF", "L"),
    "/page.html": b"<html>this photo is no longer here</html>", "/bomb.png": bomb(),
    "/half-a-file.jpg": picture(300, 300)[:900], "/huge.bin": b"\xff\xd8" + b"0" * 300_000,
}  # fmt: skip
REDIRECTS = {"/moved": "/good.jpg", "/to-file": "file:///etc/hostname", "/circle": "/circle",
             "/deleted": "/photo_unavailable.png"}  # fmt: skip
# What is sent, and what is said of its length: the connection ends before, or nothing is said.
CUT = {"/cut.jpg": (picture()[:300], len(picture())), "/endless.bin": (b"0" * 300_000, None),
       "/cut-unsaid.jpg": (picture(300, 300)[:900], None)}  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    """Answers by path; `seen` counts requests."""

    seen: Counter[str] = Counter()
    closing = threading.Event()

    def do_GET(self) -> None:
        self.seen[self.path] += 1
        if self.path in REDIRECTS:
            self.head(302, Location=REDIRECTS[self.path])
        elif self.path in PAGES:
            self.answer(PAGES[self.path], len(PAGES[self.path]))
        elif self.path in CUT:
            self.answer(*CUT[self.path])
        elif self.path == "/silent.jpg":
            self.answer(*CUT["/cut.jpg"])
            self.closing.wait(5)
        elif self.path == "/busy-once.jpg" and self.seen[self.path] > 1:
            self.answer(picture(), len(picture()))
        elif self.path in ("/busy-once.jpg", "/broken.jpg"):
            self.send_error(503)
        elif self.path == "/forbidden.jpg":
            self.send_error(403)
        else:
            self.send_error(404)

    def head(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def answer(self, body: bytes, length: int | None) -> None:
        self.head(200, **({} if length is None else {"Content-Length": str(length)}))
        with suppress(ConnectionError):  # the downloader has seen enough
            self.wfile.write(body)

    def log_message(self, *args) -> None:
        pass


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.daemon_threads = True
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        Handler.closing.set()
        httpd.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def fresh_counts():
    Handler.seen.clear()


def entries(folder: Path) -> dict[str, dict]:
    """The last log entry of every picture."""
    return {e["id"]: e for e in map(json.loads, (folder / LOG).read_text().splitlines())}


SAVED = {"good.jpg": (30, 20), "wide.jpg": (768, 512), "tall.png": (512, 597), "grey.gif": (9, 9),
         "moved": (30, 20), "busy-once.jpg": (30, 20)}  # fmt: skip


def test_pictures_are_saved_as_jpeg_with_a_shorter_side_of_512_at_most(server, tmp_path):
    (tmp_path / "good.jpg.jpg").write_bytes(b"<html>too many requests")  # no picture: fetched again
    links = {path: f"{server}/{path}" for path in SAVED}
    assert download(links, tmp_path, limits=QUICK)["saved"] == len(SAVED)
    for path, size in SAVED.items():
        with Image.open(tmp_path / f"{path}.jpg") as saved:
            assert (saved.format, saved.mode, saved.size) == ("JPEG", "RGB", size)
            pixels = np.asarray(saved)
        assert pixels[0].mean() < 25 and pixels[-1].mean() > 230
    assert len(list(tmp_path.iterdir())) == len(SAVED) + 1  # and the log


GONE = [  # a link, what the log says, how often it is asked for
    ("{}/nothing.jpg", "HTTP 404", 1),
    ("{}/page.html", "no usable picture: cannot identify", 1),
    ("{}/half-a-file.jpg", "no usable picture: image file is truncated", 1),
    ("{}/huge.bin", "too large: 300,002 bytes", 1),
    ("{}/endless.bin", "too large: more than 200,000 bytes", 1),
    ("{}/bomb.png", "no usable picture: Image size (3600000000 pixels) exceeds", 1),
    ("{}/to-file", "it is, or leads to, no link of the web: 'http://127.0.0.1", 1),
    ("{}/circle", "it leads in a circle", 31),
    ("{}/deleted", "deleted: the link leads to a placeholder", 1),
    ("file:///etc/hostname", "no link of the web: 'file:///etc/hostname'", 0),
    ("http://[oops", "no link of the web", 0),
]


def test_what_is_gone_is_noted_and_not_asked_for_again(server, tmp_path):
    links = {str(n): link.format(server) for n, (link, *_) in enumerate(GONE)}
    assert download(links, tmp_path, limits=QUICK)["gone"] == len(GONE)
    noted = entries(tmp_path)
    for n, (link, why, requests) in enumerate(GONE):
        assert why in noted[str(n)]["why"]
        assert Handler.seen[link.removeprefix("{}")] == requests
    assert [p.name for p in tmp_path.iterdir()] == [LOG]
    before = Handler.seen.total()
    assert download(links, tmp_path, limits=QUICK) == {"there": 0, "known to be gone": len(GONE)}
    assert Handler.seen.total() == before
    assert download(links, tmp_path, limits=QUICK, retry_gone=True)["gone"] == len(GONE)


FAILED = [  # how often it is asked for in one run: what breaks off waits for the next one
    ("cut.jpg", "IncompleteRead(300 bytes read", 1),
    ("cut-unsaid.jpg", "no usable picture: image file is truncated", 1),
    ("silent.jpg", "Read timed out", 1), ("broken.jpg", "HTTP 503", 1 + QUICK.retries),
    ("forbidden.jpg", "HTTP 403", 1),
]  # fmt: skip


def test_what_failed_is_tried_again_by_the_next_run(server, tmp_path):
    links = {str(n): f"{server}/{path}" for n, (path, *_) in enumerate(FAILED)}
    for run in (1, 2):
        assert download(links, tmp_path, limits=HASTY)["failed"] == len(FAILED)
        for n, (path, why, requests) in enumerate(FAILED):
            assert Handler.seen[f"/{path}"] == run * requests
            assert why in entries(tmp_path)[str(n)]["why"]
    assert [p.name for p in tmp_path.iterdir()] == [LOG]


LOCAL = ("http://127.0.0.1:{}/a.jpg", "http://localhost:{}/a.jpg", "http://[::1]:{}/a.jpg",
         "http://0.0.0.0:{}/a.jpg", "http://169.254.169.254/latest", "http://10.0.0.7/a.jpg",
         "http://[::ffff:127.0.0.1]:{}/a.jpg", "http://2130706433:{}/a.jpg")  # fmt: skip


def test_addresses_of_this_machine_and_its_network_are_not_asked(server, tmp_path):
    port = server.rpartition(":")[2]
    links = {str(n): link.format(port) for n, link in enumerate(LOCAL)}
    counts = download(links, tmp_path, limits=Limits(timeout=1, retries=0))
    assert counts["gone"] == len(LOCAL) and not Handler.seen


def test_redirects_to_such_addresses_are_not_followed(server, tmp_path, monkeypatch):
    public = vist_img_download._PublicOnly.send

    def send(self, request, **how):  # as if the first server were a public one
        first = request.url.endswith("/moved")
        return HTTPAdapter.send(self, request, **how) if first else public(self, request, **how)

    monkeypatch.setattr(vist_img_download._PublicOnly, "send", send)
    counts = download({"7": f"{server}/moved"}, tmp_path, limits=Limits(timeout=2, retries=0))
    assert counts["gone"] == 1 and Handler.seen == {"/moved": 1}


def annotations(folder: Path, links: dict[str, str]) -> Path:
    """The links dealt out over the three files, as `url_o` and `url_m`."""
    folder.mkdir(exist_ok=True)
    images = [{"id": k, ("url_o", "url_m")[i % 2]: v} for i, (k, v) in enumerate(links.items())]
    for i, split in enumerate(("train", "val", "test")):
        content = {"images": images[i::3], "annotations": []}
        path = folder / f"{split}.description-in-isolation.json"
        path.write_text(json.dumps(content))
    return folder


def command(json_dir: Path, img_dir: Path, *words: str) -> list[str]:
    common = "--num_process 2 --timeout 10 --retries 1 --backoff 0.001 --allow_local".split()
    return ["--json_dir", str(json_dir), "--img_dir", str(img_dir), *common, *words]


def test_a_run_ends_with_counts_and_the_next_goes_on(server, tmp_path, capsys):
    links = {str(i): f"{server}/good.jpg" for i in range(5)}
    links |= {"g": f"{server}/nothing.jpg", "f": f"{server}/broken.jpg"}
    json_dir, img_dir = annotations(tmp_path / "dii", links), tmp_path / "deep" / "images"
    assert read_links(json_dir) == links
    main(command(json_dir, img_dir))
    out = capsys.readouterr().out
    assert "7 pictures -> " in out
    assert "5 saved, 0 there, 1 gone, 0 known to be gone, 1 failed for now" in out
    assert f"vist_hdf5.py --dii_json_dir {json_dir} --img_dir {img_dir} --save_path" in out
    (img_dir / "3.jpg").unlink()
    with open(img_dir / LOG, "a") as log:
        log.write('{"id": "1", "state": "go')  # what a kill may leave
    (img_dir / ".2.jpg.7.tmp").write_bytes(b"half a picture")
    main(command(json_dir, img_dir))
    assert "1 saved, 4 there, 0 gone, 1 known to be gone, 1 failed" in capsys.readouterr().out
    assert not list(img_dir.glob(".*"))
    assert Handler.seen["/nothing.jpg"] == 1
    main(command(json_dir, img_dir, "--retry_gone"))
    assert "0 saved, 5 there, 1 gone, 0 known to be gone, 1 failed" in capsys.readouterr().out


def test_a_full_disk_is_said_and_the_next_run_goes_on(server, tmp_path, monkeypatch):
    links = {"1": f"{server}/good.jpg"}  # of several the others might still be at work
    message = "cannot write .*jpg: .* MB left.*; free some .*_dir; then run again, which"
    for place in ("pathlib.Path.write_bytes", "os.replace"):
        with monkeypatch.context() as patch, pytest.raises(OSError, match=message):
            patch.setattr(place, lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
            download(links, tmp_path, limits=QUICK)
        assert [p.name for p in tmp_path.iterdir()] == [LOG]
    assert download(links, tmp_path, limits=QUICK)["saved"] == 1


def test_a_body_that_drips_is_not_waited_for_for_ever(server, tmp_path, monkeypatch):
    clock = iter(range(0, 10**6, 101))
    monkeypatch.setattr(vist_img_download.time, "monotonic", lambda: next(clock))
    assert download({"7": f"{server}/good.jpg"}, tmp_path, limits=QUICK)["failed"] == 1
    assert entries(tmp_path)["7"]["why"] == "too slow"


def test_a_network_that_is_gone_ends_the_run(tmp_path, monkeypatch):
    links = {str(i): "http://127.0.0.1:9/a.jpg" for i in range(20)}  # the port of nothing
    monkeypatch.setattr(vist_img_download, "HOPELESS", 10)
    with pytest.raises(OSError, match="10 downloads in a row failed, .* check the network and run"):
        download(links, tmp_path, 4, Limits(retries=0, allow_local=True))


VAL = "val.description-in-isolation.json"
BAD = [
    (lambda d: (d / VAL).unlink(), "does not exist"),
    (lambda d: (d / VAL).write_text("{}"),
     f"{VAL} holds no list `images` .*KeyError.*get the file again"),
    (lambda d: (d / VAL).write_text('{"images": [{"id": 1}]}'), "holds no list `images` .*url_m"),
    (lambda d: annotations(d, {"../1": "http://a/b"}), "cannot name a file"),
]  # fmt: skip


def test_bad_annotations(tmp_path):
    for number, (spoil, message) in enumerate(BAD):
        json_dir = annotations(tmp_path / str(number), {"1": "http://127.0.0.1:9/a.jpg"})
        spoil(json_dir)
        with pytest.raises((ValueError, OSError), match=message):
            read_links(json_dir)
        with pytest.raises(SystemExit, match="error: "):
            main(command(json_dir, tmp_path / "images"))
    assert not (tmp_path / "images").exists()
