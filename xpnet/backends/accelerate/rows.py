"""NumPy for many short rows, as those of probabilities are: its own reductions are slow there."""

from typing import Any

import numpy as np

from xpnet._typing import Namespace

__all__ = ["RowNamespace"]

# From this length on NumPy's own reductions of a row are as fast.
_LONG = 64
# They are `max` and `sum` of NumPy without their checks, which take longer than one row.
_max: Any = np.maximum.reduce
_sum: Any = np.add.reduce


class RowNamespace:
    """NumPy's namespace with the faster `max` and `sum` of `Recorder`."""

    def __init__(self, xp: Namespace) -> None:
        self.xp: Any = xp

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.xp, name)
        setattr(self, name, function)  # found at once from now on
        return function

    def max(self, x: Any, /, *, axis: int | None = None, keepdims: bool = False) -> Any:
        if not _short_rows(x, axis, keepdims):
            return _max(x, axis=axis, keepdims=keepdims)
        return np.maximum.reduce(x.T.copy(), axis=0)[:, np.newaxis]

    def sum(self, x: Any, /, *, axis: int | None = None, keepdims: bool = False) -> Any:
        if not _short_rows(x, axis, keepdims):
            return _sum(x, axis=axis, keepdims=keepdims)
        return np.dot(x, np.ones((x.shape[1], 1), x.dtype))


def _short_rows(x: Any, axis: int | None, keepdims: bool) -> bool:
    return bool(
        axis == 1 and keepdims and x.ndim == 2 and x.shape[1] < min(_LONG, x.shape[0]) and x.dtype.kind == "f"
    )
