"""Decorators for the methods of an estimator: what holds after an exception."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.backends import Backend, backend_of
from xpnet.errors import OutOfMemoryError
from xpnet.estimator.arrays import find_backend, locate
from xpnet.training.memory import estimate_memory, explain_shortage
from xpnet.training.scores import count_chunk_rows

__all__ = ["refuse_shortage", "restore_on_failure"]


def restore_on_failure(fit: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a fit method to leave the estimator unchanged if it raises an exception."""

    @functools.wraps(fit)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = vars(self).copy()
        try:
            return fit(self, *args, **kwargs)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    return wrapper


def refuse_shortage(method: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a method to raise OutOfMemoryError if the device is out of memory.

    What the method had allocated is free by then. The library's own error is not chained, because its
    traceback would keep the arrays alive.
    """

    @functools.wraps(method)
    def wrapper(self: Any, X: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, X, *args, **kwargs)
        except Exception as error:
            if isinstance(error, OutOfMemoryError) or not Backend.is_out_of_memory(error):
                raise
            reason = f"{type(error).__name__}: {error}"
        # Not in the `except` block, in which the traceback would still be alive.
        raise OutOfMemoryError(_explain(self, X, method.__name__, reason))

    return wrapper


def _explain(estimator: Any, X: Any, method: str, reason: str) -> str:
    n, n_features = X.shape if hasattr(X, "shape") else np.shape(X)
    home = locate(X)
    if method in ("fit", "partial_fit"):
        dtype_name = "float32" if str(getattr(X, "dtype", None)).endswith("float32") else "float64"
        backend = home if estimator.device is None else find_backend(estimator.device, dtype_name)
        hidden = np.atleast_1d(estimator.hidden_layer_sizes).tolist()
        sizes = (n_features, *hidden, getattr(estimator, "n_outputs_", 1))
        rows = backend.chunk_rows if estimator.solver == "lbfgs" else estimator.batch_size
        rows = min(n, 200 if rows == "auto" else rows)
        n_values = n * (sizes[-1] if backend.place == home.place else n_features + sizes[-1])
        needs = estimate_memory(sizes, n_values=n_values, n_moments=2, rows=rows, dtype_name=dtype_name)
        fewer_rows = "fewer rows, or partial_fit with some of them at a time"
        smaller = "fewer hidden units"
        if estimator.solver != "lbfgs" and rows > 1:
            smaller = f"batch_size={max(1, rows // 4)}, or {smaller}"
    else:
        backend = backend_of(estimator.coefs_[0])
        sizes = (n_features, *(b.shape[0] for b in estimator.intercepts_))
        rows = min(n, count_chunk_rows(sizes, backend))
        needs = estimate_memory(
            sizes, n_values=n * sizes[-1], n_moments=0, rows=rows, dtype_name=backend.dtype_name
        )._replace(parameters=0)  # they are there already
        fewer_rows = smaller = "fewer rows at a time"
    free = backend.count_free_bytes()
    remedies = {"fewer_rows": fewer_rows, "smaller": smaller}
    return explain_shortage(method, needs, free, backend=backend, reason=reason, **remedies)
