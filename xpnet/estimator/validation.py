"""How good a network is on rows it does not train on, after each epoch."""

import math
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.metrics import check_scoring

from xpnet._typing import Array
from xpnet.backend import Backend, backend_of, library_of, to_host
from xpnet.estimator.objective import forward
from xpnet.mlp import MLP

__all__ = ["Validation", "accuracy", "r2", "rows_of"]


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
            z: Any = forward(mlp, layers, self.X, self.rows, backend=backend)
            Y: Any = self.Y
            n = z.shape[0]
            weight = None if self.weight is None else xp.reshape(self.weight, (-1, 1))
            share = 1.0 / n if weight is None else weight / xp.sum(weight)
            loss = float(mlp.criterion.loss_and_grad(z, self.Y, share, xp=xp)[0])
            if not math.isfinite(float(xp.sum(z))):
                return loss, math.nan
            if estimator.scoring is not None:
                return loss, self._scored_by_scikit_learn(estimator, layers)
            if not mlp.classifies:
                return loss, r2(self.Y, mlp.criterion.predict(z, xp=xp), self.weight, xp=xp)
            if estimator.out_activation_ == "softmax":
                right = xp.argmax(z, axis=1) == Y
            elif estimator.classes_.shape[0] == 1:
                right = xp.all(Y < 0.5, axis=1)  # the answer is always the only class there is
            else:
                right = xp.all((z > 0.0) == (Y > 0.5), axis=1)
            return loss, accuracy(right, self.weight, dtype=z.dtype, xp=xp)

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
