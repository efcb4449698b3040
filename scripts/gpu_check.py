"""See `python scripts/gpu_check.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # check this clone, installed or not

from checks.command import main

sys.exit(main(sys.argv[1:]))
