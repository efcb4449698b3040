"""The baselines: a training step written by hand in NumPy, and its matrix products alone.

Both write into preallocated arrays only. What is not obvious was measured (float32, NumPy 2.4). Sums over
rows are products with ones. The softmax runs over the transposed scores, because NumPy reduces along a short
last axis at a quarter of the speed. Constants are 0-d arrays, which saves converting a Python float in each
call. Adam works on one piece of memory at a time, which stays in the cache.
"""

import math
from importlib import import_module
from itertools import pairwise

import numpy as np

from benchmarks.contestants.task import BETAS, EPSILON, split
from xpnet import resolve
from xpnet.errors import BackendError

# Elements per piece in Adam: five vectors of this length fit well into a second-level cache of 1 MB.
PIECE = 32_768
# The first moment of a weight without gradient (a pixel that is always dark, a unit that is never active) is
# multiplied by 0.9 in each step. After some 700 steps it is below 1e-38, where a product takes a hundred
# times as long: Adam then took 160 instead of 90 µs on MNIST with 784-50-20-10. Every FLUSH_EVERY steps, what
# is below 1e-27 is therefore rounded to 0.
FLUSH_EVERY, FLUSH = 200, 1e-20


class HandWritten:
    """NumPy written by hand: ReLU layers, softmax cross-entropy and Adam on a task."""

    def __init__(self, task):
        def new(*shape, dtype=np.float32):
            return np.empty(shape, dtype)

        def constant(x):
            return np.array(x, np.float32)

        sizes, n = task.sizes, task.batch
        self.parameters = task.theta.copy()
        self.g, self.m, self.v = (np.zeros_like(self.parameters) for _ in range(3))
        weights, biases = split(self.parameters, sizes)
        weight_grads, bias_grads = split(self.g, sizes)
        hidden = sizes[1:-1]
        h = [new(n, units) for units in hidden]
        dz = [*(new(n, units) for units in hidden), new(n, sizes[-1])]
        masks = [(new(n, units, dtype=bool), new(n, units)) for units in hidden]
        self.X = task.X
        self.Y = task.Y * np.float32(1 / n)  # scaled once, so that no step scales the gradient
        self.x, self.y = new(n, sizes[0]), new(n, sizes[-1])
        self.z, self.scores = new(n, sizes[-1]), new(sizes[-1], n)
        self.rows, self.dz = new(n), dz[-1]
        inputs = [self.x, *h]
        self.n, self.total, self.t = n, 0.0, 0
        self.ones, self.class_ones = np.ones(n, np.float32), np.ones(sizes[-1], np.float32)
        self.zero, self.share = constant(0.0), constant(1 / n)
        self.forward = list(zip(inputs[:-1], weights[:-1], biases[:-1], h, strict=True))
        self.last = inputs[-1], weights[-1], biases[-1]
        # For each layer, last to first: h.T, dz, dW, db, and for all but the first W.T, h, dh and the masks.
        layers = zip(inputs, weights, dz, weight_grads, bias_grads, strict=True)
        plan = [(h.T, d, dW, db, W.T, h) for h, W, d, dW, db in layers]
        self.backward = [(*plan[i], dz[i - 1], *masks[i - 1]) for i in range(len(plan) - 1, 0, -1)]
        self.first = plan[0][:4]
        self.lr, self.decays, self.batches = task.lr, tuple(map(constant, BETAS)), task.batches()
        self.flush = constant(FLUSH)
        self.alpha, self.root = constant(0.0), constant(0.0)
        size = self.parameters.size
        vectors, step = (self.g, self.m, self.v, self.parameters), np.empty(min(PIECE, size), np.float32)
        self.pieces = [
            (*(vector[at : at + PIECE] for vector in vectors), step[: size - at])
            for at in range(0, size, PIECE)
        ]

    def epoch(self):
        self.total = 0.0
        for rows in self.batches:
            self.step(rows)
        return self.total / len(self.batches)

    def theta(self):
        return self.parameters.copy()

    def step(self, rows):
        """Train on a batch, given by its row numbers; add its mean loss to `total`."""
        self.loss_and_grad(rows)
        self.adam()

    def loss_and_grad(self, rows):
        dot, ones = np.dot, self.ones
        # Without mode="clip" NumPy checks the row numbers in a copy of the result.
        self.X.take(rows, 0, self.x, "clip")
        self.Y.take(rows, 0, self.y, "clip")
        for h, W, b, z in self.forward:
            dot(h, W, out=z)
            np.add(z, b, out=z)
            np.maximum(z, self.zero, out=z)
        self.softmax()
        for h_T, dz, dW, db, W_T, h, dh, mask, slope in self.backward:
            dot(h_T, dz, out=dW)
            dot(ones, dz, out=db)
            dot(dz, W_T, out=dh)
            np.greater(h, self.zero, out=mask)
            np.copyto(slope, mask)  # faster than a product of floats and booleans
            np.multiply(dh, slope, out=dh)
        h_T, dz, dW, db = self.first
        dot(h_T, dz, out=dW)
        dot(ones, dz, out=db)

    def softmax(self):
        """Compute the last layer, its loss, and dz = (p - Y) / n."""
        h, W, b = self.last
        z, p, rows = self.z, self.scores, self.rows
        np.dot(h, W, out=z)
        np.add(z, b, out=z)
        np.copyto(p, z.T)
        np.maximum.reduce(p, axis=0, out=rows)
        loss = float(np.dot(self.ones, rows)) / self.n - float(np.dot(z.ravel(), self.y.ravel()))
        np.subtract(p, rows, out=p)
        np.exp(p, out=p)
        np.dot(self.class_ones, p, out=rows)
        # log Σ e^z of all rows at once: n times the mean of the logarithms.
        np.divide(self.share, rows, out=rows)
        np.multiply(p, rows, out=p)
        np.subtract(p.T, self.y, out=self.dz)
        np.log(rows, out=rows)
        self.total += loss + math.log(1 / self.n) - float(np.dot(self.ones, rows)) / self.n

    def adam(self):
        """θ ← θ - α m / (√v + ε), where α and ε contain all factors but β₁ and β₂."""
        self.t += 1
        beta_1, beta_2 = BETAS
        root = math.sqrt((1 - beta_2**self.t) / (1 - beta_2))
        self.alpha[()] = self.lr * root * (1 - beta_1) / (1 - beta_1**self.t)
        self.root[()] = EPSILON * root
        decay_m, decay_v = self.decays
        multiply, add, alpha, epsilon = np.multiply, np.add, self.alpha, self.root
        if self.t % FLUSH_EVERY == 0:
            add(self.m, self.flush, out=self.m)
            np.subtract(self.m, self.flush, out=self.m)
        for g, m, v, theta, step in self.pieces:
            multiply(m, decay_m, out=m)
            add(m, g, out=m)
            multiply(g, g, out=g)
            multiply(v, decay_v, out=v)
            add(v, g, out=v)
            np.sqrt(v, out=step)
            add(step, epsilon, out=step)
            np.divide(m, step, out=step)
            multiply(step, alpha, out=step)
            np.subtract(theta, step, out=theta)


