"""Fast paths, each for one library, each beside the plain lines that it runs, and tested against them."""

from xpnet.accelerate.graph import captured
from xpnet.accelerate.plan import recorded
from xpnet.accelerate.replay import Replay

__all__ = ["Replay", "captured", "recorded"]
