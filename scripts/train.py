"""See `python scripts/train.py --help`."""

import sys

from xpnet.__main__ import main

sys.exit(main(["train", *sys.argv[1:]]))
