"""What a trained network answers, and how good that is. Rows go through in chunks: memory stays small."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet._typing import Array
from xpnet.backends import Backend
from xpnet.data.batches import CHUNK, slices
from xpnet.maths.mlp import MLP

__all__ = ["Evaluation", "evaluate", "predict"]


class Evaluation(NamedTuple):
    """Mean loss over rows, without penalty and label smoothing; score: accuracy, or R² for numbers."""

    loss: float
    score: float


def evaluate(mlp: MLP, theta: Array, X: Array, Y: Array, *, backend: Backend) -> Evaluation:
    """Return mean loss and score over X (n, inputs) and Y (n, outputs), in chunks of 8192 rows.

    The score is the accuracy (of the largest output, or of each output against ½ where there is one); for
    numeric targets R², the mean over outputs of 1 - Σ(y - ŷ)² / Σ(y - ȳ)².
    """
    xp, n, loss = backend.xp, X.shape[0], mlp.criterion
    total: Any = 0.0
    tally: Any = 0.0  # right answers, or squared residuals of each output
    # A network that diverged has a loss of infinity or NaN; NumPy need not warn as well.
    with np.errstate(all="ignore"):
        for chunk in slices(n, CHUNK):
            z, Y_chunk = mlp.forward(theta, X[chunk, ...], xp=xp), Y[chunk, ...]
            total = total + loss.loss_and_grad(z, Y_chunk, 1.0 / n, xp=xp)[0]
            if not loss.classifies:
                residual = loss.predict(z, xp=xp) - Y_chunk
                tally = tally + xp.sum(residual * residual, axis=0)
            else:
                if z.shape[1] == 1:
                    right = (z > 0.0) == (Y_chunk > 0.5)
                else:
                    labels = Y_chunk if Y_chunk.ndim == 1 else xp.argmax(Y_chunk, axis=1)
                    right = xp.argmax(z, axis=1) == labels
                tally = tally + xp.sum(xp.astype(right, z.dtype))
    if loss.classifies:
        return Evaluation(float(total), float(tally) / n)
    centred = Y - xp.sum(Y, axis=0) / n
    spread = backend.to_numpy(xp.sum(centred * centred, axis=0))
    residuals = backend.to_numpy(tally)
    # Where all targets are equal: 1 if met, else 0, as in scikit-learn.
    unexplained = np.where(spread > 0.0, residuals / np.where(spread > 0.0, spread, 1.0), residuals > 0.0)
    return Evaluation(float(total), 1.0 - float(unexplained.mean()))


def predict(mlp: MLP, theta: Array, X: Array, *, backend: Backend) -> NDArray[Any]:
    """Return the answers for X (n, inputs) on the host: class probabilities (n, classes), or numbers (n,
    outputs).

    A single logistic output p answers for two classes: (1 - p, p).
    """
    answers = [
        backend.to_numpy(mlp.predict(theta, X[chunk, ...], xp=backend.xp))
        for chunk in slices(X.shape[0], CHUNK)
    ]
    y = np.concatenate(answers)
    return np.hstack([1.0 - y, y]) if mlp.classifies and y.shape[1] == 1 else y
