"""A small drawn world with exact labels: the data set that ships as code."""
