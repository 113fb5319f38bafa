"""Stories as data: the HDF5 story file, one data set class for every set, the cartoon world.

The name shadows the Hugging Face library of the same name on purpose; nothing here needs it.
"""

import common  # noqa: F401  Ctrl-C while libraries load is one line


class Dataset:
    """Stands in for the Hugging Face class: transformers and accelerate ask if data is of it."""


class IterableDataset:
    """Stands in for the Hugging Face class, as above; no object is of either."""
