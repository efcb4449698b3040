"""See `python scripts/predict.py --help`."""

import sys

from xpnet.cli import main

sys.exit(main(["predict", *sys.argv[1:]]))
