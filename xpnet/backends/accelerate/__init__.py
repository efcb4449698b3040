"""Fast paths, each for one library. Each is tested against the plain code whose place it takes."""

from xpnet.backends.accelerate.capture import CuPyCapture, TorchCapture
from xpnet.backends.accelerate.graph import GraphStep
from xpnet.backends.accelerate.loop import CompiledLoop
from xpnet.backends.accelerate.plan import record_step
from xpnet.backends.accelerate.replay import Replay
from xpnet.backends.accelerate.rows import RowNamespace
from xpnet.backends.accelerate.shared import find_memory, record_shared_step

__all__ = [
    "CompiledLoop",
    "CuPyCapture",
    "GraphStep",
    "Replay",
    "RowNamespace",
    "TorchCapture",
    "find_memory",
    "record_shared_step",
    "record_step",
]
