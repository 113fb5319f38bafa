"""Kills real training and sampling at random moments: `python -m tests.faults --help`."""
