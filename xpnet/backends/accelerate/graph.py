"""A training step on a GPU, captured once as a CUDA graph and launched in one call.

A graph repeats the same kernels on the same memory. What changes from step to step is therefore on the device
before an epoch begins: the order of the rows, and a table of the coefficients. A counter, which the graph
itself advances, says which batch and which line of the table are next. A launch copies nothing.
"""

import logging
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from xpnet.backends.accelerate.cublas import Capturable
from xpnet.backends.accelerate.kernels import emit_step
from xpnet.backends.accelerate.traced import NotRecordable
from xpnet.backends.backend import Backend, Steps, take_steps

__all__ = ["CuPyCapture", "GraphStep", "TorchCapture"]

# How far the first launch may be from the plain step, in parts of the change that the step makes. Where a
# gradient is near 0, rounding changes its sign, and with it the first change of a parameter by Adam.
_TOLERANCE = 1e-3
_TOLERANCE_OF_THETA = 0.1

_PIECE = 2**16  # elements


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


class GraphStep:
    """A training step as `Backend.compile_step` describes it, as one CUDA graph for each size of a batch.

    What is captured is a list of kernels generated for the step, where the library has them and the step can
    be recorded; else it is the step as written.

    The first launch of a graph is compared with the step as written. If the two differ by more than rounding,
    a RuntimeWarning says so, and from then on each step runs as written. It also does, without a warning, if
    the step cannot be captured. If there is too little memory for the step as written, which needs more than
    a graph, nothing is compared. Whether the Python code of a captured step has changed since is not checked.

    The state stays in the arrays that come first. Other arrays are copied there.

    Args:
        step: as in `Backend.compile_step`.
        backend: the backend of all arrays.
        make_capture: (backend) -> what captures on this backend.
    """

    def __init__(
        self, step: Callable[..., Any], backend: Backend, make_capture: Callable[[Backend], Capture]
    ) -> None:
        self.step, self.backend, self.make_capture = step, backend, make_capture
        self.plain = partial(take_steps, step, xp=backend.xp)
        self.runs_as_written = False
        self.state: list[Any] = []
        self.data: tuple[Any, ...] = ()
        self.steps: Steps | None = None
        self.next = 0
        self.launches: dict[int, Callable[[], None]] = {}
        self.capture: Capture | None = None

    def __call__(self, state: Any, data: Any, steps: Steps, i: int, last: int) -> Any:
        if self.runs_as_written:
            return self.plain(state, data, steps, i, last)
        self._adopt(_flatten(state), data)
        if steps is not self.steps or i != self.next:
            self._load(steps, i)
        self.next = i + 1
        size = steps.count_rows(i)
        if size in self.launches:
            self.launches[size]()
        else:
            self._begin(steps, i, size)
        theta, *moments, total = self.state
        return theta, tuple(moments), total

    def _adopt(self, given: list[Any], data: Any) -> None:
        """Take over the values of the state. If the data are others than before, forget the graphs."""
        self.state = self.state or given
        pairs = list(zip(self.state, given, strict=True))
        # Copied, because an array that is given may be another one of ours.
        foreign = [(ours, self.backend.copy(x)) for ours, x in pairs if x is not ours]
        for ours, x in foreign:
            ours[...] = x
        if len(data) != len(self.data) or any(a is not b for a, b in zip(data, self.data, strict=True)):
            self.data = data
            self.launches.clear()

    def _load(self, steps: Steps, i: int) -> None:
        """Copy the order of the rows and the coefficients to the arrays that the graphs read."""
        xp: Any = self.backend.xp
        table = self.backend.asarray(steps.coefficients)
        if self.steps is None or self.steps.shape != steps.shape:
            self.launches.clear()
            self.table = table
            self.rows = None if steps.rows is None else self.backend.copy(steps.rows)
            self.places = xp.arange(steps.batch_size, device=self.backend.device)
            self.counter = xp.full((1,), i, dtype=xp.int64, device=self.backend.device)
        else:
            self.table[...] = table
            if self.rows is not None:
                self.rows[...] = steps.rows
            self.counter[...] = i
        self.steps = steps

    def _begin(self, steps: Steps, i: int, size: int) -> None:
        """Take a step as written. Then capture it, launch the graph on the same state, and compare."""
        before = self._read(self.state)
        expected = self._compute_as_written(steps, i)
        try:
            if self.capture is None:
                self.capture = self.make_capture(self.backend)
            work = self._record_work(steps, size) or self._make_work(steps, size)
            self._write(before)
            self.capture.warm_up(work)
            self._write(before)
            self.counter[...] = i
            launch = self.capture.capture(work)
            launch()
            difference = expected and _find_difference(before, expected, self._read(self.state))
        except Exception as error:  # the step as written has worked, so it is the capture that does not
            if expected is None:
                raise
            log = logging.getLogger("xpnet")
            log.info("the training step is not captured as a CUDA graph but runs as written: %s", error)
            self.runs_as_written = True
        else:
            self.launches[size] = launch
            if difference is not None:
                self.runs_as_written = True
                warnings.warn(
                    f"the CUDA graph of the training step and the step as written differ: {difference}. "
                    "From now on each step runs as written, which is slower. XPNET_CUDA_GRAPH=0 switches "
                    "CUDA graphs off",
                    RuntimeWarning,
                    stacklevel=2,
                )
        if self.runs_as_written and expected is not None:
            self.launches.clear()
            self._write(expected)

    def _compute_as_written(self, steps: Steps, i: int) -> list[NDArray[Any]] | None:
        """Return the state after step i as written, or None if there is too little memory for it.

        A graph needs less: theta, its gradient and the moments, where the step as written has temporaries.
        """
        theta, *moments, total = self.state
        try:
            return self._read(
                _flatten(self.plain((theta, tuple(moments), total), self.data, steps, i, i + 1))
            )
        except Exception as error:
            if not self.backend.is_out_of_memory(error):
                raise
        return None

    def _make_work(self, steps: Steps, size: int) -> Callable[[Any], None]:
        """Return the step as a function of `xp` alone: on our arrays, at the batch that the counter names."""
        theta, *moments, total = self.state
        # A launch refers to the work, which must not refer to `self`: the cycle would keep its memory.
        step, data, table, rows, counter = self.step, self.data, self.table, self.rows, self.counter
        places = self.places[:size]

        def work(xp: Any) -> None:
            nonlocal counter
            line = xp.take(table, counter, axis=0)
            coefficients = tuple(line[0, j] for j in range(line.shape[1]))
            index = None
            if rows is not None:
                index = xp.take(rows, places + counter * steps.batch_size, axis=0)
            result = step((theta, tuple(moments), total), data, index, coefficients, xp=xp)
            for ours, new in zip((theta, *moments, total), _flatten(result), strict=True):
                if new is not ours:
                    ours[...] = new
            counter += 1

        return work

    def _record_work(self, steps: Steps, size: int) -> Callable[[Any], None] | None:
        """Return the same as a list of kernels made for it, or None if the library has none for this step."""
        assert self.capture is not None
        theta, *moments, total = self.state
        state = theta, tuple(moments), total
        given = self.table, self.rows, self.counter, steps.batch_size, size
        try:
            recorded = self.capture.record(self.step, state, self.data, *given)
        except NotRecordable as reason:
            if not self.launches:
                log = logging.getLogger("xpnet")
                log.info("the training step is captured as written, not as generated kernels: %s", reason)
            return None
        if recorded is None:
            return None
        result, run = recorded
        pairs = zip(self.state, _flatten(result), strict=True)
        copies = [(ours, new) for ours, new in pairs if new is not ours]
        counter = self.counter

        def work(xp: Any) -> None:
            nonlocal counter
            run()
            for ours, new in copies:
                ours[...] = new
            counter += 1

        return work

    def _read(self, arrays: list[Any]) -> list[NDArray[Any]]:
        return [self.backend.to_numpy(x) for x in arrays]

    def _write(self, values: list[NDArray[Any]]) -> None:
        """Copy these values to our arrays: piece by piece, because each copy is a second array for a time."""
        for ours, value in zip(self.state, values, strict=True):
            flat, flat_value = ours.reshape(-1), value.reshape(-1)
            for first in range(0, flat_value.size, _PIECE):
                piece = slice(first, first + _PIECE)
                flat[piece] = self.backend.asarray(flat_value[piece])


