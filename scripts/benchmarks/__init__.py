"""The subcommands of `scripts/benchmark.py`, and what they share."""

import argparse


def positive(text):
    """Return the whole number of at least 1 that an argument must be."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {text}")
    return int(text)
