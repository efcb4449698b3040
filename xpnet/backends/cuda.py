"""CUDA settings that can be read before any library is imported."""

import ctypes
import os
import sys
from functools import cache

__all__ = ["explain_missing_driver", "graphs_are_on"]


@cache
def explain_missing_driver() -> str | None:
    """Return a message if this machine has no NVIDIA driver, else None."""
    # This takes 2 ms. Importing PyTorch to find out takes a second.
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(name)
    except OSError:
        return f"no NVIDIA driver on this machine ({name} not found)"
    return None


def graphs_are_on() -> bool:
    """Return whether XPNET_CUDA_GRAPH=1 asks for CUDA graphs, which are experimental."""
    return os.environ.get("XPNET_CUDA_GRAPH") == "1"
