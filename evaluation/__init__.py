"""Judges and shows saved stories; see README.md."""

import common  # noqa: F401  Ctrl-C while libraries load is one line
