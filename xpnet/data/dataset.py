"""What a data set is to the rest of xpnet, whichever file it came from."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from xpnet.data.columns import Columns

__all__ = ["Dataset", "Scaling"]


class Scaling(NamedTuple):
    """The affine map from values as stored to values as trained on: `(X - shift) * factor`.

    Both are arrays of shape (1,) (one number for all columns: pictures) or (d,) (one per column: tables).
    """

    shift: NDArray[np.float64]
    factor: NDArray[np.float64]

    def __call__(self, X: NDArray[Any], dtype: str = "float32") -> NDArray[Any]:
        """Return X (n, d) scaled, as a new C-ordered array of `dtype`."""
        # Numbers such as 1e9 ± 1 must meet their mean before float32 cuts off what they differ by.
        exact = np.result_type(X.dtype, dtype)
        scaled = X.astype(exact, order="C")
        scaled -= self.shift.astype(exact)
        scaled *= self.factor.astype(exact)
        return scaled.astype(dtype, copy=False)

    def find_problem(self, X: Any, *, xp: Any = np) -> str | None:
        """Return what is wrong with rows of pictures X (n, d) that look scaled to another range, or None."""
        if self.factor.size > 1 or self.shift.any():
            return None
        lowest, highest, trained = float(xp.min(X)), float(xp.max(X)), 1 / float(self.factor[0])
        is_scaled = xp.isdtype(X.dtype, "real floating") and 0 < highest <= 1 < trained
        if not is_scaled and highest <= 2 * trained:
            return None
        return (
            f"expected values from 0 to {trained:g}, as in training, found {lowest:g} to {highest:g}: the "
            "predictions are probably wrong. Give the values as stored, because the model scales them itself"
        )

    def undo(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return values as stored for values X (n, d) as trained on."""
        return X / self.factor + self.shift


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test rows, in host memory.

    Attributes:
        name: what the user asked for, or the stem of their file.
        X_train, X_test: (n, d) values as stored, unscaled (uint8 for pictures).
        y_train, y_test: (n,) int64 class indices 0 ... K-1, or (n, outputs) float64 numeric targets.
        classes: the K class names, or None where the targets are numeric.
        labels: (K,) what the data calls them: int64 where labels and names are whole numbers, else the names.
        picture: (height, width) where each row is a picture in row-major order, else None.
        scaling: maps X to what the network is trained on.
        target_scaling: maps numeric targets to mean 0 and standard deviation 1, None for classes.
        columns: how rows of the user's table become rows of X, None where they are the same.
        notes: what a user should know of how the data was read and encoded, in sentences.
    """

    name: str
    X_train: NDArray[Any]
    y_train: NDArray[Any]
    X_test: NDArray[Any]
    y_test: NDArray[Any]
    classes: tuple[str, ...] | None
    picture: tuple[int, int] | None
    scaling: Scaling
    target_scaling: Scaling | None = None
    labels: NDArray[Any] | None = None
    columns: "Columns | None" = None
    notes: tuple[str, ...] = ()
