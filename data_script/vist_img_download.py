"""Downloads the pictures of VIST that its annotations link to, as `ID.jpg` for vist_hdf5.py.

Reads `{train,val,test}.description-in-isolation.json` in --json_dir. Pictures are saved with a
shorter side of at most 512. Links rot: what is gone for good is noted in IMG_DIR/download_log.jsonl
and left alone by later runs (unless --retry_gone), what failed for now is tried again. A run can be
stopped and started again at any time; a picture appears under its name when it is whole.
"""

from __future__ import annotations

import io
import ipaddress
import json
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from shlex import quote
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script: find our modules

import common  # noqa: F401  Ctrl-C while libraries load is one line

# isort: split
import requests
from PIL import Image
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema, TooManyRedirects
from requests.utils import select_proxy
from urllib3 import Retry
from urllib3.exceptions import HTTPError

from common.files import replacing
from common.interrupts import ending_at_signals
from common.picture_files import opened
from common.terminal import error_in_one_line, script_parser, tqdm
from data_script.raw_pictures import load_picture
from data_script.story_builder import load_json
from datasets.story_hdf5 import SPLITS, is_story_id

LOG = "download_log.jsonl"
BLOCK = 1 << 16  # bytes read at a time
HOPELESS = 100  # failures in a row after which the network must be to blame
# Flickr leads links to deleted pictures here, with all signs of success.
PLACEHOLDER = "photo_unavailable"
NO_LINK = (InvalidSchema, InvalidURL, MissingSchema)  # file:, ftp:, or nothing of the kind
FOR_GOOD = (404, 410)  # any other answer may come from a proxy or a limit on the way
FOR_NOW = (408, 425, 429, *range(500, 600))  # answers worth asking again at once


class Gone(Exception):
    """The link will never give a picture."""


class Failed(Exception):
    """It may next time."""


class _PublicOnly(HTTPAdapter):
    """Refuses addresses of this machine and its network, of links and of each redirect: whoever
    wrote the annotations must not have them fetched from within."""

    def send(self, request, *args, **kwargs) -> requests.Response:
        host, port = urlsplit(request.url).hostname, urlsplit(request.url).port
        proxied = select_proxy(request.url, kwargs.get("proxies"))
        with suppress(socket.gaierror):  # the connection will say that there is no such host
            flags = socket.AI_NUMERICHOST if proxied else 0
            for *_, address in socket.getaddrinfo(
                host, port, proto=socket.IPPROTO_TCP, flags=flags
            ):
                ip = ipaddress.ip_address(address[0].partition("%")[0])
                if not (getattr(ip, "ipv4_mapped", None) or ip).is_global:
                    raise InvalidURL(f"{host} is of this machine or its network")
        return super().send(request, *args, **kwargs)


@dataclass(frozen=True)
class Limits:
    """How patient and how trusting a download is."""

    timeout: float = 20.0  # seconds without a byte; a whole picture may take ten times as long
    retries: int = 3  # where there is no answer, or one of `FOR_NOW`
    backoff: float = 1.0  # seconds; the second retry waits twice as long, and so on
    max_bytes: int = 50_000_000
    allow_local: bool = False  # addresses of this machine and its network

    def session(self, connections: int) -> requests.Session:
        """Connections that are kept, with the waits between retries that servers ask for."""
        waits = {"backoff_factor": self.backoff, "backoff_jitter": self.backoff}
        waits |= {"retry_after_max": 60, "raise_on_status": False}
        retry = Retry(self.retries, status_forcelist=FOR_NOW, **waits)
        session = requests.Session()
        for scheme in ("http://", "https://"):  # and no other
            adapter = HTTPAdapter if self.allow_local else _PublicOnly
            session.mount(scheme, adapter(pool_maxsize=connections, max_retries=retry))
        session.headers["User-Agent"] = "Mozilla/5.0 (compatible; vist_img_download)"
        return session


