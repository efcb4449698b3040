"""See `python scripts/benchmark.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # measure this clone, installed or not

from benchmarks.command import main

sys.exit(main(sys.argv[1:]))
