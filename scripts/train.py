"""See `python scripts/train.py --help`."""

import sys

from xpnet.cli import main

sys.exit(main(["train", *sys.argv[1:]]))
