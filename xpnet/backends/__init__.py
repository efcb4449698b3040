"""Where arrays live and how each library computes: the only package that names array libraries.

A library is one file here and one row of `LIBRARIES`.
"""

from xpnet.backends.backend import DTYPES, Backend
from xpnet.backends.lookup import LIBRARIES, backend_of, library_of, place, resolve, to_host

__all__ = [
    "DTYPES",
    "LIBRARIES",
    "Backend",
    "backend_of",
    "library_of",
    "place",
    "resolve",
    "to_host",
]
