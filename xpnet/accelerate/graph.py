"""A training step of PyTorch on a GPU, captured once as a CUDA graph and launched in one call.

Not yet run on a GPU, and therefore off unless the environment has XPNET_CUDA_GRAPH=1.
"""

from collections.abc import Callable
from typing import Any

from xpnet._typing import Namespace

__all__ = ["captured"]


def captured(
    step: Callable[..., Any], state: Any, data: Any, index: Any, coefficients: Any, *, xp: Namespace
) -> tuple[Any, Any, Callable[[], None]]:
    """Return the state that the step works on, the state after it, and the step itself. See `Replay`."""
    import torch

    theta, moments, total = state
    # Algorithms are chosen and memory is asked for at a first call: on copies, so that the state stays.
    copy = torch.clone
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            again = copy(theta), tuple(map(copy, moments)), copy(total)
            step(again, data, index, coefficients, xp=xp)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = step(state, data, index, coefficients, xp=xp)
    return state, result, graph.replay
