"""Conversion of class labels to targets of the network and back, on the device of the labels."""

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, issparse
from sklearn.exceptions import DataConversionWarning
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import unique_labels

from xpnet._typing import Array
from xpnet.backends import Backend, backend_of
from xpnet.estimator.arrays import is_on_host, is_text, send

__all__ = ["KINDS", "MULTILABEL", "Labels", "flatten"]

MULTILABEL = "multilabel-indicator"
KINDS = ("binary", "multiclass", MULTILABEL)


@dataclass(frozen=True, eq=False)
class Labels:
    """The classes of a target.

    Attributes:
        kind: "binary", "multiclass" or "multilabel-indicator" (a matrix of 0 and 1), as in scikit-learn.
        classes: (n_classes,) in ascending order, an array of any library.
        is_sparse: whether a multi-label target was a sparse matrix. Predictions are then sparse, too.
    """

    kind: str
    classes: Any
    is_sparse: bool = False

    @property
    def n_outputs(self) -> int:
        """Number of outputs of the network: one output for two classes."""
        return 1 if self.kind == "binary" else self.classes.shape[0]

    def list_classes(self) -> list[Any]:
        """Return the classes as a list on the host."""
        return list(backend_of(self.classes).to_numpy(self.classes).tolist())

    def find_indices(self, y: Any, home: Backend) -> Any:
        """Return the index (n,) of each label among the classes, on `home`, the backend of y."""
        classes = self._bring_classes(home)
        if home.name == "numpy":
            return np.searchsorted(classes, y)
        if classes.dtype != y.dtype:  # NumPy compares them exactly
            return home.asarray(np.searchsorted(home.to_numpy(classes), home.to_numpy(y)))
        xp: Any = home.xp
        with home.as_current():
            # PyTorch warns of a y with gaps. A copy has none.
            y = xp.asarray(_make_searchable(y, xp), copy=True)
            return xp.searchsorted(_make_searchable(classes, xp), y)

    def make_targets(self, y: Any, home: Backend, backend: Backend) -> Array:
        """Return the targets of the network on `backend`, for labels y on `home`.

        They are (n, n_outputs) of 0 and 1, or class indices (n,) for more than two classes. One-hot rows
        would take more memory than an X with few features.
        """
        xp: Any = home.xp
        if self.kind == MULTILABEL:
            dense = y.toarray() if issparse(y) else y
            with home.as_current():
                Y = xp.astype(dense, getattr(xp, backend.dtype_name))
            return backend.bring(Y, home)
        Y = backend.bring(self.find_indices(y, home), home)
        if self.kind == "binary":
            xp = backend.xp
            with backend.as_current():
                Y = xp.astype(xp.reshape(Y, (-1, 1)), backend.dtype)
        return Y  # type: ignore[no-any-return]

    def choose_classes(self, z: Any, xp: Any) -> Array:
        """Return the indices (n,) of the most probable classes, or a matrix (n, n_outputs) of 0 and 1."""
        if self.kind == MULTILABEL:
            integer = xp.__array_namespace_info__().default_dtypes()["integral"]
            chosen = xp.astype(z > 0.0, integer)
        elif z.shape[1] == 1:
            chosen = xp.astype(xp.reshape(z > 0.0, (-1,)), xp.int32) * (self.classes.shape[0] - 1)
        else:
            chosen = xp.argmax(z, axis=1)
        return chosen  # type: ignore[no-any-return]

    def name_classes(self, chosen: Any, home: Backend) -> Any:
        """Return the labels for the result of `choose_classes`, on `home`."""
        if self.kind == MULTILABEL:
            return csr_matrix(chosen) if self.is_sparse else chosen
        if is_on_host(self.classes) and is_text(self.classes):
            return self.classes[home.to_numpy(chosen)]
        with home.as_current():
            return home.xp.take(self._bring_classes(home), chosen, axis=0)

    def _bring_classes(self, home: Backend) -> Any:
        """Return the classes on `home`. Later calls return the same array."""
        if home.place not in self._copies:
            source = backend_of(self.classes)
            is_there = source.place == home.place
            self._copies[home.place] = (
                self.classes
                if is_there
                else send("classes_", source.to_numpy(self.classes), home, are_labels=True)
            )
        return self._copies[home.place]

    @cached_property
    def _copies(self) -> dict[tuple[str, str], Any]:
        return {}

    @classmethod
    def of(cls, y: Any, home: Backend) -> "Labels":
        """Return the labels of a target on `home`. Raise scikit-learn's ValueError if it has none."""
        if home.name != "numpy":
            xp: Any = home.xp
            with home.as_current():
                is_floating = xp.isdtype(y.dtype, "real floating")
                if y.ndim == 1 and not (is_floating and bool(xp.any(y != xp.round(y)))):
                    classes = xp.unique_values(y)
                    return cls("binary" if classes.shape[0] <= 2 else "multiclass", classes)
                if y.ndim == 2 and (xp.isdtype(y.dtype, "bool") or not bool(xp.any((y != 0) & (y != 1)))):
                    return cls(MULTILABEL, xp.arange(y.shape[1], device=home.device))
            y = home.to_numpy(y)
        binarizer = LabelBinarizer().fit(y)
        return cls(binarizer.y_type_, binarizer.classes_, binarizer.sparse_input_)

    def compare(self, y: Any, home: Backend) -> tuple[list[Any], set[Any], set[Any]]:
        """Return the classes in y, those of them that are unknown, and the known ones that y lacks."""
        if home.name == "numpy" and self.kind != MULTILABEL:
            found = Labels(self.kind, unique_labels(y))
        elif self.kind == MULTILABEL or y.ndim == 2:
            found = Labels.of(y, home)
        else:
            xp: Any = home.xp
            with home.as_current():
                found = Labels(self.kind, xp.unique_values(y))
        there, known = found.list_classes(), self.list_classes()
        return there, set(there) - set(known), set(known) - set(there)

    def check_shape(self, y: Any) -> None:
        """Raise ValueError unless y is (n,), or (n, n_labels) of 0 and 1 for several labels."""
        if self.kind != MULTILABEL and y.ndim != 1:
            raise ValueError("The object was not fitted with multilabel input.")
        if self.kind == MULTILABEL and y.ndim != 2:
            raise ValueError(
                f"expected y of shape (n, {self.n_outputs}), with a column for each label, got "
                f"{tuple(y.shape)}"
            )
        if self.kind == MULTILABEL and y.shape[1] != self.n_outputs:
            raise ValueError(
                f"classes {np.arange(self.n_outputs)} mismatch with the labels {np.arange(y.shape[1])} found "
                "in the data"
            )


def _make_searchable(x: Any, xp: Any) -> Any:
    """Return x in a dtype that has an order: booleans as 0 and 1."""
    return xp.astype(x, xp.uint8) if xp.isdtype(x.dtype, "bool") else x


def flatten(y: Any, home: Backend) -> Any:
    """Return y as 1-D if it has a single column, with scikit-learn's warning."""
    if y.ndim != 2 or y.shape[1] != 1:
        return y
    if home.name == "numpy":
        return column_or_1d(y, warn=True)
    warnings.warn(
        "A column-vector y was passed when a 1d array was expected. Please change the shape of y to "
        "(n_samples, ), for example using ravel().",
        DataConversionWarning,
        stacklevel=2,
    )
    return home.xp.reshape(y, (-1,))
