"""A training step on a GPU, captured once as a CUDA graph and launched in one call.

A graph repeats the same kernels on the same memory. What changes from step to step is therefore on the device
before an epoch begins: the order of the rows, and a table of the coefficients. A counter, which the graph
itself advances, says which batch and which line of the table are next. A launch copies nothing.
"""

import logging
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.backends.accelerate.capture import Capture
from xpnet.backends.accelerate.traced import NotRecordable
from xpnet.backends.backend import Backend, Steps, count_steps, take_steps

__all__ = ["GraphStep"]

# How far the first launch may be from the plain step, in parts of the change that the step makes. Where a
# gradient is near 0, rounding changes its sign, and with it the first change of a parameter by Adam.
_TOLERANCE = 1e-3
_TOLERANCE_OF_THETA = 0.1

_PIECE = 2**16  # elements


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

    def __call__(self, state: Any, data: Any, steps: Steps, first: int, last: int) -> Any:
        if self.runs_as_written:
            return self.plain(state, data, steps, first, last)
        self._adopt(_flatten(state), data)
        if steps is not self.steps or first != self.next:
            self._load(steps, first)
        self.next = last
        size, i = steps.count_rows(first), first
        if size not in self.launches:
            self._begin(steps, first, size)
            i += 1
        theta, *moments, total = self.state
        state = theta, tuple(moments), total
        try:
            if self.runs_as_written:
                return self.plain(state, data, steps, i, last)
            launch = self.launches[size]
            while i < last:
                launch()
                i += 1
        except BaseException as error:
            self.next = -1  # the counter on the device is loaded anew
            raise count_steps(error, i - first, state)  # noqa: B904 (it may be the error itself)
        return state

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
            self._give_up(expected)
            log = logging.getLogger("xpnet")
            log.info("the training step is not captured as a CUDA graph but runs as written: %s", error)
            return
        except BaseException:  # Ctrl-C: the step is not taken
            self._write(before)
            raise
        self.launches[size] = launch
        if expected is not None and difference is not None:
            self._give_up(expected)
            warnings.warn(
                f"the CUDA graph of the training step and the step as written differ: {difference}. From now "
                "on each step runs as written, which is slower. XPNET_CUDA_GRAPH=0 switches CUDA graphs off",
                RuntimeWarning,
                stacklevel=2,
            )

    def _give_up(self, expected: list[NDArray[Any]]) -> None:
        """Run each step as written from now on. The current one has led to these values."""
        self.runs_as_written = True
        self.launches.clear()
        self.capture = None  # frees its memory
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
    names = ["the parameters", *(f"the moments {i}" for i in range(1, len(before) - 1)), "the losses"]
    for name, old, right, new in zip(names, before, expected, found, strict=True):
        with np.errstate(all="ignore"):
            error, change = np.linalg.norm(new - right), np.linalg.norm(right - old)
            rounding = 16 * np.finfo(right.dtype).eps * np.linalg.norm(right)
        tolerance = _TOLERANCE_OF_THETA if name == names[0] else _TOLERANCE
        if np.isfinite(change) and not error <= tolerance * change + rounding:
            return f"{name} should change by {change:.3g} and are {error:.3g} away from that"
    return None
