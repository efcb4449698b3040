"""Where arrays live and how each library computes: the only package that names array libraries."""

from xpnet.backends.backend import DTYPES, Backend, backend_of, library_of, place, resolve, to_host

__all__ = ["DTYPES", "Backend", "backend_of", "library_of", "place", "resolve", "to_host"]
