"""Class labels: from what the user calls them to targets of the network, and back, where they lie."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, issparse
from sklearn.exceptions import DataConversionWarning
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import unique_labels

from xpnet._typing import Array
from xpnet.backends import Backend, backend_of, to_host
from xpnet.estimator.inputs import is_text, on_host

__all__ = ["MULTILABEL", "Labels", "flat", "listed"]

MULTILABEL = "multilabel-indicator"


@dataclass(frozen=True, eq=False)
class Labels:
    """The classes of a target.

    Attributes:
        kind: "binary", "multiclass" or "multilabel-indicator" (a matrix of 0 and 1), as scikit-learn says it.
        classes: (n_classes,) in ascending order.
        sparse: whether a multi-label target came as a sparse matrix, and is to go back as one.
    """

    kind: str
    classes: Any
    sparse: bool = False

    @property
    def n_outputs(self) -> int:
        """Number of outputs of the network: one for two classes."""
        return 1 if self.kind == "binary" else self.classes.shape[0]

    def indices(self, y: Any) -> Any:
        """Return the number of each label among the classes, (n,), where y lies. All must be among them."""
        if on_host(y):
            return np.searchsorted(to_host(self.classes), y)
        backend = backend_of(y)
        xp: Any = backend.xp
        return xp.searchsorted(_ordered(backend.move(self.classes), xp), _ordered(y, xp))

    def targets(self, y: Any, backend: Backend) -> Array:
        """Return the network's targets: (n, n_outputs) of 0 and 1, or class indices (n,) for several classes.

        One-hot rows would outweigh an X of few features.
        """
        if self.kind == MULTILABEL:
            y = y.toarray() if issparse(y) else y
            return backend.xp.astype(backend.move(y), backend.dtype)
        indices = backend.move(self.indices(y))
        xp: Any = backend.xp
        if self.kind == "binary":
            indices = xp.astype(xp.reshape(indices, (-1, 1)), backend.dtype)
        return indices

    def likeliest(self, z: Any, xp: Any) -> Array:
        """Return the number of the likeliest class (n,), or the matrix (n, n_outputs) of 0 and 1, for z."""
        if self.kind == MULTILABEL:
            likely = xp.astype(z > 0.0, xp.asarray(1).dtype)
        elif z.shape[1] == 1:
            likely = xp.astype(xp.reshape(z > 0.0, (-1,)), xp.asarray(1).dtype) * (self.classes.shape[0] - 1)
        else:
            likely = xp.argmax(z, axis=1)
        return likely  # type: ignore[no-any-return]

    def names(self, likely: Any, home: Backend) -> Any:
        """Return what the user calls the likeliest classes, on `home`."""
        if self.kind == MULTILABEL:
            return csr_matrix(likely) if self.sparse else likely
        if on_host(self.classes) and is_text(self.classes):
            return self.classes[to_host(likely)]
        return home.xp.take(home.move(self.classes), likely, axis=0)

    @classmethod
    def of(cls, y: Any) -> "Labels":
        """Return the labels of a target. Raises scikit-learn's ValueError if it is not one of classes."""
        if not on_host(y):
            xp: Any = backend_of(y).xp
            if y.ndim == 1 and not (xp.isdtype(y.dtype, "real floating") and bool(xp.any(y != xp.round(y)))):
                classes = xp.unique_values(y)
                return cls("binary" if classes.shape[0] <= 2 else "multiclass", classes)
            if y.ndim == 2 and (xp.isdtype(y.dtype, "bool") or not bool(xp.any((y != 0) & (y != 1)))):
                return cls(MULTILABEL, xp.arange(y.shape[1], device=backend_of(y).device))
        binarizer = LabelBinarizer().fit(to_host(y))
        return cls(binarizer.y_type_, binarizer.classes_, binarizer.sparse_input_)

    def compare(self, y: Any) -> tuple[list[Any], set[Any], set[Any]]:
        """Return the classes in y; those of them that are not known; and the known ones that y lacks."""
        there = listed(Labels.of(y).classes if self.kind == MULTILABEL else _distinct(y))
        known = listed(self.classes)
        return there, set(there) - set(known), set(known) - set(there)


def listed(classes: Any) -> list[Any]:
    """Return class labels as a list on the host."""
    return list(to_host(classes).tolist())


def _distinct(y: Any) -> Any:
    return unique_labels(y) if on_host(y) else backend_of(y).xp.unique_values(y)  # type: ignore[attr-defined]


def _ordered(x: Any, xp: Any) -> Any:
    """Return x as something that can be searched: truth values as 0 and 1."""
    return xp.astype(x, xp.uint8) if xp.isdtype(x.dtype, "bool") else x


def flat(y: Any) -> Any:
    """Return y without the second dimension of a single column, with scikit-learn's warning."""
    if y.ndim != 2 or y.shape[1] != 1:
        return y
    if on_host(y):
        return column_or_1d(y, warn=True)
    warnings.warn(
        "A column-vector y was passed when a 1d array was expected. Please change the shape of y to "
        "(n_samples, ), for example using ravel().",
        DataConversionWarning,
        stacklevel=2,
    )
    return backend_of(y).xp.reshape(y, (-1,))
