"""What is known of CUDA before any library is imported."""

import ctypes
import os
import sys
from functools import cache

__all__ = ["explain_missing_driver", "graphs_are_on"]


@cache
def explain_missing_driver() -> str | None:
    """Return that this machine has no NVIDIA driver, or None if it has one."""
    # Asking the loader takes 2 ms; importing PyTorch to be told the same takes a second.
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(name)
    except OSError:
        return f"no NVIDIA driver on this machine ({name} not found)"
    return None


def graphs_are_on() -> bool:
    """Return whether the user asks for training steps as CUDA graphs, which have not run on a GPU yet."""
    return os.environ.get("XPNET_CUDA_GRAPH") == "1"
