"""Simulated; see ../README.md."""
