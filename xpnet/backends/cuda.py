"""What can be known of CUDA before any library is imported."""

import ctypes
import os
import sys
from functools import cache

__all__ = ["explain_missing_driver", "is_worth_a_graph"]

# To capture a step takes as long as a few steps.
_WORTH_CAPTURING = 32


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


def is_worth_a_graph(n_steps: int) -> bool:
    """Return whether to capture a step that is taken so often. XPNET_CUDA_GRAPH=0 switches graphs off."""
    return n_steps >= _WORTH_CAPTURING and os.environ.get("XPNET_CUDA_GRAPH") != "0"