def read_links(json_dir: Path) -> dict[str, str]:
    """Picture id -> link, of all splits; one sentence names a file that is not as it should be."""
    links: dict[str, str] = {}
    for split in SPLITS:
        path = json_dir / f"{split}.description-in-isolation.json"
        content = load_json(path)
        try:
            for image in content["images"]:
                name = str(image["id"])
                if not is_story_id(name):
                    raise ValueError(f"id {name!r} cannot name a file")
                links[name] = str(image.get("url_o") or image["url_m"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{path} holds no list `images` of dicts with id and url_o or url_m "
                f"({type(error).__name__}: {error}): get the file again"
            ) from None
    return links


def download(
    links: dict[str, str],
    img_dir: Path,
    num_process: int = 16,
    limits: Limits | None = None,
    retry_gone: bool = False,
) -> Counter[str]:
    """Fetch what is not there yet, `num_process` at a time -> how many were saved, gone, ....

    OSError if nothing can be written, or if downloads fail one after the other.
    """
    limits = limits or Limits()
    img_dir.mkdir(parents=True, exist_ok=True)
    for temporary in img_dir.glob(".*.jpg.*.tmp"):  # of a run that was killed
        temporary.unlink(missing_ok=True)
    there = {path.stem for path in img_dir.glob("*.jpg") if _is_picture(path)}
    gone = set() if retry_gone else _known_gone(img_dir / LOG)
    counts = Counter(there=len(there & links.keys()))
    counts["known to be gone"] = len(gone & links.keys() - there)
    wanted = [(name, link) for name, link in links.items() if name not in there | gone]

    session, in_a_row = limits.session(num_process), 0

    def fetch(job: tuple[str, str]) -> dict[str, str]:
        name, link = job
        try:
            jpeg = _as_jpeg(*_body(session, link, limits))
        except (Gone, Failed) as error:
            state = "gone" if isinstance(error, Gone) else "failed"
            return {"id": name, "link": link, "state": state, "why": str(error)}
        _save(jpeg, img_dir / f"{name}.jpg")
        return {"id": name, "link": link, "state": "saved"}

    with session, ThreadPool(num_process) as pool, open(img_dir / LOG, "a+b") as log:
        _end_line(log)
        for entry in tqdm(pool.imap_unordered(fetch, wanted), total=len(wanted), unit="picture"):
            log.write(json.dumps(entry).encode() + b"\n")
            log.flush()
            counts[entry["state"]] += 1
            in_a_row = in_a_row + 1 if entry["state"] == "failed" else 0
            if in_a_row == HOPELESS:
                raise OSError(
                    f"{HOPELESS} downloads in a row failed, the last with {entry['why']!r}: check "
                    f"the network and run again, which goes on from here"
                )
    return counts


def _save(jpeg: bytes, path: Path) -> None:
    """Write a picture that is there whole or not at all."""
    then = "choose another --img_dir; then run again, which goes on from here"
    with replacing(path, len(jpeg), then) as temporary:
        temporary.write_bytes(jpeg)


def _body(session: requests.Session, link: str, limits: Limits) -> tuple[bytes, bool]:
    """What a link gives, and whether the server had said how long that is."""
    end, body = time.monotonic() + 10 * limits.timeout, bytearray()
    try:
        with session.get(link, timeout=limits.timeout, stream=True) as answer:
            if answer.status_code != 200:
                lasting = answer.status_code in FOR_GOOD
                raise (Gone if lasting else Failed)(f"HTTP {answer.status_code}")
            if PLACEHOLDER in answer.url:
                raise Gone("deleted: the link leads to a placeholder")
            length = answer.headers.get("Content-Length")
            if length and int(length) > limits.max_bytes:
                raise Gone(f"too large: {int(length):,} bytes")
            while block := answer.raw.read1(BLOCK, decode_content=True):
                body += block
                if len(body) > limits.max_bytes:
                    raise Gone(f"too large: more than {limits.max_bytes:,} bytes")
                if time.monotonic() > end:
                    raise Failed("too slow")
    except NO_LINK:
        raise Gone(f"it is, or leads to, no link of the web: {link!r}") from None
    except TooManyRedirects:
        raise Gone("it leads in a circle") from None
    except (OSError, HTTPError, ValueError) as error:  # no server, no answer, half an answer
        raise Failed(f"{type(error).__name__}: {error}") from None
    return bytes(body), length is not None


def _as_jpeg(body: bytes, whole: bool) -> bytes:
    """The picture as it is saved. What is none is gone, unless the answer may have been cut."""
    try:
        picture = Image.fromarray(load_picture(io.BytesIO(body)))
    except ValueError as error:
        reason = f"no usable picture: {error.__context__ or error}"
        raise (Gone if whole else Failed)(reason) from None
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=95)
    return stream.getvalue()


