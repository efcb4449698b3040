"""Prediction and evaluation, in chunks of rows to limit the memory."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet._typing import Array
from xpnet.backends import Backend
from xpnet.data.batches import make_slices
from xpnet.errors import InputError
from xpnet.maths.mlp import MLP

__all__ = [
    "Evaluation",
    "PlacedRows",
    "accuracy",
    "count_chunk_rows",
    "evaluate",
    "forward_in_chunks",
    "predict",
    "r2",
]

# Maximum number of elements of a layer's output, or of X, in a chunk: 8 MB in float32.
_CHUNK_ELEMENTS = 2**21


class Evaluation(NamedTuple):
    """The mean loss, without penalty and label smoothing, and the score: accuracy, or R² for regression."""

    loss: float
    score: float


class PlacedRows:
    """X (n, inputs) on `home` whose rows are copied to `backend` when they are indexed.

    So only the current chunk is on the device.
    """

    def __init__(self, X: Any, home: Backend, backend: Backend) -> None:
        self.X, self.home, self.backend = X, home, backend
        self.shape: tuple[int, int] = X.shape

    def __getitem__(self, index: Any) -> Array:
        return self.backend.bring(self.X[index], self.home)


def count_chunk_rows(sizes: Sequence[int], backend: Backend) -> int:
    """Return the maximum number of rows in a chunk, for a network with layers of `sizes` units."""
    return max(1, min(backend.chunk_rows, _CHUNK_ELEMENTS // max(sizes)))


def forward_in_chunks(
    mlp: MLP,
    layers: list[tuple[Array, Array]],
    X: Any,
    *,
    rows: Array | None = None,
    backend: Backend,
) -> Iterator[tuple[slice, Array]]:
    """Yield (slice, z) for each chunk of rows, where z is the output of the last layer.

    Iterate in the context `backend.as_current()`.

    Args:
        layers: (W, b) of every layer.
        X: (n, inputs). Each chunk is cast to the dtype of the parameters.
        rows: index array of the rows of X to use, or None for all rows.
    """
    xp: Any = backend.xp
    dtype = layers[0][0].dtype

    # A function, so that its rows are freed before the next ones are there.
    def forward(chunk: slice) -> Array:
        part = X[chunk, ...] if rows is None else xp.take(X, rows[chunk], axis=0)
        if part.dtype != dtype:
            part = xp.astype(part, dtype)
        return mlp.forward_layers(layers, part, xp=xp)[-1]

    n = X.shape[0] if rows is None else rows.shape[0]
    for chunk in make_slices(n, count_chunk_rows(mlp.sizes, backend)):
        yield chunk, forward(chunk)


def evaluate(
    mlp: MLP,
    theta: Array,
    X: Any,
    Y: Array,
    weight: Array | None = None,
    *,
    rows: Array | None = None,
    is_right: Callable[[Array, Array, Any], Array] | None = None,
    backend: Backend,
) -> Evaluation:
    """Return the mean loss and the score, computed in chunks of at most `backend.chunk_rows` rows.

    The score is the accuracy for classification and R² for regression. The predicted class is that of the
    largest output; a single output predicts class 1 if its probability is above ½. The score is NaN if an
    output of the network is not finite.

    Args:
        X: (n, inputs).
        Y: (n, outputs), or (n,) class indices.
        weight: (n,) sample weights for loss and score, or None.
        rows: index array (n,) of the rows of X that Y belongs to, or None for all rows.
        is_right: a function (z, Y, xp) that returns (n,) whether each prediction is correct, to replace the
            rule above.

    Raises:
        InputError: if there are no rows.
    """
    xp: Any = backend.xp
    criterion, n = mlp.criterion, Y.shape[0]
    _check_rows(n)
    loss: Any = 0.0
    total_z: Any = 0.0
    tally: Any = 0.0  # total weight of the correct rows, or the squared residuals of each output
    # A network that diverged has a loss of infinity or NaN; NumPy need not warn as well.
    with backend.as_current(), np.errstate(all="ignore"):
        column: Any = None if weight is None else xp.reshape(weight, (-1, 1))
        total_weight: Any = n if weight is None else xp.sum(weight)
        layers = mlp.layout.split(theta, xp=xp)
        for chunk, z in forward_in_chunks(mlp, layers, X, rows=rows, backend=backend):
            Y_chunk: Any = Y[chunk, ...]
            w: Any = 1.0 if column is None else column[chunk, ...]
            loss = loss + criterion.loss_and_grad(z, Y_chunk, w / total_weight, xp=xp)[0]
            total_z = total_z + xp.sum(z)
            if mlp.classifies:
                right = xp.astype((is_right or _is_right)(z, Y_chunk, xp), z.dtype)
                tally = tally + xp.sum(xp.reshape(right, (-1, 1)) * w)
            else:
                residual = criterion.predict(z, xp=xp) - Y_chunk
                tally = tally + xp.sum(w * residual * residual, axis=0)
        if not mlp.classifies:
            tally = _sum_unexplained(tally, Y, column, xp)
        # One array, because each read waits for the device.
        numbers = [loss, total_z, tally] if weight is None else [loss, total_z, tally, total_weight]
        read = backend.to_numpy(xp.concat([xp.reshape(number, (1,)) for number in numbers]))
        loss, total_z, tally, *weights = map(float, read)
    if not math.isfinite(total_z):
        return Evaluation(loss, math.nan)
    return Evaluation(loss, tally / (weights or [n])[0] if mlp.classifies else 1.0 - tally / Y.shape[1])


def predict(mlp: MLP, theta: Array, X: Any, *, backend: Backend) -> NDArray[Any]:
    """Return the predictions for X (n, inputs) or `PlacedRows`, on the host.

    They are class probabilities (n, classes), or numbers (n, outputs) for regression. A single logistic
    output p gives the probabilities (1 - p, p) of two classes.

    Raises:
        InputError: if there are no rows.
    """
    _check_rows(X.shape[0])
    # Parameters near the largest number overflow. The caller sees it, and NumPy need not warn as well.
    with backend.as_current(), np.errstate(all="ignore"):
        layers = mlp.layout.split(theta, xp=backend.xp)
        y = np.concatenate(
            [
                backend.to_numpy(mlp.criterion.predict(z, xp=backend.xp))
                for _, z in forward_in_chunks(mlp, layers, X, backend=backend)
            ]
        )
    return np.hstack([1.0 - y, y]) if mlp.classifies and y.shape[1] == 1 else y


def _check_rows(n: int) -> None:
    if n == 0:
        raise InputError("X: expected at least 1 row, got 0")


def accuracy(right: Any, weight: Any, *, dtype: Any, xp: Any) -> float:
    """Return the (weighted) fraction of true entries of `right` (n,)."""
    right = xp.astype(right, dtype)
    if weight is None:
        return float(xp.sum(right)) / int(right.shape[0])
    return float(xp.sum(right * weight)) / float(xp.sum(weight))


def r2(Y: Any, predicted: Any, weight: Any, *, xp: Any) -> float:
    """Return R², the mean over the outputs of 1 - Σ(y - ŷ)² / Σ(y - ȳ)².

    An output whose targets are all equal counts as 1 if predicted exactly, else as 0, as in scikit-learn.

    Args:
        Y: (n, outputs) targets.
        predicted: (n, outputs).
        weight: (n,) sample weights or None.
    """
    column: Any = None if weight is None else xp.reshape(weight, (-1, 1))
    residual = Y - predicted
    w = 1.0 if column is None else column
    unexplained = _sum_unexplained(xp.sum(w * residual * residual, axis=0), Y, column, xp)
    return 1.0 - float(unexplained) / int(Y.shape[1])


def _sum_unexplained(residuals: Any, Y: Any, weight: Any, xp: Any) -> Any:
    """Return Σ (1 - R²) over the outputs, 0-d.

    Args:
        residuals: (outputs,) the weighted sums of squared residuals.
        weight: (n, 1) or None.
    """
    w = 1.0 if weight is None else weight
    total = Y.shape[0] if weight is None else xp.sum(weight)
    centred = Y - xp.sum(w * Y, axis=0) / total
    spread = xp.sum(w * centred * centred, axis=0)
    is_constant = spread == 0.0
    unexplained = xp.where(
        is_constant, xp.astype(residuals > 0.0, Y.dtype), residuals / xp.where(is_constant, 1.0, spread)
    )
    return xp.sum(unexplained)


def _is_right(z: Any, Y: Any, xp: Any) -> Array:
    if z.shape[1] == 1:
        return xp.reshape((z > 0.0) == (Y > 0.5), (-1,))  # type: ignore[no-any-return]
    labels = Y if Y.ndim == 1 else xp.argmax(Y, axis=1)
    return xp.argmax(z, axis=1) == labels  # type: ignore[no-any-return]
