"""A samples folder: stories with their frames and captions, ours or another system's.

    DIR/manifest.jsonl          one line a story, in JSON:
        story_id                text; names its folder
        captions                K texts
        frames                  K pictures, as paths within DIR
        reference_frames        the K real pictures, or none          (this and all below may miss)
        given                   how many leading frames were handed in, not drawn; 0
        seed                    whole number
        checkpoint              sha256:… of the weights
        sampler                 {name: value}, what they were drawn with
        precision, crop         of DATASET.crop, where they are not 32 and the data set's own
        first_frame             sha256 of the picture that starts a story of one's own, as shown
        pictures                sha256 of the data set's pictures of the story, as stored
        loras                   sha256 of each of its lora_files, null of what is no file
        labels                  K of {cast: [names], place: name or [names], clothes: {name:
                                colour}, action: name, …}, each key as far as it is known; or null
        history_weights         (K, K), how much frame n looked at each earlier one; where wanted
        captions_read           K numbers of characters that the model reads of captions that are
                                too long for it, null for the others; where there are such
        redrawn                 {frame: how}, of those that were drawn again
        drawn_as                K numbers that frames had as they were drawn; where the page's story
                                had its frames moved or some removed since
    DIR/label_vocabulary.json   all names that labels use, by kind; where there are labels
    DIR/STORY/0000.png …        frames; reference_0000.png …
    DIR/STORY/candidates        pictures to choose among for frames; where some were asked for

`writer.py` writes it, `reader.py` reads and checks it, `plain_folders.py` reads pictures that have
no manifest, and `labels.py` the labels beside them.
"""

from evaluation.samples.plain_folders import PLOT, STORYBOARD, open_samples
from evaluation.samples.reader import (
    MANIFEST,
    VOCABULARY,
    SampledStory,
    Samples,
    check_vocabulary,
    places_of,
    read_picture,
    read_samples,
    strange_names,
)
from evaluation.samples.writer import CANDIDATES, RESERVED, SamplesFolder, remove_stories

__all__ = [
    "CANDIDATES", "MANIFEST", "PLOT", "RESERVED", "STORYBOARD", "VOCABULARY", "SampledStory",
    "Samples", "SamplesFolder", "check_vocabulary", "open_samples", "places_of", "read_picture",
    "read_samples", "remove_stories", "strange_names",
]  # fmt: skip
