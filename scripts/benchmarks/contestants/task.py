"""The training task that every contestant of `step` and `scaling` is given."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from xpnet import MLP
from xpnet.data.batches import one_hot
from xpnet.errors import InputError

BETAS, EPSILON = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class Task:
    """A network (ReLU, softmax cross-entropy, Adam), its data and its batches.

    Attributes:
        sizes: (inputs, hidden ..., outputs).
        batch: rows per step.
        X, y: all rows (float32) and their class indices.
        order: the row numbers of an epoch. The steps take them `batch` at a time.
        device: `cpu`, `cuda` or `cuda:<index>`.
        lr: the learning rate of Adam.
    """

    sizes: tuple[int, ...]
    batch: int
    X: np.ndarray
    y: np.ndarray
    order: np.ndarray
    device: str = "cpu"
    lr: float = 1e-3

    @cached_property
    def theta(self):
        """The initial parameters."""
        return MLP(self.sizes).init(0).astype(np.float32)

    @cached_property
    def Y(self):
        """The labels, one-hot."""
        return one_hot(self.y, self.sizes[-1]).astype(np.float32)

    @property
    def steps(self):
        """Steps per epoch; rows that do not fill a batch are left out."""
        return len(self.order) // self.batch

    def batches(self):
        return [self.order[i * self.batch : (i + 1) * self.batch] for i in range(self.steps)]


def make_task(sizes, batch, steps, X, y, device="cpu"):
    """Return a task with `steps` steps per epoch, which visit each of its rows once in a random order.

    Raises:
        InputError: X has too few rows.
    """
    rows = batch * steps
    if rows > len(X):
        raise InputError(f"{steps} steps of {batch} rows need {rows:,} rows, got {len(X):,}")
    order = np.random.default_rng(0).permutation(rows)
    return Task(tuple(sizes), batch, X[:rows], y[:rows], order, device)


def split(theta, sizes):
    """Return the weight matrices and the biases as views of theta, which holds all weights first."""
    weights, biases, at = [], [], 0
    for fan_in, fan_out in pairwise(sizes):
        weights.append(theta[at : at + fan_in * fan_out].reshape(fan_in, fan_out))
        at += fan_in * fan_out
    for fan_out in sizes[1:]:
        biases.append(theta[at : at + fan_out])
        at += fan_out
    return weights, biases