def _is_picture(path: Path) -> bool:
    """By its first bytes; what an interrupted tool or a page of a server left is none."""
    try:
        with opened(path):
            return True
    except ValueError:
        return False


def _known_gone(log: Path) -> set[str]:
    """Ids whose last entry says that they are gone; half lines of a killed run are passed over."""
    state: dict[str, str] = {}
    for line in log.read_bytes().splitlines() if log.exists() else ():
        try:
            entry = json.loads(line)
            state[entry["id"]] = entry["state"]
        except (ValueError, KeyError, TypeError):
            continue
    return {name for name, what in state.items() if what == "gone"}


def _end_line(log: io.BufferedRandom) -> None:
    """Start a new line if the last one is half."""
    if log.seek(0, os.SEEK_END):
        log.seek(-1, os.SEEK_END)
        if log.read(1) != b"\n":
            log.write(b"\n")


def main(words: Iterable[str] | None = None) -> None:
    example = "--json_dir vist/dii --img_dir vist/images --num_process 16"
    parser = script_parser(__doc__, f"python data_script/vist_img_download.py {example}")
    parser.add_argument("--json_dir", type=Path, required=True, help="folder of the annotations")
    parser.add_argument("--img_dir", type=Path, required=True, help="folder to save pictures in")
    parser.add_argument("--num_process", type=int, default=16, help="downloads at a time (16)")
    parser.add_argument("--timeout", type=float, default=20, help="seconds without a byte (20)")
    parser.add_argument("--retries", type=int, default=3, help="of what failed for now (3)")
    parser.add_argument("--backoff", type=float, default=1, help="seconds before the first (1)")
    parser.add_argument("--max_mb", type=float, default=50, help="largest download in MB (50)")
    parser.add_argument(
        "--allow_local", action="store_true", help="links may lead to a mirror on your network"
    )
    parser.add_argument("--retry_gone", action="store_true", help="try again what was gone")
    args = parser.parse_args(words)
    smallest = {"num_process": 1, "timeout": 1e-3, "retries": 0, "backoff": 0, "max_mb": 1e-3}
    for key, least in smallest.items():
        if getattr(args, key) < least:
            parser.error(f"--{key} {getattr(args, key)} is too small: give at least {least}")
    limits = Limits(
        args.timeout, args.retries, args.backoff, round(args.max_mb * 1e6), args.allow_local
    )
    with ending_at_signals("run again to go on"), error_in_one_line():
        links = read_links(args.json_dir)
        print(f"{len(links)} pictures -> {args.img_dir} (those that are there are left alone)")
        counts = download(links, args.img_dir, args.num_process, limits, args.retry_gone)
    print(", ".join(f"{counts[what]} {what}" for what in ("saved", "there", "gone")), end=", ")
    print(f"{counts['known to be gone']} known to be gone, {counts['failed']} failed for now")
    if counts["gone"] or counts["failed"]:
        print(f"why is in {args.img_dir / LOG}; run again to retry what failed")
    if counts["known to be gone"]:
        print("--retry_gone asks for what is known to be gone again")
    print(
        f"next: python data_script/vist_hdf5.py --dii_json_dir {quote(str(args.json_dir))} "
        f"--img_dir {quote(str(args.img_dir))} --save_path data/vist.h5 --sis_json_dir FOLDER "
        "(that of story-in-sequence.json)"
    )


if __name__ == "__main__":
    main()
