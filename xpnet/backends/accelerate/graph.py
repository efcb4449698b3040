"""A training step on a GPU, captured once as a CUDA graph and launched in one call.

Not yet run on a GPU, and therefore off unless the environment has XPNET_CUDA_GRAPH=1.
"""

from collections.abc import Callable
from typing import Any

from xpnet._typing import Namespace
from xpnet.backends.accelerate.cublas import Capturable

__all__ = ["capture_with_cupy", "capture_with_torch"]

# Kernels are compiled, algorithms chosen and memory asked for at the first calls, which no graph can hold.
_WARM_UPS = 3


def capture_with_torch(
    step: Callable[..., Any], state: Any, data: Any, index: Any, coefficients: Any, *, xp: Namespace
) -> tuple[Any, Callable[[], None]]:
    """Return the state after the step, and the step itself. See `Replay`."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM_UPS):
            step(_copied(state, torch.clone), data, index, coefficients, xp=xp)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = step(state, data, index, coefficients, xp=xp)
    return result, graph.replay


def capture_with_cupy(
    step: Callable[..., Any], state: Any, data: Any, index: Any, coefficients: Any, *, xp: Namespace
) -> tuple[Any, Callable[[], None]]:
    """Return the state after the step, and the step itself. See `Replay`."""
    import cupy

    stream = cupy.cuda.Stream(non_blocking=True)
    # Memory that the graph goes on writing to must not be handed to anyone else: it has a pool of its own.
    pool = cupy.cuda.MemoryPool()
    cupy.cuda.get_current_stream().synchronize()
    with stream, cupy.cuda.using_allocator(pool.malloc):
        own = Capturable(xp, cupy, stream)
        for _ in range(_WARM_UPS):
            step(_copied(state, cupy.copy), data, index, coefficients, xp=own)
        stream.synchronize()
        stream.begin_capture()
        try:
            result = step(state, data, index, coefficients, xp=own)
        finally:
            graph = stream.end_capture()  # or the stream would stay in capture

    def again(kept: Any = (pool, own)) -> None:
        graph.launch()

    return result, again


def _copied(state: Any, copy: Callable[[Any], Any]) -> Any:
    theta, moments, total = state
    return copy(theta), tuple(map(copy, moments)), copy(total)
