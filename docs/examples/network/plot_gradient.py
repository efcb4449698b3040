"""
========================
Check a gradient by hand
========================

xpnet does without automatic differentiation. Each backward function stands under its forward function. This
example does one forward and one backward pass of a small network step by step, and compares the gradient
with differences of the loss.
"""

import matplotlib.pyplot as plt
import numpy as np

from xpnet import MLP, losses, ops

rng = np.random.default_rng(0)
X = rng.standard_normal((5, 3))  # 5 rows, 3 inputs
Y = np.eye(2)[[0, 1, 0, 0, 1]]  # one-hot targets of 2 classes
W1, b1 = rng.standard_normal((3, 4)), np.zeros(4)
W2, b2 = rng.standard_normal((4, 2)), np.zeros(2)

# %%
# **Forwards.** z = h W + b, then the activation; the loss takes the last z and returns its gradient as
# well. ``xp`` is the array library: with ``array_api_compat.torch`` the same lines take tensors.

xp = np
h1 = ops.tanh(ops.affine(X, W1, b1, xp=xp), xp=xp)
z2 = ops.affine(h1, W2, b2, xp=xp)
loss, dz2 = losses.softmax_cross_entropy(z2, Y, 1 / len(X), xp=xp)
print(f"loss {loss:.6f}")

# %%
# **Backwards.** The gradient with respect to the last z is prediction - target, divided by the number of
# rows. From there each step is one of the equations in :doc:`/mathematics`.

p = losses.softmax(z2, xp=xp)
assert np.allclose(dz2, (p - Y) / len(X))

dW2, db2, dh1 = ops.affine_backward(h1, W2, dz2, xp=xp, need_dh=True)
dz1 = ops.tanh_backward(h1, dh1, xp=xp)
dW1, db1, _ = ops.affine_backward(X, W1, dz1, xp=xp, need_dh=False)

# %%
# `MLP.loss_and_grad <xpnet.MLP.loss_and_grad>` does the same for any number of layers, with all parameters
# in one vector θ: first the weights, then the biases.

mlp = MLP((3, 4, 2), "tanh")
theta = mlp.layout.join([W1, W2], [b1, b2], xp=xp)
by_hand = mlp.layout.join([dW1, dW2], [db1, db2], xp=xp)
_, g = mlp.loss_and_grad(theta, X, Y, xp=xp)
print(f"largest difference by hand / MLP: {abs(by_hand - g).max():.1e}")

# %%
# **The check.** Along a direction v, the slope of the loss is g·v. The difference quotient (L(θ + hv) - L(θ
# - hv)) / 2h should be the same. Its error first falls as h², and rises again when h is so small that
# rounding prevails.

v = rng.standard_normal(theta.shape)
v /= np.linalg.norm(v)


def slope(h):
    above, below = (mlp.loss_and_grad(theta + s * v, X, Y, xp=xp)[0] for s in (h, -h))
    return (above - below) / (2 * h)


steps = np.logspace(-1, -12, 45)
errors = [abs(slope(h) - g @ v) / abs(g @ v) for h in steps]

fig, ax = plt.subplots()
ax.loglog(steps, errors, "o-", ms=3, label="difference quotient against g·v")
ax.loglog(steps[:22], errors[0] * (steps[:22] / steps[0]) ** 2, "--", color="0.5", label="h²")
ax.set(xlabel="step h", ylabel="relative error")
ax.legend()
plt.show()
