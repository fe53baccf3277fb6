"""Comparisons with peers: each `python -m bench.<name>` runs both in turn and prints a ratio."""
