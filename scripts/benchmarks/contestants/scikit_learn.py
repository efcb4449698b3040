"""scikit-learn's MLPClassifier, and xpnet's where it is used in the same way."""

import math
import warnings

import numpy as np

from benchmarks.contestants.task import BETAS, EPSILON, split
from xpnet import resolve


class ScikitLearn:
    """scikit-learn's MLPClassifier on a task: `partial_fit`, called once per epoch."""

    def __init__(self, task):
        from sklearn.neural_network import MLPClassifier

        self.X, self.y = task.X, task.y
        self.model = model = MLPClassifier(
            task.sizes[1:-1],
            alpha=0.0,
            batch_size=task.batch,
            learning_rate_init=task.lr,
            random_state=InOrder(task.order),
            beta_1=BETAS[0],
            beta_2=BETAS[1],
            epsilon=EPSILON,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.partial_fit(self.X, self.y, classes=np.arange(task.sizes[-1]))
        weights, biases = split(task.theta, task.sizes)
        model.coefs_ = [W.copy() for W in weights]
        model.intercepts_ = [b.copy() for b in biases]
        model.t_, model.loss_curve_ = 0, []
        del model._optimizer  # its moments come from the epoch above

    def epoch(self):
        self.model.partial_fit(self.X, self.y)
        return self.model.loss_

    def theta(self):
        return np.concatenate([*(W.ravel() for W in self.model.coefs_), *self.model.intercepts_])


class InOrder(np.random.RandomState):
    """A random state that always shuffles into `order`, so that scikit-learn sees the task's batches."""

    def __init__(self, order):
        super().__init__(0)
        self.order = order

    def shuffle(self, x):
        x[:] = np.asarray(x)[self.order]


class Estimator:
    """An MLPClassifier with default parameters on a backend: `partial_fit`, called once per epoch.

    Args:
        kind: scikit-learn's class or xpnet's.
    """

    n_epochs = math.inf

    def __init__(self, kind, pictures, seed, backend):
        self.backend = backend
        # With an int, scikit-learn would shuffle in the same way in each call.
        self.model = kind(random_state=np.random.RandomState(seed))
        self.X, self.y = backend.asarray(pictures.X), backend.asarray(pictures.y)
        self.classes = backend.asarray(np.arange(10))

    def epoch(self):
        self.model.partial_fit(self.X, self.y, classes=self.classes)
        self.backend.synchronize()

    def classify(self, X):
        return self.backend.to_numpy(self.model.predict(self.backend.asarray(X)))


def with_defaults(pictures, seed, options, device):
    """Return scikit-learn's MLPClassifier with default parameters. Ignores `options` and `device`."""
    from sklearn.neural_network import MLPClassifier

    return Estimator(MLPClassifier, pictures, seed, resolve("cpu", "numpy"))


def load(kind, coefs, intercepts):
    """Return `predict_proba` of an MLPClassifier of this kind with these parameters."""
    n_classes = len(intercepts[-1])
    X = np.zeros((n_classes, len(coefs[0])), dtype=np.float32)
    model = kind([W.shape[1] for W in coefs[:-1]], max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, np.arange(n_classes))
    model.coefs_, model.intercepts_ = list(coefs), list(intercepts)
    return model.predict_proba


def predict_proba(coefs, intercepts):
    """Return scikit-learn's `predict_proba` with these parameters."""
    from sklearn.neural_network import MLPClassifier

    return load(MLPClassifier, coefs, intercepts)
