"""Capturing work on a CUDA device as a graph, for each library that can."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, cast

from xpnet.backends.accelerate.cublas import Capturable
from xpnet.backends.accelerate.kernels import emit_step
from xpnet.backends.backend import Backend

__all__ = ["Capture", "CuPyCapture", "TorchCapture"]


class Capture(Protocol):
    """What `GraphStep` needs of a library: it runs work aside, on a stream and in memory of its own."""

    def record(self, *step: Any) -> tuple[Any, Callable[[], None]] | None:
        """Return what `emit_step` returns for these arguments, or None if there is nothing like it.

        Raises:
            NotRecordable: as `emit_step`.
        """

    def warm_up(self, work: Callable[[Any], None]) -> None:
        """Call work(xp), so that kernels are compiled and memory is found. Wait until it is done."""

    def capture(self, work: Callable[[Any], None]) -> Callable[[], None]:
        """Return a function that launches what work(xp) computes, on the caller's current stream."""


class CuPyCapture:
    """Captures with CuPy. A graph goes on writing to its memory, which comes from a pool of its own."""

    def __init__(self, backend: Backend) -> None:
        import cupy

        self.cupy = cupy
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self.xp = Capturable(backend.xp, cupy)
        self.buffers: list[Any] = []
        self.pool = cupy.cuda.MemoryPool(partial(_allocate, cupy))
        weakref.finalize(self, _free, self.pool, backend).atexit = False

    def record(self, *step: Any) -> tuple[Any, Callable[[], None]]:
        # The gradient first, before the workspace and smaller arrays are placed where it would fit.
        if not self.buffers:
            self.buffers.append(self.cupy.empty(step[1][0].nbytes, dtype=self.cupy.uint8))
        # Steps with batches of other sizes never run at the same time, so they share their memory.
        free = list(self.buffers)

        def new_memory(n_bytes: int) -> Any:
            for i, buffer in enumerate(free):
                if n_bytes <= buffer.size < 2 * n_bytes:
                    return free.pop(i)[:n_bytes]
            self.buffers.append(self.cupy.empty(n_bytes, dtype=self.cupy.uint8))
            return self.buffers[-1]

        return emit_step(*step, xp=self.xp, new_memory=new_memory)

    def warm_up(self, work: Callable[[Any], None]) -> None:
        self.xp.allocate()  # not in the pool of the graphs
        self.cupy.cuda.get_current_stream().synchronize()
        with self._aside():
            work(self.xp)
            self.stream.synchronize()

    def capture(self, work: Callable[[Any], None]) -> Callable[[], None]:
        with self._aside():
            self.stream.begin_capture()
            try:
                work(self.xp)
            finally:
                graph = self.stream.end_capture()  # or the stream would remain in capture mode

        def launch(work: Any = work) -> None:  # keeps the arrays of the work, to which the graph has pointers
            graph.launch()

        return launch

    @contextmanager
    def _aside(self) -> Iterator[None]:
        before = self.cupy.cuda.get_current_stream()
        self.stream.use()  # leaving `with self.stream` would forget a stream that the caller set with `use`
        try:
            with self.cupy.cuda.using_allocator(self.pool.malloc):
                self.xp.use(self.stream)
                yield
        finally:
            before.use()


def _allocate(cupy: Any, n_bytes: int) -> Any:
    """Return new memory of the device.

    A pool that gets CuPy's own error frees all blocks that are free and tries again. But the graphs that have
    been captured still write to them: only those of the caller's pool are freed here.

    Raises:
        MemoryError: if there is not enough.
    """
    error = cupy.cuda.runtime.CUDARuntimeError
    try:
        return cupy.cuda.MemoryPointer(cupy.cuda.Memory(n_bytes), 0)
    except error:
        cupy.get_default_memory_pool().free_all_blocks()
    try:
        return cupy.cuda.MemoryPointer(cupy.cuda.Memory(n_bytes), 0)
    except error as problem:
        raise MemoryError(str(problem)) from None


def _free(pool: Any, backend: Backend) -> None:
    """Free the blocks of a pool: one that is deleted does not free what it has left."""
    with backend.as_current():
        pool.free_all_blocks()


class TorchCapture:
    """Captures with PyTorch. Not yet run on a GPU."""

    def __init__(self, backend: Backend) -> None:
        import torch

        self.cuda = torch.cuda
        self.xp = backend.xp
        self.stream = torch.cuda.Stream()
        self.pool = torch.cuda.graph_pool_handle()

    def record(self, *step: Any) -> None:
        return None

    def warm_up(self, work: Callable[[Any], None]) -> None:
        self.stream.wait_stream(self.cuda.current_stream())
        with self.cuda.stream(self.stream):
            work(self.xp)
        self.cuda.current_stream().wait_stream(self.stream)

    def capture(self, work: Callable[[Any], None]) -> Callable[[], None]:
        graph = self.cuda.CUDAGraph()
        # Other threads may go on allocating memory meanwhile.
        mode = {"capture_error_mode": "thread_local"}
        with self.cuda.graph(graph, pool=self.pool, stream=self.stream, **mode):
            work(self.xp)
        return cast(Callable[[], None], graph.replay)
