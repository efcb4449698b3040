"""The data of a run: its parts on the device, and the network that fits them."""

import hashlib
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet._typing import Array
from xpnet.backends import Backend, resolve
from xpnet.command.options import Options
from xpnet.data.batches import hold_out, one_hot
from xpnet.data.dataset import Dataset, Scaling
from xpnet.errors import BackendError, InputError
from xpnet.maths.mlp import MLP

__all__ = ["Parts", "hash_data", "hold_out_rows", "make_network", "place_data", "resolve_usable"]


@dataclass(frozen=True, eq=False)
class Parts:
    """The rows of a data set on the device, scaled: each a pair X (n, d), Y (n, outputs), or None.

    `target_scaling` is the scaling of numeric targets, None if they are not scaled.
    """

    train: tuple[Array, Array]
    validation: tuple[Array, Array] | None
    test: tuple[Array, Array] | None
    target_scaling: Scaling | None

    @property
    def sample(self) -> tuple[Array, Array]:
        """At most 10,000 training rows, evenly spaced: enough to see the training score of each epoch."""
        X, Y = self.train
        every = slice(None, None, -(-X.shape[0] // 10_000))
        return X[every, ...], Y[every, ...]


def resolve_usable(device: str, backend: str | None, dtype: str) -> Backend:
    """Return the backend for a device, as `resolve`, if the device returns the values it is given.

    Raises:
        InputError, BackendError: as `resolve`.
        BackendError: the library knows the device, but cannot compute on it.
    """
    resolved = resolve(device, backend, dtype)
    try:
        resolved.to_numpy(resolved.asarray(np.zeros(1)))
    except Exception as error:  # each library raises other exceptions
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise BackendError(f"device {device!r} is not usable by {resolved.name}: {reason}") from None
    return resolved


def make_network(options: Options, dataset: Dataset) -> MLP:
    """Return the network that the options describe, with the inputs and outputs of the data."""
    if dataset.classes is None:
        n_outputs = dataset.y_train.shape[1]
    else:
        n_outputs = len(dataset.classes)
        if options.loss == "logistic_cross_entropy" and n_outputs == 2:
            n_outputs = 1
    if options.loss == "poisson" and min(dataset.y_train.min(), dataset.y_test.min(initial=0)) < 0:
        raise InputError(
            "--loss poisson: expected targets of at least 0, found a negative one. Try --loss squared_error"
        )
    mlp = MLP(
        (dataset.X_train.shape[1], *options.hidden, n_outputs),
        options.activations,
        options.loss,
        l2=options.l2,
        label_smoothing=options.label_smoothing,
    )
    if mlp.layout.n_parameters > sys.maxsize // 8:
        raise InputError("--hidden: a network of these sizes has more parameters than any memory holds")
    return mlp


def hold_out_rows(dataset: Dataset, options: Options) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of the training rows to train on, and of those held out for validation."""
    if options.validation:
        return hold_out(dataset.y_train, options.validation, seed=options.seed)
    return np.arange(len(dataset.y_train)), np.arange(0)


def place_data(
    dataset: Dataset, kept: NDArray[np.int64], held: NDArray[np.int64], mlp: MLP, backend: Backend
) -> Parts:
    """Return the data scaled, in the dtype and on the device of the backend.

    Args:
        kept, held: from `hold_out_rows`.
    """
    # The outputs start near 0 and change slowly: targets in the thousands would never be reached.
    target_scaling = dataset.target_scaling if not mlp.classifies and mlp.loss != "poisson" else None

    def on_device(X: NDArray[Any], y: NDArray[Any]) -> tuple[Array, Array]:
        if mlp.classifies:
            y = one_hot(y, mlp.sizes[-1])
        elif target_scaling is not None:
            y = target_scaling(y, backend.dtype_name)
        return backend.asarray(dataset.scaling(X, backend.dtype_name)), backend.asarray(y)

    X, y = dataset.X_train, dataset.y_train
    return Parts(
        on_device(X[kept], y[kept]),
        on_device(X[held], y[held]) if held.size else None,
        on_device(dataset.X_test, dataset.y_test) if dataset.y_test.size else None,
        target_scaling,
    )


def hash_data(dataset: Dataset) -> str:
    """Return the SHA-256 of the arrays, which tells whether a resumed run has the data it began with."""
    digest = hashlib.sha256()
    for array in (dataset.X_train, dataset.y_train, dataset.X_test, dataset.y_test):
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
