"""Opens the page on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import gradio as gr

from page.texts import CSS

__all__ = ["launch"]


def launch(page: gr.Blocks, port: int, waiting: int, out: Path) -> str:
    """Open the page on this machine alone; returns its address.

    Raises:
        OSError: the port is taken.
    """
    _ask_past_proxies()
    page.queue(max_size=waiting)
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["monospace"]}
    try:
        _, address, _ = page.launch(
            server_name="127.0.0.1",
            server_port=port or None,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            ssr_mode=False,
            theme=gr.themes.Soft(primary_hue="orange", neutral_hue="stone", **fonts),
            css=CSS,
            max_file_size="30mb",
            allowed_paths=[str(out.resolve())],
            footer_links=[],
        )
    except OSError as error:
        raise OSError(f"port={port} is taken; give another, or port=0 for any") from error
    return address


def _ask_past_proxies() -> None:
    """Gradio asks its own address whether it answers; a proxy, usual on clusters, cannot."""
    past = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    if past != "*":
        hosts = ",".join(filter(None, (past, "127.0.0.1", "localhost")))
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = hosts
