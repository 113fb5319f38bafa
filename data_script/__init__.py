"""Turns raw downloads and folders of pictures into story files."""

import common  # noqa: F401  Ctrl-C while libraries load is one line
