"""See `python scripts/export.py --help`."""

import sys

from xpnet.__main__ import main

sys.exit(main(["export", *sys.argv[1:]]))
