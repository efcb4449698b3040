"""The array libraries and their devices. Only this package names array libraries.

Each library has one module here and one entry in `LIBRARIES`.
"""

from xpnet.backends.backend import DTYPES, Backend, PartlyTaken, Steps
from xpnet.backends.lookup import LIBRARIES, backend_of, check_contradiction, library_of, resolve, to_host

__all__ = [
    "DTYPES",
    "LIBRARIES",
    "Backend",
    "PartlyTaken",
    "Steps",
    "backend_of",
    "check_contradiction",
    "library_of",
    "resolve",
    "to_host",
]
