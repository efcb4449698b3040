"""The yardsticks: a training step as one would write it by hand in NumPy, and its matrix products alone.

Both write into arrays made beforehand, everywhere. What is not obvious was measured (float32, NumPy 2.4):
sums over rows are products with ones, the softmax runs over the transposed scores, because NumPy reduces
along a short last axis at a quarter of the speed, constants are 0-d arrays, which saves converting a Python
float at each call, and Adam goes through memory in pieces that stay in the cache.
"""

import math
from itertools import pairwise

import numpy as np

# Elements that Adam works on at once: five vectors of them are well inside a second-level cache of 1 MB.
PIECE = 32_768
# The first moment of a weight that gets no gradient (its pixel stays dark, its unit silent) shrinks by 0.9 a
# step. After some 700 steps it is below 1e-38, where a product takes a hundred times as long: Adam then took
# 160 instead of 90 µs on MNIST with 784-50-20-10. Every so often what is below 1e-27 is rounded to 0.
FLUSH_EVERY, FLUSH = 200, 1e-20


def split(theta, sizes):
    """Return the weights and the biases as views of theta, which holds all weights first, as xpnet has it."""
    weights, biases, at = [], [], 0
    for fan_in, fan_out in pairwise(sizes):
        weights.append(theta[at : at + fan_in * fan_out].reshape(fan_in, fan_out))
        at += fan_in * fan_out
    for fan_out in sizes[1:]:
        biases.append(theta[at : at + fan_out])
        at += fan_out
    return weights, biases


class HandWritten:
    """ReLU layers, softmax cross-entropy and Adam for batches of n rows.

    Args:
        sizes: (inputs, hidden ..., outputs).
        theta: the initial parameters. Copied.
        X, Y: all rows (float32), of which `step` takes a batch; Y is one-hot.
    """

    def __init__(self, sizes, theta, X, Y, n, lr=1e-3, beta_1=0.9, beta_2=0.999, epsilon=1e-8):
        def new(*shape, dtype=np.float32):
            return np.empty(shape, dtype)

        def constant(x):
            return np.array(x, np.float32)

        self.theta = theta.astype(np.float32)
        self.g, self.m, self.v = (np.zeros_like(self.theta) for _ in range(3))
        weights, biases = split(self.theta, sizes)
        weight_grads, bias_grads = split(self.g, sizes)
        hidden = sizes[1:-1]
        h = [new(n, units) for units in hidden]
        dz = [*(new(n, units) for units in hidden), new(n, sizes[-1])]
        masks = [(new(n, units, dtype=bool), new(n, units)) for units in hidden]
        self.X, self.Y = X, Y * np.float32(1 / n)  # scaled once, so that no step scales the gradient
        self.x, self.y = new(n, sizes[0]), new(n, sizes[-1])
        self.z, self.scores = new(n, sizes[-1]), new(sizes[-1], n)
        self.rows, self.dz = new(n), dz[-1]
        inputs = [self.x, *h]
        self.n, self.total, self.t = n, 0.0, 0
        self.ones, self.class_ones = np.ones(n, np.float32), np.ones(sizes[-1], np.float32)
        self.zero, self.share = constant(0.0), constant(1 / n)
        self.forward = list(zip(inputs[:-1], weights[:-1], biases[:-1], h, strict=True))
        self.last = inputs[-1], weights[-1], biases[-1]
        # For each layer, last first: h.T, dz, dW, db, and for all but the first W.T, h, dh and the masks.
        layers = zip(inputs, weights, dz, weight_grads, bias_grads, strict=True)
        plan = [(h.T, d, dW, db, W.T, h) for h, W, d, dW, db in layers]
        self.backward = [(*plan[i], dz[i - 1], *masks[i - 1]) for i in range(len(plan) - 1, 0, -1)]
        self.first = plan[0][:4]
        self.lr, self.betas, self.epsilon = lr, (beta_1, beta_2), epsilon
        self.decays = constant(beta_1), constant(beta_2)
        self.flush = constant(FLUSH)
        self.alpha, self.root = constant(0.0), constant(0.0)
        vectors = self.g, self.m, self.v, self.theta, np.empty(min(PIECE, self.theta.size), np.float32)
        self.pieces = [
            (*(vector[at : at + PIECE] for vector in vectors[:-1]), vectors[-1][: self.theta.size - at])
            for at in range(0, self.theta.size, PIECE)
        ]

    def step(self, rows):
        """Train on the rows of these numbers; add their mean loss to `total`."""
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
            np.copyto(slope, mask)  # a product of floats and bools converts piece by piece, which is slower
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
        """θ ← θ - α m / (√v + ε), with all factors but β₁ and β₂ folded into α and ε."""
        self.t += 1
        beta_1, beta_2 = self.betas
        root = math.sqrt((1 - beta_2**self.t) / (1 - beta_2))
        self.alpha[()] = self.lr * root * (1 - beta_1) / (1 - beta_1**self.t)
        self.root[()] = self.epsilon * root
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


class Floor:
    """The matrix products of a step, and nothing else: what no way of writing the rest can be faster than.

    Args:
        matmul: of NumPy, CuPy or PyTorch: a product that takes `out=`.
        new: (rows, columns) -> an array to multiply.
    """

    def __init__(self, sizes, n, matmul, new):
        self.matmul = matmul
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
