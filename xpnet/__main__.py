"""`python -m xpnet`."""

import sys

from xpnet.command.cli import main

sys.exit(main())
