"""Measurements of the whole system and of its parts."""

import common  # noqa: F401  Ctrl-C while libraries load is one line
