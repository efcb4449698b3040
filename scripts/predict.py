"""See `python scripts/predict.py --help`."""

import sys

from xpnet.command.cli import main

sys.exit(main(["predict", *sys.argv[1:]]))
