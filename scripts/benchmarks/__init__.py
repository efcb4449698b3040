"""The benchmark: one module per subcommand, the contestants, and what the subcommands share."""

import argparse


def positive(text):
    """Return the argument as an int of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text}")
    return int(text)
