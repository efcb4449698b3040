"""See `python scripts/export.py --help`."""

import sys

from xpnet.command.cli import main

sys.exit(main(["export", *sys.argv[1:]]))
