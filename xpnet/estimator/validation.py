"""The validation set of a fit, and its evaluation after each epoch."""

import math
from copy import copy
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, cast

from scipy.sparse import issparse
from sklearn.metrics import check_scoring

from xpnet._typing import Array
from xpnet.backends import Backend
from xpnet.estimator.arrays import follow
from xpnet.estimator.inputs import Sample, read_sample
from xpnet.maths.mlp import MLP
from xpnet.training.scores import Evaluation, evaluate

__all__ = ["Validation", "read_held_out", "take_rows"]


@dataclass(frozen=True, eq=False)
class Validation:
    """The validation set of a fit.

    Attributes:
        X: (n, features), or the X of the fit if `rows` selects the validation set from it.
        Y: the targets of the network.
        y: the targets as the user passed them, on `y_home`.
        weight: (n_validation,) sample weights or None.
        rows: index array (n_validation,) into X, or None for all rows.
        backend: the backend of everything except y.
    """

    X: Any
    Y: Array
    y: Any
    weight: Any
    rows: Any
    y_home: Backend
    backend: Backend

    def evaluate(self, estimator: Any, mlp: MLP, theta: Array) -> Evaluation:
        """Return the mean loss, without the penalty, and the score: accuracy, R² or that of `scoring`.

        The score is NaN if the network has diverged.
        """
        found = evaluate(
            mlp,
            theta,
            self.X,
            self.Y,
            self.weight,
            rows=self.rows,
            is_right=partial(_is_right, estimator),
            backend=self.backend,
        )
        if estimator.scoring is None or math.isnan(found.score):
            return found
        return found._replace(score=self._score_with_scikit_learn(estimator, mlp, theta))

    def _score_with_scikit_learn(self, estimator: Any, mlp: MLP, theta: Array) -> float:
        """Return the score that `scoring` gives a copy of the model on the host."""
        model = copy(estimator)
        for name in ("_skl_callbacks", "feature_names_in_"):
            vars(model).pop(name, None)
        layers = mlp.layout.split(theta, xp=self.backend.xp)
        model.coefs_, model.intercepts_ = (list(arrays) for arrays in zip(*layers, strict=True))
        model.to_device("numpy")
        X, y, weight = self._on_host
        options = {} if weight is None else {"sample_weight": weight}
        return float(check_scoring(estimator, estimator.scoring)(model, X, y, **options))

    @cached_property
    def _on_host(self) -> tuple[Any, Any, Any]:
        def fetch(x: Any, home: Backend) -> Any:
            return x if home.name == "numpy" or x is None else home.to_numpy(x)

        X = self.X if self.rows is None else take_rows(self.X, self.rows, self.backend)
        return fetch(X, self.backend), fetch(self.y, self.y_home), fetch(self.weight, self.backend)


def read_held_out(estimator: Any, data: Any, given: Sample) -> Sample:
    """Check `validation_data` and return it on the backend that computes.

    Raises:
        ValueError: as in `fit`; if it is not (X, y) or (X, y, sample_weight); as `follow`; or if only one of
            the two is sparse.
    """
    if not isinstance(data, tuple | list) or len(data) not in (2, 3):
        raise ValueError("validation_data: expected (X, y) or (X, y, sample_weight)")
    X, y, weight = (*data, None)[:3]
    held = read_sample(estimator, X, y, weight, reset=False)
    if issparse(held.X) != issparse(given.X):
        raise ValueError("validation_data: expected X to be sparse if the X of the fit is, else dense")
    source, backend = held.backend, given.backend
    follow(estimator, "validation_data", source, backend)
    X, weight = (None if x is None else backend.bring(x, source) for x in (held.X, held.weight))
    if weight is not None:
        with backend.as_current():
            weight = cast(Any, backend.xp).astype(weight, backend.dtype, copy=False)
    return held._replace(X=X, weight=weight, backend=backend)


def take_rows(x: Any, rows: Any, home: Backend) -> Any:
    """Return the rows of x, a sparse matrix or an array on `home`, that the index array `rows` selects."""
    with home.as_current():
        return x[rows] if home.name == "numpy" else home.xp.take(x, rows, axis=0)


def _is_right(estimator: Any, z: Any, Y: Any, xp: Any) -> Any:
    """Return (n,) whether all predicted labels of each row are correct."""
    if estimator.out_activation_ == "softmax":
        return xp.argmax(z, axis=1) == Y
    if estimator.classes_.shape[0] == 1:
        return xp.all(Y < 0.5, axis=1)  # the prediction is always the only class
    return xp.all((z > 0.0) == (Y > 0.5), axis=1)
