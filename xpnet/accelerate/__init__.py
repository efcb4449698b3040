"""Fast paths, each for one library, each beside the plain lines that it runs, and tested against them."""

from xpnet.accelerate.graph import captured_by_cupy, captured_by_torch
from xpnet.accelerate.plan import recorded
from xpnet.accelerate.replay import Replay
from xpnet.accelerate.rows import RowNamespace

__all__ = ["Replay", "RowNamespace", "captured_by_cupy", "captured_by_torch", "recorded"]
