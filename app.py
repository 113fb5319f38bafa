"""A page to tell stories on: python app.py [model=FILE_OR_FOLDER] [port=7860] …

Opens on this machine alone, with the model trained last, or the demo's.
"""

from __future__ import annotations

from common.interrupts import ending_at_signals  # Ctrl-C while importing the rest is one line, too

# isort: split
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from common.imports import heavy_imports
from common.key_value_arguments import option, run


@dataclass
class App:
    """What to open where."""

    model: str | None = option(
        "checkpoint, or a folder that models.export wrote; null: newest", None
    )
    base_model_file: str | None = option("what it was tuned from, where that has moved", None)
    port: int = option("where it opens, http://127.0.0.1:PORT; 0: any that is free", 7860, least=0)
    out: str = option("folder for stories that are saved", "outputs/page")
    queue: int = option("stories that may wait while one is drawn; more are turned away", 10)
    accelerator: str = option("where to draw", "auto", choices=("auto", "cpu", "gpu", "mps"))


def serve(options: App) -> None:
    """Load the model and answer until Ctrl-C."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # nothing about anyone leaves this machine
    with heavy_imports():
        from common.files import is_address
        from page.handlers import build_page
        from page.model import load_model, newest_model
        from page.opening import launch
    if is_address(options.out) or Path(options.out).is_file():
        raise ValueError(f"out: {options.out} is no folder of this machine; give another name")
    if options.port > 65535:
        raise ValueError(f"port={options.port} is too large: give one up to 65535")
    path = Path(options.model) if options.model else newest_model()
    with ending_at_signals("the page is closed"):  # ends what it learns, too
        model = load_model(path, options.accelerator, options.base_model_file)
        page = build_page(model, Path(options.out))
        address = launch(page, options.port, options.queue, Path(options.out))
        print(f"{path} draws at {address} (Ctrl-C ends it)", flush=True)
        page.block_thread()


if __name__ == "__main__":
    run(App, __doc__, serve, sys.argv[1:])
