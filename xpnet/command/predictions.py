"""What a trained network predicts for the rows that show how good it is, and how well it knows each class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet._typing import Array
from xpnet.backends import Backend
from xpnet.command.formats import escape, format_percent
from xpnet.data.dataset import Scaling
from xpnet.maths.mlp import MLP
from xpnet.training import predict

__all__ = ["Predictions", "class_scores", "class_table", "predict_rows"]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Rows with what the network predicts for them, on the host.

    Attributes:
        part: the part of the data that they are: "test", "validation" or "train".
        X: (n, inputs) as trained on.
        y: (n,) true class indices, or (n, outputs) targets as stored.
        predicted: (n, classes) probabilities, or (n, outputs) numbers in the units of y.
    """

    part: str
    X: NDArray[Any]
    y: NDArray[Any]
    predicted: NDArray[Any]


def predict_rows(
    mlp: MLP,
    theta: Array,
    part: str,
    rows: tuple[Array, Array],
    target_scaling: Scaling | None,
    *,
    backend: Backend,
) -> Predictions:
    """Predict `rows`, X (n, inputs) and Y (n, outputs) as trained on; undo the scaling of numeric targets."""
    X, Y = rows
    y, predicted = backend.to_numpy(Y), predict(mlp, theta, X, backend=backend)
    if mlp.classifies:
        y = y.argmax(axis=1) if y.shape[1] > 1 else (y[:, 0] > 0.5).astype(np.int64)
    elif target_scaling is not None:
        y, predicted = target_scaling.undo(y), target_scaling.undo(predicted)
    return Predictions(part, backend.to_numpy(X), y, predicted)


def class_scores(y: NDArray[Any], predicted: NDArray[Any], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the precision, recall, F1 and support (number of rows) of each class.

    As scikit-learn's `precision_recall_fscore_support`, whose import alone takes longer than a short run. A
    score that would divide by 0 is None.

    Args:
        y: (n,) true class indices.
        predicted: (n,) predicted class indices.
    """
    K = len(classes)
    support, n_predicted = np.bincount(y, minlength=K), np.bincount(predicted, minlength=K)
    right = np.bincount(y[y == predicted], minlength=K)

    def ratio(parts: int, whole: int) -> float | None:
        return float(parts / whole) if whole else None

    return [
        {
            "class": name,
            "precision": ratio(right[k], n_predicted[k]),
            "recall": ratio(right[k], support[k]),
            "f1": ratio(2 * right[k], support[k] + n_predicted[k]),
            "support": int(support[k]),
        }
        for k, name in enumerate(classes)
    ]


def class_table(part: str, scores: Sequence[dict[str, Any]]) -> str:
    """Return `class_scores` as text, a line per class under a heading that names the part of the data."""
    names = [escape(row["class"]) for row in scores]
    names = [name if len(name) <= 32 else f"{name[:31].rstrip()}…" for name in names]
    wide = max(10, *map(len, names))
    lines = [f"{part:<{wide}}{'precision':>12}{'recall':>12}{'F1':>12}{'support':>12}"]
    for name, row in zip(names, scores, strict=True):
        cells = [*(_percent(row[key]) for key in ("precision", "recall", "f1")), f"{row['support']:,}"]
        lines.append(f"{name:<{wide}}" + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "-" if share is None else format_percent(share)
