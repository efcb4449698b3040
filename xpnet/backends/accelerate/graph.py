"""A training step on a GPU, captured once as a CUDA graph and launched in one call.

Whether a captured step is still the same is not checked: nothing lists what a graph does. Not yet run on a
GPU, and therefore off unless the environment has XPNET_CUDA_GRAPH=1.
"""

import weakref
from collections.abc import Callable
from typing import Any

from xpnet._typing import Namespace
from xpnet.backends.accelerate.cublas import Capturable
from xpnet.backends.accelerate.traced import NotRecordable

__all__ = ["capture_with_cupy", "capture_with_torch"]

# The first calls compile kernels, choose algorithms and allocate memory, which a graph cannot contain.
_WARM_UPS = 3


def capture_with_torch(
    step: Callable[..., Any], state: Any, data: Any, index: Any, coefficients: Any, *, xp: Namespace
) -> tuple[None, Callable[[], tuple[Any, Callable[[], None]]]]:
    """Return (None, how to capture the step), as `Replay` expects of `fix`."""
    import torch

    def prepare() -> tuple[Any, Callable[[], None]]:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                step(_copy_state(state, torch.clone), data, index, coefficients, xp=xp)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                result = step(state, data, index, coefficients, xp=xp)
        except RuntimeError as error:
            raise NotRecordable(f"PyTorch cannot capture the step: {error}") from error
        return result, graph.replay

    return None, prepare


def capture_with_cupy(
    step: Callable[..., Any], state: Any, data: Any, index: Any, coefficients: Any, *, xp: Namespace
) -> tuple[None, Callable[[], tuple[Any, Callable[[], None]]]]:
    """Return (None, how to capture the step), as `Replay` expects of `fix`."""
    import cupy

    def prepare() -> tuple[Any, Callable[[], None]]:
        stream = cupy.cuda.Stream(non_blocking=True)
        # The graph goes on writing to its memory, which nobody else may get: it has a pool of its own.
        pool = cupy.cuda.MemoryPool()
        cupy.cuda.get_current_stream().synchronize()
        try:
            with stream, cupy.cuda.using_allocator(pool.malloc):
                own = Capturable(xp, cupy, stream)
                for _ in range(_WARM_UPS):
                    step(_copy_state(state, cupy.copy), data, index, coefficients, xp=own)
                stream.synchronize()
                stream.begin_capture()
                try:
                    result = step(state, data, index, coefficients, xp=own)
                finally:
                    graph = stream.end_capture()  # or the stream would remain in capture mode
        except (OSError, RuntimeError, ValueError) as error:
            raise NotRecordable(f"CuPy cannot capture the step: {error}") from error

        def run(kept: Any = own) -> None:
            graph.launch()

        weakref.finalize(run, pool.free_all_blocks)  # a pool that is deleted does not free what it has left
        return result, run

    return None, prepare


def _copy_state(state: Any, copy: Callable[[Any], Any]) -> Any:
    theta, moments, total = state
    return copy(theta), tuple(map(copy, moments)), copy(total)
