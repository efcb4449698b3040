"""JAX: value_and_grad over a list of (W, b), Adam by tree.map, the whole step jitted with donated state."""

import numpy as np

from benchmarks.contestants.task import BETAS, EPSILON, split


class Jax:
    """JAX on a task."""

    def __init__(self, task):
        import jax
        import jax.numpy as jnp

        self.device = device = jax.devices("gpu" if task.device.startswith("cuda") else "cpu")[0]
        weights, biases = split(task.theta, task.sizes)
        # Copied, because JAX may share NumPy's memory, and the step donates its own.
        parameters = jax.device_put(
            [(W.copy(), b.copy()) for W, b in zip(weights, biases, strict=True)], device
        )
        zeros = [jax.tree.map(jnp.zeros_like, parameters) for _ in range(2)]
        self.zero = jax.device_put(np.zeros((), np.float32), device)
        self.state = parameters, *zeros, self.zero.copy()
        self.data = jax.device_put((task.X, task.y), device)
        self.batches = [jax.device_put(rows, device) for rows in task.batches()]
        self.step = jax.jit(self.step_of(jax, jnp, task.lr), donate_argnums=(0, 1))

    @staticmethod
    def step_of(jax, jnp, lr):
        (beta_1, beta_2), tree_map = BETAS, jax.tree.map

        def loss_of(parameters, X, y):
            h = X
            for W, b in parameters[:-1]:
                h = jax.nn.relu(h @ W + b)
            W, b = parameters[-1]
            log_p = jax.nn.log_softmax(h @ W + b)
            return -jnp.take_along_axis(log_p, y[:, None], axis=1).mean()

        def step(state, total, data, rows):
            parameters, m, v, t = state
            X, y = data
            loss, g = jax.value_and_grad(loss_of)(parameters, X[rows], y[rows])
            t = t + 1
            m = tree_map(lambda m, g: beta_1 * m + (1 - beta_1) * g, m, g)
            v = tree_map(lambda v, g: beta_2 * v + (1 - beta_2) * g * g, v, g)
            m_scale, v_scale = 1 / (1 - beta_1**t), 1 / (1 - beta_2**t)
            parameters = tree_map(
                lambda p, m, v: p - lr * m * m_scale / (jnp.sqrt(v * v_scale) + EPSILON), parameters, m, v
            )
            return (parameters, m, v, t), total + loss

        return step

    def epoch(self):
        total = self.zero.copy()
        for rows in self.batches:
            self.state, total = self.step(self.state, total, self.data, rows)
        return float(total) / len(self.batches)

    def theta(self):
        parameters = self.state[0]
        weights = [np.asarray(W).ravel() for W, _ in parameters]
        return np.concatenate([*weights, *(np.asarray(b) for _, b in parameters)])
