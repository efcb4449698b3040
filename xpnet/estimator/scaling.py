"""Scaling of inputs and targets for a model that `xpnet train` trained on scaled data."""

from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse

from xpnet._typing import Array
from xpnet.backends import Backend
from xpnet.data.dataset import Scaling

__all__ = ["Run", "ScaledRows", "unscale"]


class Run(NamedTuple):
    """The additional data of a model loaded from a run of `xpnet train`. See `training.Model`.

    Arrays are on the host. A prediction copies them to the device, in the dtype of its rows.
    """

    scaling: Scaling
    target_scaling: Scaling | None
    picture: tuple[int, int] | None
    columns: dict[str, Any] | None


class ScaledRows:
    """X (n, features) whose rows are scaled when they are indexed. Only the current chunk is copied.

    Attributes:
        dtype: dtype of the parameters, in which integers are scaled.
    """

    def __init__(self, X: Any, scaling: Scaling, dtype: Any, backend: Backend) -> None:
        self.X, self.scaling, self.dtype, self.backend = X, scaling, dtype, backend
        self.shape: tuple[int, int] = X.shape

    def __getitem__(self, index: Any) -> Array:
        rows = self.X[index]
        if issparse(rows):
            rows = rows.toarray()
        if isinstance(rows, np.ndarray):
            return self.scaling(rows, str(self.dtype))
        xp: Any = self.backend.xp
        if not xp.isdtype(rows.dtype, "real floating"):
            rows = xp.astype(rows, self.dtype)
        shift, factor = _place(self.scaling, rows, self.backend)
        scaled: Array = (rows - shift) * factor
        return scaled


def unscale(Y: Any, scaling: Scaling, backend: Backend) -> Any:
    """Convert outputs of the network Y (n, outputs) to unscaled targets, in the dtype of Y."""
    with backend.as_current():
        shift, factor = _place(scaling, Y, backend)
        return Y / factor + shift


def _place(scaling: Scaling, like: Any, backend: Backend) -> list[Any]:
    xp: Any = backend.xp
    return [xp.asarray(array, dtype=like.dtype, device=backend.device) for array in scaling]
