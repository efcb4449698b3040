"""Fast paths, each for one library, each beside the plain lines that it runs, and tested against them."""

from xpnet.backends.accelerate.graph import captured_by_cupy, captured_by_torch
from xpnet.backends.accelerate.plan import recorded
from xpnet.backends.accelerate.replay import Replay
from xpnet.backends.accelerate.rows import RowNamespace

__all__ = ["Replay", "RowNamespace", "captured_by_cupy", "captured_by_torch", "recorded"]
