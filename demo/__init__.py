"""The whole loop on the cartoon world: `python -m demo`, and the training of its judge."""

import common  # noqa: F401  Ctrl-C while libraries load is one line
