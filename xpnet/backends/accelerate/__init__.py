"""Fast paths, each for one library. Each is tested against the plain code whose place it takes."""

from xpnet.backends.accelerate.graph import capture_with_cupy, capture_with_torch
from xpnet.backends.accelerate.plan import record_step
from xpnet.backends.accelerate.replay import Replay
from xpnet.backends.accelerate.rows import RowNamespace

__all__ = ["Replay", "RowNamespace", "capture_with_cupy", "capture_with_torch", "record_step"]
