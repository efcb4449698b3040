"""See `python scripts/predict.py --help`."""

import sys

from xpnet.__main__ import main

sys.exit(main(["predict", *sys.argv[1:]]))
