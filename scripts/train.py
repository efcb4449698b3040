"""See `python scripts/train.py --help`."""

import sys

from xpnet.command.cli import main

sys.exit(main(["train", *sys.argv[1:]]))
