"""Small data, which the tests lend to every place, and what they ask of the answers."""

import copy
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import array_api_compat
import numpy as np
import pytest

from xpnet import MLPClassifier, MLPRegressor, resolve
from xpnet.backends import to_host

REPOSITORY = Path(__file__).parents[2]

rng = np.random.default_rng(0)
X = rng.standard_normal((60, 4))
WEIGHT = rng.uniform(0.5, 2.0, 60)
BINARY = (X[:, 0] * X[:, 1] > 0).astype(np.int64)
CLASSES = np.argmax(X[:, :3], axis=1) + 2  # 2, 3, 4
NAMES = np.array(["", "", "no", "yes", "maybe"])[CLASSES]
LABELS = (X[:, :3] > 0.3).astype(np.int64)
TARGET = X[:, 0] * X[:, 1] + 0.1
TARGETS = X[:, :2] ** 2

SMALL = {"hidden_layer_sizes": (5,), "max_iter": 3, "batch_size": 30, "random_state": 0}
classifier, regressor = partial(MLPClassifier, **SMALL), partial(MLPRegressor, **SMALL)


def close(backend, expected):
    """What equals `expected` up to the rounding of the place."""
    rel, tiny = (1e-8, 1e-10) if backend.dtype_name == "float64" else (1e-3, 1e-4)
    return pytest.approx(expected, rel=rel, abs=tiny)


def lives(backend, array, dtype=None):
    """Whether this is an array of the place's library, on its device, in its dtype."""
    model = backend.asarray(np.zeros(1))
    known = type(model), array_api_compat.device(model), model.dtype if dtype is None else dtype
    return (type(array), array_api_compat.device(array), array.dtype) == known


def bits(backend, array):
    return backend.to_numpy(array).tobytes()


def name_of(backend):
    """The place as `device=` and `to_device` take it."""
    return f"{backend.name}:{backend.device_name}"


def fresh(estimator, **parameters):
    return copy.deepcopy(estimator).set_params(**parameters)


def parameters(estimator):
    return [*estimator.coefs_, *estimator.intercepts_]


def same(backend, answers, expected):
    """Whether predictions are the same labels, or the same numbers up to the rounding of the place."""
    answers = to_host(answers)
    if expected.dtype.kind == "f":
        return answers == close(backend, expected)
    return answers.tolist() == expected.tolist()


def elsewhere(backend):
    """A place on another device, from which nothing may be moved."""
    if backend.is_in_host_memory:
        return resolve("device1", "array_api_strict", backend.dtype_name)
    return resolve("cpu", "numpy", backend.dtype_name)


def python(code, *arguments, **environment):
    """Run code in a Python of its own and return what it writes to stdout, read as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