def _flatten(state: Any) -> list[Any]:
    theta, moments, total = state
    return [theta, *moments, total]


def _find_difference(
    before: list[NDArray[Any]], expected: list[NDArray[Any]], found: list[NDArray[Any]]
) -> str | None:
    """Return by how much the change of the state differs from the expected one, or None if by rounding."""
    names = ["the parameters", *(f"moment {i}" for i in range(1, len(before) - 1)), "the loss"]
    for name, old, right, new in zip(names, before, expected, found, strict=True):
        with np.errstate(all="ignore"):
            error, change = np.linalg.norm(new - right), np.linalg.norm(right - old)
        tolerance = _TOLERANCE_OF_THETA if name == names[0] else _TOLERANCE
        if np.isfinite(change) and not error <= tolerance * change:
            return f"{name} change by {np.linalg.norm(new - old):.3g} instead of {change:.3g}"
    return None


class CuPyCapture:
    """Captures with CuPy. A graph goes on writing to its memory, which comes from a pool of its own."""

    def __init__(self, backend: Backend) -> None:
        import cupy

        self.cupy = cupy
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self.buffers: list[Any] = []
        self.pool = cupy.cuda.MemoryPool()
        with cupy.cuda.using_allocator(self.pool.malloc):
            self.xp = Capturable(backend.xp, cupy)
        # A pool that is deleted does not free what it has left.
        weakref.finalize(self, self.pool.free_all_blocks).atexit = False

    def record(self, *step: Any) -> tuple[Any, Callable[[], None]]:
        # The gradient first, before smaller arrays are placed where it would fit.
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
