"""Without a network a hub id is answered at once, from the cache or with one sentence."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest
from tiny_parts import S, save_parts

from models import hub

ROOT = Path(__file__).parents[2]
SECONDS = 20  # on a busy machine; the hub's own clients take minutes
LOAD = f"""
import json, sys, time
from models.components import load_components
for folder, blip in json.loads(sys.argv[1]):
    start = time.monotonic()
    try:
        load_components(folder, blip, 16, {S})
        said = "loaded"
    except FileNotFoundError as error:
        said = str(error)
    print(json.dumps([said, time.monotonic() - start]))
"""


@pytest.fixture
def closed_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        yield server.getsockname()[1]  # bound, but nobody listens


@pytest.mark.long
def test_a_closed_network_is_answered_in_seconds(closed_port, tmp_path):
    cached = tmp_path / "home" / "hub" / "models--someone--cached"
    base = cached / "snapshots" / ("0" * 40)
    base.mkdir(parents=True)
    save_parts(base)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0" * 40)
    shutil.copytree(base / "blip", tmp_path / "blip")
    (tmp_path / "model_large.pth").touch()
    blip = str(tmp_path / "blip")
    asked = [
        ("someone/cached", blip),
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", blip),
        ("weights/sd15", blip),
        ("someone/cached", "Salesforce/blip-itm-large-coco"),
        ("someone/cached", str(tmp_path / "model_large.pth")),
    ]
    env = {**os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{closed_port}"}
    env |= {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-c", LOAD, json.dumps(asked)]
    run = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT, check=True)
    lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("[")]
    (loaded, *said, nothing_fetched), seconds = zip(*lines, strict=True)
    assert loaded == "loaded" and max(seconds) < SECONDS
    keys = ["diffusion_model", "diffusion_model", "blip_model"]
    for (diffusion, blip), key, sentence in zip(asked[1:], keys, said, strict=False):
        source = blip if key == "blip_model" else diffusion
        assert sentence.startswith(f"{key}: {source!r}")
        assert f"download it from https://huggingface.co/{source} where there is a" in sentence
    for sentence in said:
        assert "(the hub does not answer: [Errno 111]" in sentence and "\n" not in sentence
    assert nothing_fetched.startswith("blip_model: no vocab.txt is beside ")
    assert "of https://huggingface.co/google-bert/bert-base-uncased there" in nothing_fetched


class Hub(BaseHTTPRequestHandler):
    """Answers as the name of the model asks."""

    gone = threading.Event()

    def do_GET(self):
        kind = self.path.split("/")[3]
        if kind == "slow":
            self.gone.wait(10)
            return
        self.send_response({"missing": 404, "gated": 403, "broken": 503}.get(kind, 200))
        code = {"missing": "RepoNotFound", "gated": "GatedRepo"}.get(kind)
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        self.wfile.write(b'{"id": "there/x", "siblings": []}')

    def log_message(self, *how):
        pass


@pytest.fixture
def answering(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Hub.gone.clear()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(hub.model_info.__self__, "endpoint", url)
    monkeypatch.setattr(hub, "SECONDS", 0.5)
    yield
    Hub.gone.set()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("source, says", [
    ("there/x", None),
    ("missing/x", "the hub has no such model that you may read"),
    ("gated/x", "the hub wants its terms accepted first"),
    ("broken/x", "the hub is out of order: 503"),
    ("slow/x", "the hub does not answer: timed out"),
    ("no/such/folder", "there is no such folder"),
])  # fmt: skip
def test_what_the_hub_answers(source, says, answering):
    assert hub.out_of_reach(source) == says


def test_an_environment_that_forbids_asking_is_named():
    assert hub.out_of_reach("someone/forbidden") == "HF_HUB_OFFLINE forbids asking"
