"""How good a network is on rows it does not train on, after each epoch."""

import math
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.metrics import check_scoring
from sklearn.model_selection import train_test_split

from xpnet._typing import Array
from xpnet.backends import Backend, backend_of, library_of, to_host
from xpnet.estimator.inputs import Given, in_words, read
from xpnet.estimator.objective import forward
from xpnet.maths.mlp import MLP

__all__ = ["Validation", "accuracy", "r2", "read_held_out", "rows_of", "split"]


@dataclass(frozen=True, eq=False)
class Validation:
    """The validation set of a fit.

    Attributes:
        X: (n, features), or the whole X of the fit if `rows` picks from it.
        Y: the network's targets for the rows of the validation set.
        y: the user's targets for them.
        weight: (n_validation,) sample weights or None.
        rows: index array (n_validation,) into X, or None.
    """

    X: Any
    Y: Array
    y: Any
    weight: Any
    rows: Any

    def loss_and_score(
        self, estimator: Any, mlp: MLP, theta: Array, *, backend: Backend
    ) -> tuple[float, float]:
        """Return the mean loss without penalty, and the accuracy, R², or what `scoring` says.

        Both are NaN for a network that has diverged.
        """
        xp: Any = backend.xp
        with np.errstate(all="ignore"):
            layers = mlp.layout.split(theta, xp=xp)
            weight: Any = None if self.weight is None else xp.reshape(self.weight, (-1, 1))
            share: Any = 1.0 / self.Y.shape[0] if weight is None else weight / xp.sum(weight)
            total: Any = 0.0
            sum_of_z: Any = 0.0
            answers = []
            predict = mlp.criterion.predict
            for chunk, z in forward(mlp, layers, self.X, self.rows, backend=backend):
                Y: Any = self.Y[chunk, ...]
                part = share if weight is None else share[chunk, ...]
                total = total + mlp.criterion.loss_and_grad(z, Y, part, xp=xp)[0]
                sum_of_z = sum_of_z + xp.sum(z)
                answers.append(_right(estimator, z, Y, xp) if mlp.classifies else predict(z, xp=xp))
            if not math.isfinite(float(sum_of_z)):
                return float(total), math.nan
            if estimator.scoring is not None:
                return float(total), self._scored_by_scikit_learn(estimator, layers)
            answer = xp.concat(answers)
            if not mlp.classifies:
                return float(total), r2(self.Y, answer, self.weight, xp=xp)
            return float(total), accuracy(answer, self.weight, dtype=backend.dtype, xp=xp)

    def _scored_by_scikit_learn(self, estimator: Any, layers: list[tuple[Array, Array]]) -> float:
        """Return the score of a copy of the model on the host, where scikit-learn's metrics compute."""
        model = copy(estimator)
        for name in ("_skl_callbacks", "feature_names_in_"):
            vars(model).pop(name, None)
        model.coefs_, model.intercepts_ = (list(arrays) for arrays in zip(*layers, strict=True))
        model.to_device("numpy")
        X, y, weight = self._on_host
        options = {} if weight is None else {"sample_weight": weight}
        return float(check_scoring(estimator, estimator.scoring)(model, X, y, **options))

    @cached_property
    def _on_host(self) -> tuple[Any, Any, Any]:
        X = self.X if self.rows is None else rows_of(self.X, self.rows)
        return to_host(X), to_host(self.y), to_host(self.weight)


def split(estimator: Any, n: int, strata: NDArray[Any] | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw, as scikit-learn does, which of n rows to train on and which to hold out.

    Args:
        strata: (n,) class indices of which each gives its share, or (n, 1) for two classes; None: any rows.

    Raises:
        ValueError: of two classes one has too few rows, or no row would be left.
    """
    options = {"random_state": estimator._random_state, "test_size": estimator.validation_fraction}
    rows = np.arange(n)
    if strata is None or strata.ndim == 2:
        return tuple(train_test_split(rows, stratify=strata, **options))
    # scikit-learn does not stratify several classes, so classes too small for that must be no error here: a
    # row that is the only one of its class is trained on.
    alone = (np.bincount(strata) == 1)[strata]
    alone = alone & ~alone.all()
    try:
        kept, held = train_test_split(rows[~alone], stratify=strata[~alone], **options)
    except ValueError:
        kept, held = train_test_split(rows[~alone], **options)
    return np.concatenate([kept, rows[alone]]), held


def read_held_out(estimator: Any, data: Any, given: Given) -> Given:
    """Check `validation_data` and return it where the network computes.

    Raises:
        ValueError: not (X, y) or (X, y, sample_weight); what `fit` does not take; elsewhere than the data of
            the fit; sparse where that is dense, or dense where it is sparse.
    """
    if not isinstance(data, tuple | list) or len(data) not in (2, 3):
        raise ValueError("validation_data: expected (X, y) or (X, y, sample_weight)")
    X, y, weight = (*data, None)[:3]
    held = read(estimator, X, y, weight, reset=False)
    if held.backend.place != given.backend.place:
        raise ValueError(
            f"validation_data is {in_words(held.backend.place)}, the data to train on "
            f"{in_words(given.backend.place)}: expected both in one place"
        )
    if issparse(held.X) != issparse(given.X):
        raise ValueError("validation_data: expected a sparse X if that of the fit is, and only then")
    return held


def _right(estimator: Any, z: Any, Y: Any, xp: Any) -> Any:
    """Return for each row (n,) whether the network's answer is the label."""
    if estimator.out_activation_ == "softmax":
        return xp.argmax(z, axis=1) == Y
    if estimator.classes_.shape[0] == 1:
        return xp.all(Y < 0.5, axis=1)  # the answer is always the only class there is
    return xp.all((z > 0.0) == (Y > 0.5), axis=1)


def rows_of(x: Any, rows: Any) -> Any:
    """Return the rows of a sparse matrix or an array of any library that an index array there names."""
    if issparse(x) or library_of(x) == "numpy":
        return x[rows]
    return backend_of(x).xp.take(x, rows, axis=0)


def accuracy(right: Any, weight: Any, *, dtype: Any, xp: Any) -> float:
    """Return the (weighted) share of true entries of `right` (n,)."""
    right = xp.astype(right, dtype)
    if weight is None:
        return float(xp.sum(right)) / int(right.shape[0])
    return float(xp.sum(right * weight)) / float(xp.sum(weight))


def r2(Y: Any, predicted: Any, weight: Any, *, xp: Any) -> float:
    """Return R², the mean over outputs of 1 - Σ(y - ŷ)² / Σ(y - ȳ)², for (n, outputs).

    Where all targets of an output are equal: 1 if met, else 0, as in scikit-learn.
    """
    w = xp.ones_like(Y[:, :1]) if weight is None else xp.reshape(weight, (-1, 1))
    centred = Y - xp.sum(w * Y, axis=0) / xp.sum(w)
    residual = Y - predicted
    spread = xp.sum(w * centred * centred, axis=0)
    missed = xp.sum(w * residual * residual, axis=0)
    constant = spread == 0.0
    unexplained = xp.where(
        constant, xp.astype(missed > 0.0, Y.dtype), missed / xp.where(constant, 1.0, spread)
    )
    return 1.0 - float(xp.mean(unexplained))
