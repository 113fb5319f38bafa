"""Compares this code with numbers that the original AR-LDM produced (`python -m tests.golden`)."""
