"""The page's widgets: a card for each frame, buttons, settings."""

from __future__ import annotations

import gradio as gr

from page.model import PageModel
from page.story import Story
from page.texts import BLANK, EXAMPLE, understood

__all__ = ["MOST_FRAMES", "Widgets"]

MOST_FRAMES = 12
TOOLS = {"left": "◀", "right": "▶", "gone": "✕", "again": "↻"}


class Widgets:
    """Laid out for `model`, to be made within `gr.Blocks`; lists have one for each frame."""

    def __init__(self, model: PageModel) -> None:
        self.model = model
        self.cards, self.images, self.captions, self.tools = [], [], [], []
        self.references, self.looked = [], []
        self.story, self.chosen = gr.State(Story()), gr.State(0)
        self.title = gr.Markdown(self.told_title())
        with gr.Row(elem_classes="cards"):
            for k in range(MOST_FRAMES):
                self._card(k)
        self._buttons()
        self._settings()
        self._data_set()
        self._character()
        if model.is_cartoon:
            with gr.Accordion("What this model understands", open=True):
                gr.Markdown(understood(model.world))

    def told_title(self) -> str:
        return (
            f"# Story diffusion\nEvery frame is drawn after all captions and frames before it. "
            f"Model: `{self.model.path}`"
        )

    def _card(self, k: int) -> None:
        shown = len(Story().pictures)
        with gr.Column(min_width=150, visible=k < shown, elem_classes="card") as card:
            image = gr.Image(
                BLANK,
                interactive=False,
                format="png",
                show_label=False,
                buttons=["download", "fullscreen"],
                elem_id=f"frame-{k + 1}",
                elem_classes="frame",
            )
            looked = gr.Markdown(visible=False, elem_id=f"looked-{k + 1}", elem_classes="looked")
            reference = gr.Image(
                interactive=False,
                format="png",
                show_label=False,
                visible=False,
                buttons=[],
                elem_id=f"reference-{k + 1}",
                elem_classes="frame reference",
            )
            caption = gr.Textbox(
                lines=3,
                max_lines=6,
                show_label=False,
                container=False,
                elem_id=f"caption-{k + 1}",
                placeholder=EXAMPLE[k % len(EXAMPLE)] if self.model.is_cartoon else "",
            )
            with gr.Row(elem_classes="tools"):
                tools = [
                    gr.Button(sign, size="sm", min_width=20, elem_id=f"{name}-{k + 1}")
                    for name, sign in TOOLS.items()
                ]
        self.cards.append(card)
        self.images.append(image)
        self.looked.append(looked)
        self.references.append(reference)
        self.captions.append(caption)
        self.tools.append(tools)

    def _buttons(self) -> None:
        self.notices = gr.Markdown(elem_id="notices", visible=False)
        with gr.Row():
            self.draw = gr.Button("Draw the story", variant="primary", elem_id="draw", scale=2)
            self.stop = gr.Button("Stop", elem_id="stop", min_width=80)
            self.add = gr.Button("Add a frame", elem_id="add", min_width=120)
            self.tell = gr.Button("Tell me one", visible=self.model.is_cartoon, min_width=120)
            self.upload = gr.UploadButton(
                "First picture", elem_id="upload", file_types=["image"], min_width=140
            )
            self.take_away = gr.Button("Remove the picture", visible=False, elem_id="take-away")
            self.keep = gr.Button("Save", elem_id="save", min_width=80)
        self.status = gr.Markdown("Type a caption for each frame, then draw.", elem_id="status")
        self.gallery = gr.Gallery(
            label="Candidates: click the one to take",
            visible=False,
            columns=6,
            fit_columns=False,
            height="auto",
            object_fit="contain",
            allow_preview=False,
            format="png",
            elem_id="candidates",
        )
        self.files = gr.File(label="Saved", visible=False, file_count="multiple", elem_id="files")

    def _settings(self) -> None:
        was = self.model.defaults
        usual = was["num_inference_steps"]
        first_steps = was["first_frame_inference_steps"] or usual
        with gr.Accordion("Settings", open=False, elem_id="settings"):
            with gr.Row():
                seed = gr.Number(
                    0, label="Seed", info="another one, other pictures", elem_id="seed"
                )
                steps = gr.Slider(1, 250, usual, step=1, label="Steps a frame")
                first = gr.Slider(1, 250, first_steps, step=1, label="Steps of the first frame")
                scale = gr.Slider(
                    0, 15, was["guidance_scale"], step=0.5, label="Guidance", info="1: none, faster"
                )
                sampler = gr.Dropdown(
                    self.model.samplers, value=was["scheduler"], label="Sampler", elem_id="sampler"
                )
            with gr.Row():
                name = gr.Textbox(
                    "my_story",
                    label="Name",
                    elem_id="name",
                    info="NAME.yaml drawn by main.py with this seed gives the same pictures",
                )
                self.count = gr.Slider(
                    1,
                    6,
                    1,
                    step=1,
                    label="Candidates of ↻",
                    elem_id="count",
                    info="2 or more: choose which one to take",
                )
                self.rest = gr.Checkbox(
                    False, label="↻ draws what follows the frame, too", elem_id="rest"
                )
        self.settings = [name, seed, steps, first, scale, sampler]

    def _data_set(self) -> None:
        with gr.Accordion(
            "Stories of the data set",
            open=False,
            visible=self.model.references is not None,
            elem_id="data-set",
        ):
            with gr.Row():
                self.number = gr.Number(1, label="Test story", precision=0, elem_id="number")
                self.given = gr.Checkbox(
                    False, label="Give its first picture", elem_id="give-first"
                )
                self.browse = gr.Button("Show it", elem_id="browse")
                self.next = gr.Button("The next one", elem_id="next")

    def _character(self) -> None:
        with gr.Accordion("A new character", open=False, elem_id="character"):
            gr.Markdown(
                "From three to five pictures of it in several poses; ten teach it better. Takes"
                " minutes; stories can be drawn meanwhile. The page then draws with the new model."
            )
            with gr.Row():
                self.word = gr.Textbox(label="Name", info="a new word: milo", elem_id="word")
                self.class_word = gr.Textbox(
                    label="What it is like",
                    info="a known word: bear; or none",
                    elem_id="class-word",
                )
                self.pronoun = gr.Dropdown(
                    [("none", ""), "he", "she"], value="", label="Pronoun", elem_id="pronoun"
                )
            self.pictures = gr.File(
                label="Pictures",
                file_count="multiple",
                file_types=["image"],
                height=140,
                elem_id="pictures",
            )
            with gr.Row():
                self.learn = gr.Button("Learn it", elem_id="learn")
                self.leave = gr.Button("Stop learning", elem_id="leave")
            self.learning = gr.Markdown(elem_id="learning")
