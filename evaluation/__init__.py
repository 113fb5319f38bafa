"""Judges and shows saved stories; see README.md."""
