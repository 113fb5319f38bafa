"""The networks that metrics ask, one a file, and how their features are computed once and kept."""