class Products:
    """The matrix products of a training step and nothing else, a lower bound of its time. It trains nothing.

    Args:
        matmul: a product that takes `out=`.
        new: (rows, columns) -> an array to multiply.
        steps: per epoch.
        synchronize: waits for the device.
    """

    def __init__(self, sizes, n, matmul, new, *, steps=1, synchronize=lambda: None):
        self.matmul, self.steps, self.synchronize = matmul, steps, synchronize
        h = [new(n, units) for units in sizes]
        dz = [new(n, units) for units in sizes]
        weights = [new(*shape) for shape in pairwise(sizes)]
        grads = [new(*shape) for shape in pairwise(sizes)]
        self.products = [(h[i], W, h[i + 1]) for i, W in enumerate(weights)]
        for i in range(len(weights) - 1, -1, -1):
            self.products.append((h[i].T, dz[i + 1], grads[i]))
            if i:
                self.products.append((dz[i + 1], weights[i].T, dz[i]))

    def step(self):
        matmul = self.matmul
        for a, b, out in self.products:
            matmul(a, b, out=out)

    def epoch(self):
        for _ in range(self.steps):
            self.step()
        self.synchronize()
        return math.nan

    def theta(self):
        return None


def products_of(task):
    """Return the products of a task, by NumPy on the CPU and by xpnet's default library on a GPU.

    Raises:
        BackendError: that library has no product with `out=`.
    """
    rng = np.random.default_rng(0)
    on_gpu = task.device.startswith("cuda")
    backend = resolve(task.device) if on_gpu else resolve("cpu", "numpy")
    if backend.name not in ("numpy", "cupy", "torch"):
        raise BackendError(f"{backend.name} has no matrix product that writes into a given array")
    return Products(
        task.sizes,
        task.batch,
        import_module(backend.name).matmul,
        lambda *shape: backend.asarray(rng.random(shape, dtype=np.float32)),
        steps=task.steps,
        synchronize=backend.synchronize,
    )
