"""Judges and shows a folder of sampled stories, whichever system drew them."""
